//! Messages of QoS 0 that wait for many connections alike: encoded once, and copied to each.
//!
//! What [`copying`](crate::shard::copying) is for messages that come, this is for those that found no
//! room in an output and wait in their batch. Subscribers of one topic wait for the same ones, mostly,
//! and go on at the same place.

use std::ops::Range;

use ledgermq_core::event::EventRef;
use ledgermq_core::event::batch::Fence;
use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_core::packet::{ProtocolVersion, QoS};
use ledgermq_log::CommittedBatch;

use crate::shard::Shard;
use crate::shard::backlog::{Lane, Source};
use crate::shard::copying::{BYTES_KEPT, encode};
use crate::shard::draining::identifiers;
use crate::shard::table::Token;

/// Forms of batches that are kept: connections that wait go through several batches one by one, each
/// about so many as a sync of the log makes durable.
const FORMS_MAX: usize = 16;

/// What was encoded last for connections that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    forms: Vec<Packets>,
    /// The one that is the next to be given up.
    oldest: usize,
}

impl Waiting {
    /// The packets of a batch that have the message at `place`, or can begin with it.
    fn packets(&mut self, form: Form, place: Fence) -> &mut Packets {
        let held = self.forms.iter().position(|packets| packets.at(form, place).is_some());
        let at = held.unwrap_or_else(|| {
            if self.forms.len() < FORMS_MAX {
                self.forms.push(Packets::default());
                return self.forms.len() - 1;
            }
            self.oldest = (self.oldest + 1) % FORMS_MAX;
            self.oldest
        });
        &mut self.forms[at]
    }
}

/// Messages to one topic that follow each other in a batch, and do not expire, as packets.
#[derive(Debug, Default)]
struct Packets {
    form: Option<Form>,
    topic: String,
    bytes: Vec<u8>,
    packets: Vec<Packet>,
    /// Bytes of the largest.
    largest: usize,
    /// Where the record behind the last stands.
    next: Option<Fence>,
    /// That does not belong to them.
    is_whole: bool,
}

/// What the packets are, and how they are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    batch: Index,
    version: ProtocolVersion,
    retain: bool,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    place: Fence,
    /// Its place in the bytes.
    start: usize,
    end: usize,
    /// Bytes of the payloads up to its own.
    payload_bytes: usize,
}

impl Packets {
    /// The packets of up to `messages` from the one at `place` on, as far as `room` bytes go but one at
    /// least. None if that one has to be looked at by itself.
    fn from(
        &mut self,
        batch: &CommittedBatch,
        form: Form,
        place: Fence,
        messages: usize,
        room: usize,
    ) -> Range<usize> {
        let at = self.at(form, place).unwrap_or_else(|| self.begin(form, place));
        let end = at + messages;
        let start = self.packets.get(at).map_or(0, |packet| packet.start);
        self.extend(batch, form, end, start + room);
        let there = &self.packets[at..end.min(self.packets.len())];
        let fitting = there.partition_point(|packet| packet.end - start <= room);
        at..at + fitting.max(usize::from(!there.is_empty()))
    }

    /// Which of them is that at `place`.
    fn at(&self, form: Form, place: Fence) -> Option<usize> {
        let first = self.packets.first().filter(|_| self.form == Some(form))?;
        let at = place.ordinal.checked_sub(first.place.ordinal)? as usize;
        (at < self.packets.len()).then_some(at)
    }

    fn begin(&mut self, form: Form, place: Fence) -> usize {
        if self.bytes.capacity() > BYTES_KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.packets.clear();
        (self.form, self.largest) = (Some(form), 0);
        (self.next, self.is_whole) = (Some(place), false);
        0
    }

    /// Encodes on until there are so many packets, or bytes.
    fn extend(&mut self, batch: &CommittedBatch, form: Form, packets: usize, bytes: usize) {
        let Some(next) = self.next.filter(|_| !self.is_whole) else { return };
        let mut records = batch.batch().records_from(next).map_while(Result::ok).peekable();
        while self.packets.len() < packets && self.bytes.len() < bytes && !self.is_whole {
            let event = records.peek().and_then(|record| record.event().ok());
            let message = match event {
                Some(EventRef::MessagePublished(message)) => Some(message),
                Some(EventRef::Other(_)) | None => None,
            };
            let is_first = self.packets.is_empty();
            let message = message
                .filter(|message| message.message_expiry_interval.is_none())
                .filter(|message| is_first || message.topic == self.topic);
            let (Some(message), Some(record)) = (message, records.peek()) else {
                self.is_whole = true;
                break;
            };
            let (place, start) = (record.place(), self.bytes.len());
            if is_first {
                self.topic.clear();
                self.topic.push_str(message.topic);
            }
            let length = encode(&message, form.version, form.retain, &mut self.bytes);
            let before = self.packets.last().map_or(0, |packet| packet.payload_bytes);
            let (end, payload_bytes) = (start + length, before + message.payload.len());
            self.packets.push(Packet { place, start, end, payload_bytes });
            self.largest = self.largest.max(length);
            records.next();
        }
        self.next = records.peek().map(|record| record.place());
    }

    /// Where the message behind the packet before `at` stands.
    fn place(&self, at: usize) -> Option<Fence> {
        self.packets.get(at).map(|packet| packet.place).or(self.next)
    }
}

impl Shard {
    /// Copies what waits first for a connection, as far as its output has room, if that is at QoS 0 in
    /// a batch at hand. Says whether it did; if not, the first message has to be looked at.
    pub(super) fn copy_waiting(&mut self, now: Timestamp, token: Token) -> bool {
        let output_max = self.output_max();
        let Self { table, waiting, spare, stats, settings, .. } = self;
        let Some(client) = table.get_mut(token) else { return false };
        let Some(backlog) = client.backlog.as_mut() else { return false };
        let lane = backlog.lanes().into_iter().find(|lane| backlog.front(*lane).is_some());
        let Some(pending) = backlog.front(Lane::Owed).filter(|_| lane == Some(Lane::Owed)) else {
            return false;
        };
        let Source::Pinned(pin, place) = &pending.source else { return false };
        if pending.qos > QoS::AtMostOnce {
            return false;
        }
        let form =
            Form { batch: pin.batch.index, version: client.link.version, retain: pending.retain };
        let room = output_max.saturating_sub(client.link.unwritten().len());
        let messages = pending.messages as usize;
        let waiting = waiting.packets(form, *place);
        let found = waiting.from(&pin.batch, form, *place, messages, room);
        if found.is_empty()
            || !client.machine.takes_unchanged(waiting.largest)
            || !client.may_receive(&settings.rules, &waiting.topic)
            || !identifiers(client, &waiting.topic).is_empty()
        {
            return false;
        }
        let packets = &waiting.packets[found.clone()];
        let (start, end) = (packets[0].start, packets[packets.len() - 1].end);
        let before = found.start.checked_sub(1).map_or(0, |at| waiting.packets[at].payload_bytes);
        let payload_bytes = packets[packets.len() - 1].payload_bytes - before;
        let Some(backlog) = client.backlog.as_mut() else { return false };
        backlog.skip(packets.len(), waiting.place(found.end));
        client.link.copy(&waiting.bytes[start..end], packets.len() as u64, spare);
        stats.copied(packets.len() as u64, payload_bytes as u64);
        self.after(now, token);
        true
    }
}
