//! Messages on their way to the clients: at once if there is room, by reference otherwise.

use std::sync::Arc;

use ledgermq_core::connection::{Delivery, Handed};
use ledgermq_core::event::batch::Record;
use ledgermq_core::event::{DeliveryRef, DropReason, Event, EventRef, MessagePublished};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_core::topic::TopicFilter;
use ledgermq_log::CommittedBatch;

use ledgermq_projections::views::owed::OwedSource;

use crate::shard::backlog::{Pending, Source};
use crate::shard::client::Client;
use crate::shard::matching::Match;
use crate::shard::table::Token;
use crate::shard::{Fetched, Shard, Sources, stats};

/// Messages asked of the owed view at a time.
const OWED_MESSAGES_MAX: usize = 256;

/// What became of the message at the head of a backlog.
enum Step {
    /// It is gone from the backlog.
    Done,
    /// It waits for the client, or for a batch.
    Waits(Pending),
}

impl Shard {
    /// Gives a committed message to all connections that it is for.
    pub(super) fn route(
        &mut self,
        now: Timestamp,
        batch: &Arc<CommittedBatch>,
        record: &Record<'_>,
        message: &MessagePublished<'_>,
        publisher: Option<Token>,
    ) {
        let matches = self.subscriptions.matches(message.topic);
        for found in &*matches {
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
        let pending = || Pending {
            message: reference,
            qos,
            retain,
            payload_bytes: u32::try_from(message.payload.len()).unwrap_or(u32::MAX),
            source: Source::Pinned(Arc::clone(batch), record.place()),
        };
        let is_ready = client.backlog.as_ref().is_none_or(|backlog| backlog.is_live())
            && client.link.unwritten().len() < self.limits.output_bytes_max
            && (qos == QoS::AtMostOnce || client.machine.has_room());
        if !is_ready {
            return self.queue(found.token, pending());
        }
        let Ok(expiry) = remaining(message.message_expiry_interval, batch.time, now) else {
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
        if backlog.behind.is_some() {
            // What is owed comes from the view, in its order.
            self.stats.dropped_catching_up += u64::from(!is_owed);
            return;
        }
        if !backlog.is_full(is_persistent, &self.limits) {
            return backlog.push(pending, &self.limits);
        }
        if is_owed {
            backlog.behind = Some(backlog.last().unwrap_or_default().max(delivered));
        } else {
            self.stats.dropped_queue_full += 1;
        }
    }

    /// Hands a message to the machine of a connection that has room for it.
    fn hand(
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
                if let Some(client) = self.table.get_mut(token) {
                    client.backlog.get_or_insert_default().starting.push((packet_id, pending()));
                }
            }
            Handed::TooLarge => {
                self.give_up(now, token, delivery.message, delivery.qos, DropReason::TooLarge);
            }
        }
    }

    /// Delivers what waits for a connection, as far as it and its client have room.
    pub(super) fn drain(&mut self, now: Timestamp, token: Token, sources: &mut impl Sources) {
        loop {
            let Some(client) = self.table.get_mut(token) else { return };
            let Some(backlog) = &mut client.backlog else { return };
            if client.link.is_ending
                || backlog.holds > 0
                || client.link.unwritten().len() >= self.limits.output_bytes_max
            {
                return;
            }
            if let Some(pending) = backlog.pop() {
                match self.deliver_pending(now, token, pending, sources) {
                    Step::Done => continue,
                    Step::Waits(pending) => {
                        if let Some(client) = self.table.get_mut(token) {
                            client.backlog.get_or_insert_default().insert([pending]);
                        }
                        return;
                    }
                }
            }
            let Some(after) = backlog.behind else {
                if backlog.is_done() {
                    client.backlog = None;
                }
                return;
            };
            if !self.refill(token, after, sources) {
                return;
            }
        }
    }

    /// Reads on in the owed view. Answers whether [`Shard::drain`] can go on.
    fn refill(&mut self, token: Token, after: DeliveryRef, sources: &mut impl Sources) -> bool {
        let Some(client) = self.table.get_mut(token) else { return false };
        let Some(session) = &client.link.session else { return false };
        let mut owed = Vec::new();
        let applied = sources.owed(&session.client, after, OWED_MESSAGES_MAX, &mut owed);
        let backlog = client.backlog.get_or_insert_default();
        // What lies at or beyond the shard's position comes live.
        owed.retain(|owed| owed.message.at.index < self.position);
        if let Some(last) = owed.last() {
            backlog.behind = Some(last.message);
            for owed in owed {
                backlog.push(owed.into(), &self.limits);
            }
            return true;
        }
        if applied + 1 >= self.position {
            backlog.behind = None;
            return true;
        }
        self.starve(token);
        false
    }

    pub(super) fn starve(&mut self, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        if !client.link.is_starving {
            client.link.is_starving = true;
            self.starving.push(token);
        }
    }

