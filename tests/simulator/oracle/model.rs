//! The fold itself, event by event.

use ledgermq_core::access::RuleList;
use ledgermq_core::event::{Event, EventRef, MessagePublished, SessionOpened};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_log::CommittedBatch;

use crate::book::uid_of;
use crate::oracle::wills::Armed;
use crate::oracle::{Life, Opened, Oracle, Process, Retained, Session};

impl Oracle {
    pub(super) fn apply(&mut self, batch: &CommittedBatch) {
        let voids = self.voids.next(batch);
        let body = batch.batch();
        let sessions: Vec<_> = body.sessions().flatten().collect();
        for (record, is_void) in body.records().zip(voids) {
            let Ok(record) = record else {
                return self.fault(format!("a record of {} cannot be read", batch.index));
            };
            let at = Offset::new(batch.index, record.ordinal);
            if batch.is_void(&record) != is_void {
                self.fault(format!("{at} is void: {}, should be: {is_void}", !is_void));
            }
            if is_void {
                self.void_records += 1;
                continue;
            }
            let client = record.session.map(|slot| sessions[usize::from(slot)].client.to_owned());
            match record.event() {
                Ok(EventRef::MessagePublished(message)) => {
                    let batch_id = (batch.producer, batch.sequence);
                    self.check_author(at, batch_id, client.as_deref(), &message);
                    self.on_published(at, batch.time, client.as_deref(), &message);
                    if let Some(cause) = record.cause
                        && let Err(fault) = self.wills.fire(cause, batch.time)
                    {
                        self.fault(fault);
                    }
                }
                Ok(EventRef::Other(event)) => {
                    self.on_event(at, batch, client.unwrap_or_default(), event);
                }
                Err(error) => self.fault(format!("the event at {at}: {error}")),
            }
        }
    }

    fn on_event(&mut self, at: Offset, batch: &CommittedBatch, client: String, event: Event) {
        self.fold(at, batch, client, event);
        self.tidy_groups();
    }

    fn fold(&mut self, at: Offset, batch: &CommittedBatch, client: String, event: Event) {
        let now = batch.time;
        match event {
            Event::NodeStarted { node, start } => {
                let is_lost = |held: Process| held.node == node && held.start != start;
                let lost: Vec<_> = self
                    .sessions
                    .iter()
                    .filter(|(_, session)| session.online.is_some_and(is_lost))
                    .map(|(client, session)| (client.clone(), session.interval))
                    .collect();
                for (client, interval) in lost {
                    self.close(&client, now, true, interval);
                }
            }
            Event::NodeLost { node, start } => {
                let is_lost = |held: Process| held.node == node && held.start <= start;
                let sessions = self.sessions.iter();
                let lost: Vec<_> = sessions
                    .filter(|(_, session)| session.online.is_some_and(is_lost))
                    .map(|(client, session)| (client.clone(), session.interval))
                    .collect();
                for (client, interval) in lost {
                    self.close(&client, now, true, interval);
                }
            }
            Event::SessionOpened(opened) => self.open(at, now, batch.producer, *opened),
            Event::SessionClosed { publish_will, session_expiry_interval, .. } => {
                if self.sessions.get(&client).is_some_and(|session| session.online.is_some()) {
                    self.close(&client, now, publish_will, session_expiry_interval);
                }
            }
            Event::SessionExpired => self.expire(&client, now),
            Event::Subscribed { subscriptions } => {
                self.on_subscribed(at, now, &client, subscriptions);
            }
            Event::Unsubscribed { filters } => {
                for filter in filters {
                    let filter = filter.as_str().to_owned();
                    if let Some(session) = self.sessions.get_mut(&client) {
                        session.subscriptions.remove(&filter);
                    }
                    *self.unsubscribed.entry((client.clone(), filter)).or_default() += 1;
                }
            }
            Event::MessageReleased { packet_ids } => {
                let count = u32::try_from(packet_ids.len()).expect("few");
                *self.released.entry(client).or_default() += count;
            }
            Event::MessageDropped { from, reason, .. } if from.group().is_some() => {
                self.on_shared_dropped(&client, now, from.at, reason);
            }
            Event::SharedDropped { group, upto, reason } => {
                self.on_group_dropped(group.as_str(), now, upto, reason);
            }
            Event::DeliveryStarted { deliveries } => {
                self.on_started(&client, deliveries.into_iter().map(|(_, message)| message));
            }
            Event::MessageDropped { from, upto, reason } => {
                self.on_dropped(&client, now, from, upto, reason);
            }
            Event::AccessRulesReplaced { rules } => self.on_rules_replaced(at, rules),
            Event::DeliveryReceived { .. }
            | Event::DeliveryProgressed { .. }
            | Event::SharedSettled { .. } => {}
        }
    }

