//! Messages on their way to the clients: at once if there is room, by reference otherwise.
//!
//! The order is that of the log for each client and QoS, which is more than the specification asks
//! for (section 4.6: each topic and QoS). A QoS 2 message to a persistent session is overtaken by
//! others while its identifier is being logged.

use std::sync::Arc;

use ledgermq_core::connection::{Delivery, Handed, Outputs as _};
use ledgermq_core::event::batch::Fence;
use ledgermq_core::event::{DeliveryRef, DropReason, Event, MessagePublished};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_log::CommittedBatch;

use crate::shard::backlog::{Pending, Pins, Source};
use crate::shard::matching::{Match, Matches};
use crate::shard::table::Token;
use crate::shard::{Shard, ShardLimits, stats};

/// Messages to one topic that follow each other in a batch, with nothing in between.
///
/// They are routed together, one connection after the other: so one that takes nothing now costs the
/// same for all of them as for one.
#[derive(Debug, Default)]
pub(super) struct Run<'a> {
    messages: Vec<Routed<'a>>,
    /// They differ in QoS or RETAIN.
    is_mixed: bool,
    /// One of them expires.
    has_expiry: bool,
}

/// A message of a [`Run`].
#[derive(Debug)]
pub(super) struct Routed<'a> {
    pub(super) place: Fence,
    pub(super) message: MessagePublished<'a>,
    pub(super) publisher: Option<Token>,
}

impl<'a> Run<'a> {
    /// Whether `topic` is that of the run, and the message at `place` would be its next.
    pub(super) fn takes(&self, place: Fence, topic: &str) -> bool {
        self.messages.last().is_some_and(|last| {
            last.place.ordinal + 1 == place.ordinal && last.message.topic == topic
        })
    }

    /// Adds a message that it [takes](Self::takes), or the first.
    pub(super) fn push(&mut self, routed: Routed<'a>) {
        if let Some(Routed { message: first, .. }) = self.messages.first() {
            let next = &routed.message;
            self.is_mixed |= (first.qos, first.retain) != (next.qos, next.retain);
        }
        self.has_expiry |= routed.message.message_expiry_interval.is_some();
        self.messages.push(routed);
    }

    /// Its messages.
    pub(super) fn messages(&self) -> impl ExactSizeIterator<Item = &MessagePublished<'a>> {
        self.messages.iter().map(|routed| &routed.message)
    }

    /// The first of its messages, if all of them have the same QoS and RETAIN, and none expires.
    pub(super) fn alike(&self) -> Option<&MessagePublished<'a>> {
        let first = self.messages.first().map(|routed| &routed.message);
        first.filter(|_| !self.is_mixed && !self.has_expiry)
    }

    fn clear(&mut self) {
        self.messages.clear();
        (self.is_mixed, self.has_expiry) = (false, false);
    }
}

impl Shard {
    /// Gives committed messages, which are as good as routed, to all connections that they are for.
    pub(super) fn route(
        &mut self,
        now: Timestamp,
        batch: &Arc<CommittedBatch>,
        run: &mut Run<'_>,
        matches: &Matches,
    ) {
        if run.messages.is_empty() {
            return;
        }
        let messages = run.messages.len() as u64;
        self.stats.dropped_not_authorized += u64::from(matches.forbidden) * messages;
        // What only one gets need not be encoded apart.
        let may_copy = matches.found.len() > 1;
        for found in &*matches.found {
            let copied = if may_copy { self.copy(now, run, found) } else { 0 };
            if copied < run.messages.len() {
                self.offer(now, batch, run, copied, found);
            }
        }
        self.copies.clear();
        run.clear();
    }

