//! The hot path: a message was published.

use ledgermq_core::event::MessagePublished;
use ledgermq_core::event::batch::Record;
use ledgermq_core::packet::QoS;

use crate::time;
use crate::views::Views;
use crate::views::dirty::Row;
use crate::views::fold::{Broken, Place, Sources};
use crate::views::owed::Entry;
use crate::views::retained::RetainedMessage;
use crate::views::run::{self, Owing};

impl Views {
    pub(super) fn published(
        &mut self,
        place: &Place,
        record: &Record<'_>,
        message: &MessagePublished<'_>,
        sources: &mut Sources<'_>,
    ) -> Result<(), Broken> {
        let bytes = message.topic.len() + message.properties.len() + message.payload.len();
        self.counters.messages[message.qos as usize] += 1;
        self.counters.message_bytes += bytes as u64;
        if let Some(epoch) = record.cause
            && self.wills.remove(epoch).is_some()
        {
            self.counters.wills += 1;
            self.dirty.touch(Row::Will(epoch));
        }
        self.count(place, record, message, bytes, sources)?;
        if message.retain {
            self.retain(place, record, message, sources)?;
        }
        if message.qos == QoS::ExactlyOnce && message.packet_id.is_some() {
            self.receive(place, record, message, sources)?;
        }
        Ok(())
    }

    fn count(
        &mut self,
        place: &Place,
        record: &Record<'_>,
        message: &MessagePublished<'_>,
        bytes: usize,
        sources: &mut Sources<'_>,
    ) -> Result<(), Broken> {
        let (sessions, access) = (&self.sessions, &self.access);
        let known = self.subscriptions.look_up(message.topic, |slot| {
            let session = sessions.by_slot(slot);
            session.is_some_and(|session| access.may_receive(session, message.topic))
        });
        let version = self.topics.version();
        let (node, is_exact) = match known.node {
            (seen, Some(node)) if seen == version => (node, true),
            _ => {
                let (node, is_exact) = self.topics.enter(message.topic, &mut self.dirty.topics());
                known.node = (self.topics.version(), is_exact.then_some(node));
                (node, is_exact)
            }
        };
        self.topics.count(node, bytes, is_exact.then_some(place.at));
        let expires = message.message_expiry_interval.map(|after| time::after(place.time, after));
        for number in &known.groups {
            let (qos, retain) = (message.qos, message.retain);
            let entry = Entry::message_at(place.at, bytes, qos, retain, expires);
            if !self.groups.publish(*number, entry, qos, &mut self.dirty) {
                self.counters.shared_unheard += 1;
            }
            if let Some(group) = self.groups.get_mut(*number) {
                let is_owed = group.owed().get(place.at.into()).is_some();
                let expires = entry.expires().filter(|_| is_owed);
                self.hints.group(*number, group, expires);
            }
        }
        if message.qos == QoS::AtMostOnce || known.matches.is_empty() {
            return Ok(());
        }
        let mut publisher = None;
        if known.depends_on_publisher {
            let source = sources.get(place.at, record)?;
            publisher = source.and_then(|source| self.sessions.slot(source.client));
        }
        let (at, qos, retain) = (place.at, message.qos, message.retain);
        let message = run::Message { at, bytes, qos, retain, expires, publisher };
        let (sessions, hints, dirty) = (&mut self.sessions, &mut self.hints, &mut self.dirty);
        self.run.push(message, &known.matches, Owing { sessions, hints, dirty });
        Ok(())
    }

    /// Has the messages of the run owed: what is folded now comes behind them.
    pub(super) fn owe_run(&mut self) {
        let (sessions, hints, dirty) = (&mut self.sessions, &mut self.hints, &mut self.dirty);
        self.run.owe(Owing { sessions, hints, dirty });
    }

    fn retain(
        &mut self,
        place: &Place,
        record: &Record<'_>,
        message: &MessagePublished<'_>,
        sources: &mut Sources<'_>,
    ) -> Result<(), Broken> {
        let publisher = sources.get(place.at, record)?.map(|source| source.client);
        let key_id = record.key_id;
        let stored = RetainedMessage::new(message, key_id, publisher, place.time, place.at);
        self.counters.retained += 1;
        if self.retained.apply(stored) {
            self.dirty.touch(Row::Retained(message.topic.into()));
        }
        Ok(())
    }

    /// A QoS 2 message holds its Packet Identifier until it is released. `[MQTT-4.3.3-10]`
    fn receive(
        &mut self,
        place: &Place,
        record: &Record<'_>,
        message: &MessagePublished<'_>,
        sources: &mut Sources<'_>,
    ) -> Result<(), Broken> {
        let source = sources.get(place.at, record)?;
        let slot = source.and_then(|source| self.sessions.current(source.client, source.epoch));
        let Some((slot, packet_id)) = slot.zip(message.packet_id) else {
            return Ok(());
        };
        if let Some(session) = self.sessions.by_slot_mut(slot)
            && session.is_persistent()
            && let Err(at) = session.head.inbound.binary_search(&packet_id)
        {
            session.head.inbound.insert(at, packet_id);
            self.dirty.touch(Row::Session(slot));
        }
        Ok(())
    }
}
