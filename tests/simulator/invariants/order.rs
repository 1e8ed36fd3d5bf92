//! First deliveries come in the order of their publisher, for each topic and QoS.
//!
//! Two halves: the log has the messages of a publisher in its order, and a session gets them in
//! the order of the log. (A session that subscribed between two messages may get the earlier one
//! later, if its publisher sends it again: it was first owed then.)

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::packet::QoS;
use std::collections::{BTreeMap, BTreeSet};

use crate::book::Uid;
use crate::invariants::{Facts, Invariant, life_of};
use crate::seen::Seen;

/// A stream within which order is promised.
type Stream = (usize, usize, &'static str, QoS, QoS);

#[derive(Default)]
pub(crate) struct Order {
    streams: BTreeMap<Stream, (BTreeSet<Uid>, DeliveryRef)>,
}

impl Invariant for Order {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        let Seen::Received(receipt) = seen else { return Ok(()) };
        if receipt.uid == 0 {
            return Ok(());
        }
        let message = facts.book.get(receipt.uid);
        if message.is_will || message.is_shared() {
            return Ok(());
        }
        let life = life_of(receipt.conn, facts)?;
        // Of a message that stands in the log more than once, the first copy may be missing: it
        // expired, or too much waited, or it was not allowed for a while.
        let is_single = facts.oracle.published.get(&receipt.uid).is_some_and(|count| *count == 1);
        let may_be_missing = facts.oracle.may_drop
            || message.may_expire
            || receipt.qos == QoS::AtMostOnce
            || facts.oracle.access.has_changed()
            || facts.oracle.lives[life].was_transient;
        if may_be_missing && !is_single {
            return Ok(());
        }
        let stream = (life, message.client, message.topic, message.qos, receipt.qos);
        let (taken, newest) = self.streams.entry(stream).or_default();
        // With RETAIN set it may be an answer to a subscription, which is older than its place.
        if receipt.retain {
            taken.insert(receipt.uid);
            return Ok(());
        }
        let first = facts.oracle.lives[life].first.get(&(receipt.uid, receipt.qos)).copied();
        let first = first.unwrap_or_default();
        if taken.insert(receipt.uid) && first < *newest {
            return Err(format!(
                "client {} took m{} (number {} of {stream:?}), owed at {first:?}, after {newest:?}",
                receipt.client, receipt.uid, message.seq
            ));
        }
        *newest = first.max(*newest);
        Ok(())
    }
}