    /// Gives a connection the messages of a run from the one at `first` on.
    fn offer(
        &mut self,
        now: Timestamp,
        batch: &Arc<CommittedBatch>,
        run: &Run<'_>,
        first: usize,
        found: &Match,
    ) {
        for (nth, routed) in run.messages.iter().enumerate().skip(first) {
            let Some(grant) = found.grant(routed.publisher) else { continue };
            let Some(client) = self.table.get(found.token) else { return };
            let message = &routed.message;
            let qos = message.qos.min(grant.qos);
            let is_ready = client.backlog.as_ref().is_none_or(|backlog| backlog.is_live())
                && self.has_output_room(&client.link)
                && (qos == QoS::AtMostOnce || client.machine.has_room());
            if !is_ready {
                return self.queue(batch, run, nth, found);
            }
            let retain = message.retain && grant.retain_as_published;
            let reference = DeliveryRef::from(Offset::new(batch.index, routed.place.ordinal));
            let interval = message.message_expiry_interval;
            let Some(expiry) = remaining(interval, batch.time, self.log_time) else {
                self.give_up(now, found.token, reference, qos, DropReason::Expired);
                continue;
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
            self.hand(now, found.token, &delivery, |pins, limits| {
                let source = match pins.pin(batch, limits.pinned_bytes_all_max) {
                    Some(pin) => Source::Pinned(pin, routed.place),
                    None => Source::Logged,
                };
                let mut pending = Pending::new(reference, qos, retain, source);
                pending.payload_bytes = bytes(message.payload.len());
                pending
            });
        }
    }

    /// Puts the messages of a run from the one at `first` on into the backlog of a connection that
    /// cannot take them now.
    fn queue(&mut self, batch: &Arc<CommittedBatch>, run: &Run<'_>, first: usize, found: &Match) {
        let rest = &run.messages[first..];
        if !run.is_mixed && found.grant_for_all().is_some() {
            return self.queue_some(batch, rest, found);
        }
        for routed in rest {
            self.queue_some(batch, std::slice::from_ref(routed), found);
        }
    }

    /// The same with messages that are alike.
    fn queue_some(&mut self, batch: &Arc<CommittedBatch>, alike: &[Routed<'_>], found: &Match) {
        let Some(first) = alike.first() else { return };
        let messages = alike.len();
        let Some(grant) = found.grant(first.publisher) else { return };
        let Some(client) = self.table.get_mut(found.token) else { return };
        let qos = first.message.qos.min(grant.qos);
        let is_persistent = client.machine.is_persistent();
        let is_owed = is_persistent && qos > QoS::AtMostOnce;
        let backlog = client.backlog.get_or_insert_default();
        // What is owed comes from the view, in its order.
        if backlog.behind.is_some() {
            let lost = if is_owed { 0 } else { messages as u64 };
            self.stats.dropped_catching_up += lost;
            client.link.counts.get_or_insert_default().messages_dropped += lost;
            return;
        }
        let (room, room_bytes) = backlog.room(is_persistent, &self.limits);
        let held = client.held.references_bytes;
        let has_room = room > 0 && self.has_reference_room(held);
        let (room, room_bytes) = if has_room { (room, room_bytes) } else { (0, 0) };
        let Some(client) = self.table.get_mut(found.token) else { return };
        let backlog = client.backlog.get_or_insert_default();
        // One message may go beyond the bytes.
        let (mut taken, mut payload_bytes) = (0, 0);
        for routed in alike.iter().take(room) {
            if payload_bytes >= room_bytes {
                break;
            }
            taken += 1;
            payload_bytes += routed.message.payload.len();
        }
        if taken > 0 {
            let source = match self.pins.pin(batch, self.limits.pinned_bytes_all_max) {
                Some(pin) => Source::Pinned(pin, first.place),
                None => Source::Logged,
            };
            let reference = DeliveryRef::from(Offset::new(batch.index, first.place.ordinal));
            let retain = first.message.retain && grant.retain_as_published;
            let mut pending = Pending::new(reference, qos, retain, source);
            pending.messages = u32::try_from(taken).unwrap_or(u32::MAX);
            pending.payload_bytes = bytes(payload_bytes);
            backlog.push(pending, &self.limits);
        }
        if taken < messages && is_owed {
            let delivered = client.machine.delivered_upto();
            backlog.behind = Some(backlog.last().unwrap_or_default().max(delivered));
        } else {
            let lost = (messages - taken) as u64;
            self.stats.dropped_queue_full += lost;
            client.link.counts.get_or_insert_default().messages_dropped += lost;
        }
        // If it has nothing to write, nothing tells when the node has room for its output again.
        let must_ask = client.link.unwritten().is_empty() && self.is_output_full();
        self.weigh_held(found.token);
        if must_ask {
            self.starve(found.token);
        }
    }

    /// Hands a message to the machine of a connection that has room for it.
    pub(super) fn hand(
        &mut self,
        now: Timestamp,
        token: Token,
        delivery: &Delivery<'_>,
        pending: impl FnOnce(&mut Pins, &ShardLimits) -> Pending,
    ) {
        let mut handed = Handed::Sent;
        self.turn(now, token, |machine, sink, _| handed = machine.deliver(delivery, sink));
        match handed {
            Handed::Sent => self.stats.sent[stats::by(delivery.qos)] += 1,
            Handed::Starting(packet_id) => {
                let pending = pending(&mut self.pins, &self.limits);
                let Some(client) = self.table.get_mut(token) else { return };
                let backlog = client.backlog.get_or_insert_default();
                backlog.start(packet_id, pending, &self.limits);
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

fn bytes(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
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
