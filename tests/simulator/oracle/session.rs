//! Sessions as the oracle sees them.

use std::collections::BTreeMap;

use ledgermq_core::event::{DeliveryRef, Subscription};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;

use crate::book::Uid;

/// A start of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) node: u64,
    pub(crate) start: u64,
}

/// The present state of one client's session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Place in [`crate::oracle::Oracle::lives`].
    pub(crate) life: usize,
    pub(crate) epoch: Offset,
    pub(crate) username: Option<String>,
    pub(crate) interval: u32,
    /// The process that holds the connection; none if offline.
    pub(crate) online: Option<Process>,
    pub(crate) offline_since: Timestamp,
    pub(crate) subscriptions: BTreeMap<String, Subscription>,
    pub(crate) will: Option<super::wills::Armed>,
}

impl Session {
    pub(crate) fn is_persistent(&self) -> bool {
        self.interval > 0
    }

    /// Whether a new connection at `now` finds it.
    pub(crate) fn can_resume(&self, now: Timestamp) -> bool {
        let is_expired =
            self.online.is_none() && self.interval != u32::MAX && self.expires() <= now;
        self.is_persistent() && !is_expired
    }

    pub(crate) fn expires(&self) -> Timestamp {
        Timestamp(self.offline_since.0 + u64::from(self.interval) * 1_000_000)
    }
}

/// One session from its making to its end, with all that it was ever owed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    pub(crate) client: String,
    pub(crate) is_over: bool,
    /// It was without persistence at some time: what waited then is not promised to survive.
    pub(crate) was_transient: bool,
    pub(crate) owed: Vec<OwedEntry>,
    /// Number of owed deliveries by message and QoS.
    pub(crate) counts: BTreeMap<Uid, [u32; 3]>,
    /// Where each message was first owed, by QoS; answers to subscriptions not counted.
    pub(crate) first: BTreeMap<(Uid, QoS), DeliveryRef>,
}

/// One message owed once.
#[derive(Clone, Debug)]
pub(crate) struct OwedEntry {
    pub(crate) message: DeliveryRef,
    pub(crate) uid: Uid,
    pub(crate) qos: QoS,
    /// RETAIN as it is to be sent.
    pub(crate) retain: bool,
    pub(crate) expires: Option<Timestamp>,
    /// It expires so soon that it may be too late whenever it comes.
    pub(crate) is_brief: bool,
    /// It was given up, aloud.
    pub(crate) is_dropped: bool,
}

impl OwedEntry {
    /// An entry that became owed at `now`.
    pub(crate) fn new(
        message: DeliveryRef,
        uid: Uid,
        qos: QoS,
        retain: bool,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let is_brief = expires.is_some_and(|at| at.since(now).as_secs() < 60);
        Self { message, uid, qos, retain, expires, is_brief, is_dropped: false }
    }
}
