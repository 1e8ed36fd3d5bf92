//! Committed batches: acknowledgements of our own, subscriptions, and messages for our clients.

use std::sync::Arc;

use ledgermq_core::connection::{Ending, Refusal};
use ledgermq_core::event::batch::Batch;
use ledgermq_core::event::{Event, EventRef, SessionOpened, SessionRef, Subscription};
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_core::packet::{ProtocolVersion, RetainHandling};
use ledgermq_core::reason::ReasonCode;
use ledgermq_log::CommittedBatch;

use crate::shard::client::find;
use crate::shard::delivery::{Routed, Run};
use crate::shard::matching::Matches;
use crate::shard::table::Token;
use crate::shard::volume::Volume;
use crate::shard::{Interest, Shard, Sources};

impl Shard {
    /// Takes the next committed batch of the log.
    pub fn on_committed(
        &mut self,
        now: Timestamp,
        batch: &Arc<CommittedBatch>,
        sources: &mut impl Sources,
    ) {
        // Entries of raft's own have an index, too, and carry no batch.
        debug_assert!(batch.index >= self.reached.index, "the tail is gapless");
        if !batch.is_admitted() {
            // It was sent twice: what came of it came of the batch that counts.
            self.recent.push(batch, self.limits.recent_bytes_max);
            return self.pass(now, batch.index, sources);
        }
        let body = batch.batch();
        let is_own = batch.producer == self.producer;
        let sessions = if is_own { self.tokens(&body) } else { Vec::new() };
        let mut volume = Volume::default();
        let mut run = Run::default();
        let mut matches = Matches::default();
        for record in body.records() {
            let record = record.expect("the log checked the batch when it committed it");
            let event = record.event().expect("the log checked the batch when it committed it");
            let token = record.session.and_then(|slot| *sessions.get(usize::from(slot))?);
            let is_void = batch.is_void(&record);
            if is_own {
                volume = volume.plus(volume_of(&event));
            }
            let at = Offset::new(batch.index, record.ordinal);
            // What goes together with others is routed before anything else happens.
            self.reached = Offset::new(batch.index, record.ordinal + 1);
            match event {
                EventRef::MessagePublished(message) if !is_void => {
                    if !run.takes(record.place(), message.topic) {
                        self.route(now, batch, &mut run, &matches);
                        matches = self.matches(message.topic);
                    }
                    if let (Some(token), Some(packet_id)) = (token, message.packet_id) {
                        let is_heard = !matches.is_empty()
                            || !self.is_unheard(token, batch.index, message.topic, sources);
                        self.turn(now, token, |machine, sink, _| {
                            machine.on_publish_committed(message.qos, packet_id, is_heard, sink);
                        });
                    }
                    run.push(Routed { place: record.place(), message, publisher: token });
                    continue;
                }
                EventRef::MessagePublished(_) => continue,
                EventRef::Other(_) => self.route(now, batch, &mut run, &matches),
            }
            match event {
                EventRef::MessagePublished(_) => {}
                EventRef::Other(Event::SessionOpened(_)) if is_void => {
                    if is_own {
                        self.on_opening_void(now, batch.is_late());
                    }
                }
                EventRef::Other(Event::SessionOpened(opened)) => {
                    self.on_session_opened(now, at, &opened, is_own, sources);
                }
                EventRef::Other(Event::AccessRulesReplaced { rules }) => {
                    self.on_rules_replaced(rules.as_ref());
                }
                EventRef::Other(event) if !is_void => {
                    if matches!(event, Event::Subscribed { .. }) {
                        self.subscribed = batch.index;
                    }
                    if let Some(token) = token {
                        self.on_own_event(now, token, at, event, sources);
                    }
                }
                EventRef::Other(_) => {}
            }
        }
        self.route(now, batch, &mut run, &matches);
        self.stage.under_way.commit(batch.index, volume);
        self.recent.push(batch, self.limits.recent_bytes_max);
        self.pass(now, batch.index, sources);
    }

    /// Whether it is certain that no session at all subscribes to `topic` of a message at `index`, and
    /// its publisher can be told so; asked if no connection of this shard does.
    fn is_unheard(
        &self,
        publisher: Token,
        index: Index,
        topic: &str,
        sources: &mut impl Sources,
    ) -> bool {
        let version = self.table.get(publisher).map(|client| client.link.version);
        if version != Some(ProtocolVersion::V5) {
            return false;
        }
        let Interest { is_any, since, upto } = sources.interest(topic);
        // What changed within its own batch may have changed behind the message.
        !is_any && since < index && upto >= self.subscribed
    }

    /// The batch at `index` is through. A notice that came ahead of it and was not taken is for a
    /// connection that ended.
    fn pass(&mut self, now: Timestamp, index: Index, sources: &mut impl Sources) {
        self.reached = Offset::new(index + 1, 0);
        while self.early_sessions.first_key_value().is_some_and(|(at, _)| *at < self.reached) {
            self.early_sessions.pop_first();
        }
        while self.early_retained.first_key_value().is_some_and(|(at, _)| *at < self.reached) {
            self.early_retained.pop_first();
        }
        self.take_early_shared(now, sources);
    }

    /// The connections behind the sessions of a batch of ours.
    fn tokens(&self, body: &Batch<'_>) -> Vec<Option<Token>> {
        body.sessions()
            .map(|session| {
                let session = session.expect("the log checked the batch when it committed it");
                self.by_epoch.get(&session.epoch).copied()
            })
            .collect()
    }

