//! What happened how often.

use ledgermq_core::event::DropReason;
use serde::{Deserialize, Serialize};

/// Counts of events since the log began. Void events do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages published, by QoS.
    pub messages: [u64; 3],
    /// Bytes of their topics, properties and payloads.
    pub message_bytes: u64,
    /// Of the messages, those with the RETAIN flag.
    pub retained: u64,
    /// Of the messages, those that were wills.
    pub wills: u64,
    /// Sessions opened, resumed ones included.
    pub sessions_opened: u64,
    /// Of these, those that resumed a session.
    pub sessions_resumed: u64,
    /// Of these, those that took over a connected session.
    pub sessions_taken_over: u64,
    /// Sessions closed by the client's DISCONNECT.
    pub sessions_closed: u64,
    /// Sessions closed in any other way.
    pub sessions_lost: u64,
    /// Sessions whose Session Expiry Interval passed.
    pub sessions_expired: u64,
    /// Subscriptions made or replaced.
    pub subscribed: u64,
    /// Subscriptions given up.
    pub unsubscribed: u64,
    /// References that sessions and groups were owed and that were given up, by reason, in the order of
    /// [`DropReason`].
    pub dropped: [u64; 5],
    /// Groups of Shared Subscriptions that began.
    pub shared_groups: u64,
    /// Messages of groups at QoS 0 for which no member was connected.
    pub shared_unheard: u64,
    /// QoS 2 messages of groups that ended with the session to which they were bound.
    pub shared_lost: u64,
    /// Wills that were not published since the rules no longer allowed it.
    pub wills_forbidden: u64,
    /// Times that the access rules were replaced.
    pub rules_replaced: u64,
    /// Starts of nodes.
    pub node_starts: u64,
}

impl Counters {
    /// Counts dropped references.
    pub(crate) fn drop_messages(&mut self, reason: DropReason, count: u32) {
        let at = match reason {
            DropReason::QueueFull => 0,
            DropReason::Expired => 1,
            DropReason::TooLarge => 2,
            DropReason::Purged => 3,
            DropReason::NotAuthorized => 4,
        };
        self.dropped[at] += u64::from(count);
    }
}
