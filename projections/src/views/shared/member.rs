//! A session in a group.

use std::collections::BTreeMap;

use ledgermq_core::event::Subscription;
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::QoS;

use crate::bytes::{Cut, Reader, put_u32, put_u64};

/// What a member's Shared Subscription grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifier: Option<u32>,
}

/// A member, or a session that only holds what it got as one.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// None once it gave its subscription up.
    pub(super) grant: Option<Grant>,
    pub(super) is_online: bool,
    /// What it got and has not settled. At most [`super::SHARED_WINDOW`].
    pub(super) held: BTreeMap<Offset, Held>,
}

/// A message that a member got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The lower of the message's and the granted QoS when it was given.
    pub(crate) qos: QoS,
    /// Its identifier is logged: it is bound to the session. `[MQTT-4.8.2-4]` `[MQTT-4.8.2-5]`
    pub(crate) is_started: bool,
}

impl From<&Subscription> for Grant {
    fn from(subscription: &Subscription) -> Self {
        Self {
            qos: subscription.options.qos,
            retain_as_published: subscription.options.retain_as_published,
            identifier: subscription.identifier,
        }
    }
}

impl Member {
    /// Whether the group still has to know of it.
    pub(super) fn is_known(&self) -> bool {
        self.grant.is_some() || !self.held.is_empty()
    }

    /// The row of what it holds; none if that is nothing.
    pub(super) fn row(&self) -> Option<Vec<u8>> {
        if self.held.is_empty() {
            return None;
        }
        let mut row = Vec::with_capacity(self.held.len() * 13);
        for (at, held) in &self.held {
            put_u64(&mut row, at.index);
            put_u32(&mut row, at.ordinal);
            row.push(held.qos as u8 | u8::from(held.is_started) << 2);
        }
        Some(row)
    }

    pub(super) fn load(row: &[u8]) -> Result<BTreeMap<Offset, Held>, Cut> {
        let mut from = Reader(row);
        let mut held = BTreeMap::new();
        while !from.0.is_empty() {
            let at = Offset::new(from.u64()?, from.u32()?);
            let flags = from.u8()?;
            let qos = QoS::from_bits(flags & 0b11).ok_or(Cut)?;
            held.insert(at, Held { qos, is_started: flags & 0b100 != 0 });
        }
        Ok(held)
    }
}