    fn on_session_opened(
        &mut self,
        now: Timestamp,
        epoch: Offset,
        opened: &SessionOpened,
        is_own: bool,
        sources: &mut impl Sources,
    ) {
        if let Some(older) = self.by_client.get(&opened.client).copied() {
            // The older connection is fenced from here on, wherever the new one is.
            self.stats.taken_over += 1;
            self.end(now, older, Ending::Server(ReasonCode::SessionTakenOver));
        }
        if !is_own {
            return;
        }
        // Every one of this producer stands in the queue, but those from before a jump.
        let Some(token) = self.stage.opening.pop_front() else { return };
        let Some(client) = self.table.get_mut(token) else { return };
        client.is_opening = false;
        client.link.session = Some(SessionRef { client: opened.client.clone(), epoch });
        let is_gone = client.link.is_gone;
        self.turn(now, token, |machine, sink, _| machine.on_opened(epoch, sink));
        if self.table.get(token).is_none_or(|client| client.link.is_ending) {
            // It ended before its session was there.
            if is_gone {
                self.forget_held(token);
                self.table.remove(token);
            }
            return;
        }
        self.by_epoch.insert(epoch, token);
        self.by_client.insert(opened.client.clone(), token);
        if let Some(state) = self.early_sessions.remove(&epoch) {
            self.open(now, token, *state, sources);
        }
    }

    /// A session that a connection of ours wanted to open is not opened: it belongs to another user, or
    /// its client has waited so long that it may have gone elsewhere.
    fn on_opening_void(&mut self, now: Timestamp, is_late: bool) {
        let Some(token) = self.stage.opening.pop_front() else { return };
        let Some(client) = self.table.get_mut(token) else { return };
        client.is_opening = false;
        if client.link.is_gone {
            self.forget_held(token);
            return self.table.remove(token);
        }
        self.stats.refused_foreign += u64::from(!is_late);
        let why = if is_late { Refusal::Quorum } else { Refusal::NotAuthorized };
        self.turn(now, token, |machine, sink, _| machine.on_opening_void(why, sink));
    }

    fn on_own_event(
        &mut self,
        now: Timestamp,
        token: Token,
        at: Offset,
        event: Event,
        sources: &mut impl Sources,
    ) {
        if self.table.get(token).is_none_or(|client| client.is_detached) {
            return;
        }
        match event {
            Event::Subscribed { subscriptions } => {
                self.on_subscribed(now, token, at, subscriptions, sources);
            }
            Event::Unsubscribed { mut filters } => {
                let Some(client) = self.table.get_mut(token) else { return };
                filters.sort_unstable();
                let before = std::mem::take(&mut client.subscriptions);
                let is_meant = |subscription: &Subscription| {
                    filters.binary_search(&subscription.filter).is_ok()
                };
                let (ended, kept): (Vec<_>, Vec<_>) = before.into_iter().partition(is_meant);
                client.subscriptions = kept;
                client.count_subscriptions();
                for subscription in &ended {
                    self.subscriptions.remove(&subscription.filter, token);
                }
                self.turn(now, token, |machine, sink, _| {
                    machine.on_unsubscribe_committed(|filter| find(&ended, filter).is_ok(), sink);
                });
            }
            Event::MessageReleased { packet_ids } => {
                self.turn(now, token, |machine, sink, _| {
                    machine.on_release_committed(&packet_ids, sink);
                });
            }
            Event::DeliveryReceived { packet_ids } => {
                self.turn(now, token, |machine, sink, _| {
                    machine.on_received_committed(&packet_ids, sink);
                });
            }
            Event::DeliveryStarted { deliveries } => {
                let Some(client) = self.table.get_mut(token) else { return };
                let backlog = client.backlog.get_or_insert_default();
                for (packet_id, _) in deliveries {
                    client.machine.on_started_committed(packet_id);
                    backlog.started(packet_id);
                }
                self.drain(now, token, sources);
            }
            Event::NodeStarted { .. }
            | Event::NodeLost { .. }
            | Event::SessionOpened(_)
            | Event::SessionClosed { .. }
            | Event::SessionExpired
            | Event::DeliveryProgressed { .. }
            | Event::MessageDropped { .. }
            | Event::SharedSettled { .. }
            | Event::SharedDropped { .. }
            | Event::AccessRulesReplaced { .. } => {}
        }
    }

    /// From here on everything is matched with these subscriptions; what they match waits until
    /// the retained messages came.
    fn on_subscribed(
        &mut self,
        now: Timestamp,
        token: Token,
        at: Offset,
        subscriptions: Vec<Subscription>,
        sources: &mut impl Sources,
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        let mut asks_sys = Vec::new();
        for subscription in subscriptions {
            let is_wanted = match subscription.options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => client.place(&subscription.filter).is_err(),
                RetainHandling::DoNotSend => false,
            };
            if is_wanted && subscription.filter.as_str().starts_with("$SYS") {
                asks_sys.push(subscription.clone());
            }
            self.subscriptions.insert(token, &subscription);
            match client.place(&subscription.filter) {
                Ok(at) => client.subscriptions[at] = subscription,
                Err(at) => {
                    client.subscriptions.insert(at, subscription);
                    client.count_subscription(at);
                }
            }
        }
        client.backlog.get_or_insert_default().holds += 1;
        self.turn(now, token, |machine, sink, _| machine.on_subscribe_committed(sink));
        self.answer_sys(now, token, &asks_sys);
        if let Some(messages) = self.early_retained.remove(&at) {
            self.on_retained(now, token, at, messages, sources);
        }
    }
}

/// What an event of ours was charged with when it was staged, void or not.
fn volume_of(event: &EventRef<'_>) -> Volume {
    match event {
        EventRef::MessagePublished(message) => Volume::of_message(message),
        EventRef::Other(Event::SessionOpened(opened)) => Volume::of_session(opened),
        EventRef::Other(_) => Volume::default(),
    }
}
