//! Messages on their way to the clients: at once if there is room, by reference otherwise.
//!
//! The order is that of the log for each client and QoS, which is more than the specification asks
//! for (section 4.6: each topic and QoS). A QoS 2 message to a persistent session is overtaken by
//! others while its identifier is being logged.

use std::sync::Arc;

use ledgermq_core::connection::{Delivery, Handed, Outputs as _};
use ledgermq_core::event::batch::Record;
use ledgermq_core::event::{DeliveryRef, DropReason, Event, MessagePublished};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_log::CommittedBatch;

use crate::shard::backlog::{Pending, Source};
use crate::shard::matching::{Match, Matches};
use crate::shard::table::Token;
use crate::shard::{Shard, stats};

impl Shard {
    /// Gives a committed message to all connections that it is for.
    pub(super) fn route(
        &mut self,
        now: Timestamp,
        batch: &Arc<CommittedBatch>,
        record: &Record<'_>,
        message: &MessagePublished<'_>,
        publisher: Option<Token>,
        matches: &Matches,
    ) {
        self.stats.dropped_not_authorized += u64::from(matches.forbidden);
        for found in &*matches.found {
            self.offer(now, batch, record, message, publisher, found);
        }
    }

    fn offer(
        &mut self,
        now: Timestamp,
        batch: &Arc<CommittedBatch>,
        record: &Record<'_>,
        message: &MessagePublished<'_>,
        publisher: Option<Token>,
        found: &Match,
    ) {
        let Some(grant) = found.grant(publisher) else { return };
        let Some(client) = self.table.get_mut(found.token) else { return };
        let qos = message.qos.min(grant.qos);
        let retain = message.retain && grant.retain_as_published;
        let reference = DeliveryRef::from(Offset::new(batch.index, record.ordinal));
        let pending = || {
            let source = Source::Pinned(Arc::clone(batch), record.place());
            let mut pending = Pending::new(reference, qos, retain, source);
            pending.payload_bytes = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
            pending
        };
        let is_ready = client.backlog.as_ref().is_none_or(|backlog| backlog.is_live())
            && client.link.unwritten().len() < self.limits.output_bytes_max
            && (qos == QoS::AtMostOnce || client.machine.has_room());
        if !is_ready {
            return self.queue(found.token, pending());
        }
        let interval = message.message_expiry_interval;
        let Some(expiry) = remaining(interval, batch.time, self.log_time) else {
            return self.give_up(now, found.token, reference, qos, DropReason::Expired);
        };
        let delivery = Delivery {
            message: reference,
            qos,
            retain,
            topic: message.topic,
            message_expiry_interval: expiry,
            identifiers: &grant.identifiers,
            properties: message.properties,
            payload: message.payload,
        };
        self.hand(now, found.token, &delivery, pending);
    }

    /// Puts a message into the backlog of a connection that cannot take it now.
    fn queue(&mut self, token: Token, pending: Pending) {
        let Some(client) = self.table.get_mut(token) else { return };
        let is_persistent = client.machine.is_persistent();
        let delivered = client.machine.delivered_upto();
        let backlog = client.backlog.get_or_insert_default();
        let is_owed = is_persistent && pending.qos > QoS::AtMostOnce;
        // What is owed comes from the view, in its order.
        if backlog.behind.is_some() {
            self.stats.dropped_catching_up += u64::from(!is_owed);
            client.link.counts.get_or_insert_default().messages_dropped += u64::from(!is_owed);
            return;
        }
        if !backlog.is_full(is_persistent, &self.limits) {
            return backlog.push(pending, &self.limits);
        }
        if is_owed {
            backlog.behind = Some(backlog.last().unwrap_or_default().max(delivered));
        } else {
            self.stats.dropped_queue_full += 1;
            client.link.counts.get_or_insert_default().messages_dropped += 1;
        }
    }

    /// Hands a message to the machine of a connection that has room for it.
    pub(super) fn hand(
        &mut self,
        now: Timestamp,
        token: Token,
        delivery: &Delivery<'_>,
        pending: impl FnOnce() -> Pending,
    ) {
        let mut handed = Handed::Sent;
        self.turn(now, token, |machine, sink, _| handed = machine.deliver(delivery, sink));
        match handed {
            Handed::Sent => self.stats.sent[stats::by(delivery.qos)] += 1,
            Handed::Starting(packet_id) => {
                let Some(client) = self.table.get_mut(token) else { return };
                let backlog = client.backlog.get_or_insert_default();
                backlog.start(packet_id, pending(), &self.limits);
            }
            Handed::TooLarge => {
                self.give_up(now, token, delivery.message, delivery.qos, DropReason::TooLarge);
            }
        }
    }

    /// Gives a delivery up, aloud: it is counted, and logged if the session outlives this
    /// connection, or a group owes it. What one member of a group may not have others get: that is
    /// logged, and counts for nothing.
    pub(super) fn give_up(
        &mut self,
        now: Timestamp,
        token: Token,
        message: DeliveryRef,
        qos: QoS,
        reason: DropReason,
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        let is_given_back = reason == DropReason::NotAuthorized
            && message.group().is_some()
            && qos > QoS::AtMostOnce
            && !client.machine.is_begun(message);
        if !is_given_back {
            client.link.counts.get_or_insert_default().messages_dropped += 1;
            match reason {
                DropReason::QueueFull => self.stats.dropped_queue_full += 1,
                DropReason::Expired => self.stats.dropped_expired += 1,
                DropReason::TooLarge => self.stats.dropped_too_large += 1,
                DropReason::Purged => self.stats.dropped_purged += 1,
                DropReason::NotAuthorized => self.stats.dropped_not_authorized += 1,
            }
        }
        if qos == QoS::AtMostOnce {
            return;
        }
        self.turn(now, token, |machine, sink, _| {
            if machine.is_persistent() || message.group().is_some() {
                sink.append(Event::MessageDropped { from: message, upto: message, reason });
            }
            machine.skip(message, qos, sink);
        });
    }
}

/// What is left of a Message Expiry Interval; nothing at all if it has passed.
/// `[MQTT-3.3.2-5]` `[MQTT-3.3.2-6]`
pub(super) fn remaining(
    interval: Option<u32>,
    published: Timestamp,
    log_time: Timestamp,
) -> Option<Option<u32>> {
    let Some(interval) = interval else { return Some(None) };
    let waited = u32::try_from(log_time.since(published).as_secs()).unwrap_or(u32::MAX);
    (waited < interval).then(|| Some(interval - waited))
}