    fn deliver_pending(
        &mut self,
        now: Timestamp,
        token: Token,
        pending: Pending,
        sources: &mut impl Sources,
    ) -> Step {
        let Some(client) = self.table.get_mut(token) else { return Step::Done };
        let machine = &client.machine;
        if pending.qos > QoS::AtMostOnce {
            if machine.is_under_way(pending.message) {
                return Step::Done;
            }
            if !machine.has_room_for(pending.message) {
                return Step::Waits(pending);
            }
        }
        let Pending { message, qos, .. } = pending;
        let batch = match &pending.source {
            Source::Kept(kept) => {
                let kept = Arc::clone(kept);
                let content = MessagePublished {
                    qos: kept.qos,
                    retain: true,
                    packet_id: None,
                    topic: &kept.topic,
                    message_expiry_interval: kept.message_expiry_interval,
                    properties: &kept.properties,
                    payload: &kept.payload,
                };
                self.send_pending(now, token, pending, &content, kept.time);
                return Step::Done;
            }
            Source::Pinned(batch, _) => Arc::clone(batch),
            Source::Logged => match sources.batch(message.at.index) {
                Fetched::Ready(batch) => batch,
                Fetched::Loading => {
                    self.starve(token);
                    return Step::Waits(pending);
                }
                Fetched::Gone => match self.kept(token, message, sources) {
                    // It was copied before the log was purged.
                    Some(kept) => return self.deliver_pending(now, token, kept, sources),
                    None => {
                        self.give_up(now, token, message, qos, DropReason::Purged);
                        return Step::Done;
                    }
                },
            },
        };
        match content_of(&batch, &pending) {
            Some(content) => self.send_pending(now, token, pending, &content, batch.time),
            None => self.give_up(now, token, message, qos, DropReason::Purged),
        }
        Step::Done
    }

    /// The message as the owed view keeps it since it was purged from the log, if it does.
    fn kept(
        &mut self,
        token: Token,
        message: DeliveryRef,
        sources: &mut impl Sources,
    ) -> Option<Pending> {
        let client = self.table.get(token)?;
        if !client.machine.is_persistent() {
            return None;
        }
        let session = client.link.session.as_ref()?;
        let mut owed = Vec::new();
        sources.owed(&session.client, before(message), 1, &mut owed);
        let owed = owed.pop().filter(|owed| owed.message == message)?;
        matches!(owed.source, OwedSource::Kept(_)).then(|| owed.into())
    }

    fn send_pending(
        &mut self,
        now: Timestamp,
        token: Token,
        pending: Pending,
        content: &MessagePublished<'_>,
        published: Timestamp,
    ) {
        let Pending { message, qos, retain, .. } = pending;
        let Ok(expiry) = remaining(content.message_expiry_interval, published, now) else {
            return self.give_up(now, token, message, qos, DropReason::Expired);
        };
        let identifiers =
            self.table.get(token).map_or(Vec::new(), |client| identifiers(client, content.topic));
        let delivery = Delivery {
            message,
            qos,
            retain,
            topic: content.topic,
            message_expiry_interval: expiry,
            identifiers: &identifiers,
            properties: content.properties,
            payload: content.payload,
        };
        self.hand(now, token, &delivery, || pending);
    }

    /// Gives a delivery up, aloud: it is counted, and logged if the session outlives this
    /// connection.
    fn give_up(
        &mut self,
        now: Timestamp,
        token: Token,
        message: DeliveryRef,
        qos: QoS,
        reason: DropReason,
    ) {
        match reason {
            DropReason::QueueFull => self.stats.dropped_queue_full += 1,
            DropReason::Expired => self.stats.dropped_expired += 1,
            DropReason::TooLarge => self.stats.dropped_too_large += 1,
            DropReason::Purged => self.stats.dropped_purged += 1,
        }
        if qos == QoS::AtMostOnce {
            return;
        }
        self.turn(now, token, |machine, sink, _| {
            machine.skip(message);
            if machine.is_persistent() {
                use ledgermq_core::connection::Outputs as _;
                sink.append(Event::MessageDropped { from: message, upto: message, reason });
            }
        });
    }
}

/// The message that `pending` refers to in its batch.
fn content_of<'a>(batch: &'a CommittedBatch, pending: &Pending) -> Option<MessagePublished<'a>> {
    let record = match &pending.source {
        Source::Pinned(_, place) => batch.batch().record_at(*place).ok()?,
        _ => {
            let ordinal = usize::try_from(pending.message.at.ordinal).ok()?;
            batch.batch().records().nth(ordinal)?.ok()?
        }
    };
    match record.event().ok()? {
        EventRef::MessagePublished(message) => Some(message),
        EventRef::Other(_) => None,
    }
}

/// A place right before `message`.
fn before(message: DeliveryRef) -> DeliveryRef {
    let DeliveryRef { at: Offset { index, ordinal }, nth } = message;
    match (nth.checked_sub(1), ordinal.checked_sub(1)) {
        (Some(nth), _) => DeliveryRef { nth, ..message },
        (None, Some(ordinal)) => DeliveryRef { at: Offset { index, ordinal }, nth: u32::MAX },
        (None, None) => {
            let at = Offset { index: index.saturating_sub(1), ordinal: u32::MAX };
            DeliveryRef { at, nth: u32::MAX }
        }
    }
}

/// Identifiers of the subscriptions of `client` that match `topic`.
fn identifiers(client: &Client, topic: &str) -> Vec<u32> {
    let matching = |filter: &TopicFilter| filter.matches(topic);
    client
        .subscriptions
        .iter()
        .filter(|subscription| subscription.identifier.is_some() && matching(&subscription.filter))
        .filter_map(|subscription| subscription.identifier)
        .collect()
}

/// The message expired.
struct Expired;

/// What is left of a Message Expiry Interval. `[MQTT-3.3.2-5] [MQTT-3.3.2-6]`
fn remaining(
    interval: Option<u32>,
    published: Timestamp,
    now: Timestamp,
) -> Result<Option<u32>, Expired> {
    let Some(interval) = interval else { return Ok(None) };
    let waited = u32::try_from(now.since(published).as_secs()).unwrap_or(u32::MAX);
    if waited >= interval { Err(Expired) } else { Ok(Some(interval - waited)) }
}