    /// A message was taken by rules that its shard knew, or by those in force at its place.
    fn check_author(
        &mut self,
        at: Offset,
        batch: (ProducerId, u64),
        client: Option<&str>,
        message: &MessagePublished<'_>,
    ) {
        if let Some(uid) = uid_of(message.payload) {
            self.rules_at.entry(uid).or_insert(self.access.count());
        }
        // A will is judged where it is armed.
        let (Some(client), Some(known)) = (client, self.staged.get(&batch)) else { return };
        let Some(session) = self.sessions.get(client) else { return };
        let author = (client, session.username.as_deref());
        if !self.access.may_since(*known, author, "write", message.topic) {
            self.fault(format!(
                "{client} published to {} at {at}, which it may not",
                message.topic
            ));
        }
    }

    /// From here on others may do things. A will that may not be published any more is called off.
    fn on_rules_replaced(&mut self, at: Offset, rules: Option<RuleList>) {
        let before = self.access.count();
        self.access.replace(at, rules);
        let access = &self.access;
        self.wills.forbid(before, |will| {
            let (client, username, topic) = &will.author;
            access.may(client, username.as_deref(), "write", topic)
        });
    }

    fn open(&mut self, at: Offset, now: Timestamp, by: ProducerId, opened: SessionOpened) {
        let client = opened.client.to_string();
        let old = self.sessions.remove(&client);
        let is_resumed = !opened.clean_start && old.as_ref().is_some_and(|old| old.can_resume(now));
        if let Some(old) = &old {
            self.supersede(old, now, is_resumed);
        }
        let (life, subscriptions) = match old.filter(|_| is_resumed) {
            Some(old) => (old.life, old.subscriptions),
            None => {
                self.lives.push(Life { client: client.clone(), ..Life::default() });
                (self.lives.len() - 1, std::collections::BTreeMap::new())
            }
        };
        self.lives[life].was_transient |= opened.session_expiry_interval == 0;
        let rules = self.access.count();
        self.opened.insert(opened.peer.clone(), Opened { life, epoch: at, is_resumed, rules });
        let session = Session {
            life,
            epoch: at,
            username: opened.username.clone(),
            interval: opened.session_expiry_interval,
            online: Some(Process { node: by.node, start: by.start }),
            offline_since: now,
            subscriptions,
            will: opened.will.map(|message| Armed { message }),
        };
        self.sessions.insert(client, session);
    }

    /// A new connection takes the place of `old`, which may still be connected.
    fn supersede(&mut self, old: &Session, now: Timestamp, is_resumed: bool) {
        if old.online.is_some() {
            let client = &self.lives[old.life].client;
            if let Some(will) = &old.will
                && (!is_resumed || will.message.delay_interval == 0)
                && self.access.may(client, old.username.as_deref(), "write", &will.message.topic)
            {
                let author = (client.clone(), old.username.clone(), will.message.topic.clone());
                self.wills.arm(old.epoch, now, false, author);
            }
        } else if is_resumed {
            self.wills.call_off(old.epoch, now);
        } else {
            self.wills.settle(old.epoch, now);
        }
        if !is_resumed {
            self.lives[old.life].is_over = true;
        }
    }

    fn close(&mut self, client: &str, now: Timestamp, publish_will: bool, interval: u32) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        let is_over = interval == 0 || !session.is_persistent();
        session.online = None;
        session.offline_since = now;
        if let Some(will) = session.will.take()
            && publish_will
            && self.access.may(client, session.username.as_deref(), "write", &will.message.topic)
        {
            let delay = if is_over { 0 } else { will.message.delay_interval.min(interval) };
            let due = Timestamp(now.0 + u64::from(delay) * 1_000_000);
            let author = (client.to_owned(), session.username.clone(), will.message.topic.clone());
            self.wills.arm(session.epoch, due, delay > 0, author);
        }
        session.interval = interval;
        if is_over {
            let life = session.life;
            self.lives[life].is_over = true;
            self.sessions.remove(client);
        }
    }

    fn expire(&mut self, client: &str, now: Timestamp) {
        let Some(session) = self.sessions.remove(client) else { return };
        if session.online.is_some() {
            self.fault(format!("the session of {client} expired while it was connected"));
        } else if session.interval == u32::MAX || now < session.expires() {
            self.fault(format!("the session of {client} expired before its time"));
        }
        self.wills.settle(session.epoch, now);
        self.lives[session.life].is_over = true;
    }

    fn on_published(
        &mut self,
        at: Offset,
        now: Timestamp,
        client: Option<&str>,
        message: &MessagePublished<'_>,
    ) {
        let uid = uid_of(message.payload);
        if let Some(uid) = uid {
            *self.published.entry(uid).or_default() += 1;
        }
        let expires = message
            .message_expiry_interval
            .map(|interval| Timestamp(now.0 + u64::from(interval) * 1_000_000));
        if let Some(uid) = uid {
            self.owe_to_all(at, now, uid, expires, client, message);
            self.owe_to_groups(at, now, uid, expires, message);
        }
        if !message.retain {
            return;
        }
        if message.payload.is_empty() {
            self.retained.remove(message.topic);
        } else {
            let publisher = client.map(str::to_owned);
            let retained = Retained { uid, qos: message.qos, at, expires, publisher };
            self.retained.insert(message.topic.to_owned(), retained);
        }
    }
}
