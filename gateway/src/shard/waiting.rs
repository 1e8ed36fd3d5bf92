//! Messages of QoS 0 that wait for many connections alike: encoded once, and copied to each.
//!
//! What [`copying`](crate::shard::copying) is for messages that come, this is for those that found no
//! room in an output and wait in their batch. Subscribers of one topic wait for the same ones, mostly,
//! and go through them one subscriber after the other.

use std::ops::Range;

use ledgermq_core::event::EventRef;
use ledgermq_core::event::batch::{Fence, Record};
use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_core::packet::{ProtocolVersion, QoS};
use ledgermq_log::CommittedBatch;

use crate::shard::Shard;
use crate::shard::backlog::{Lane, Source};
use crate::shard::copying::encode;
use crate::shard::draining::identifiers;
use crate::shard::table::Token;

/// Runs that are kept: connections go through as many batches, one by one, as a sync of the log makes
/// durable.
const RUNS_MAX: usize = 16;
/// Memory that they may have, but for that in hand.
const BYTES_MAX: usize = 4 << 20;

/// What was encoded last for connections that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    runs: Vec<Packets>,
    /// The one that is the next to be given up.
    oldest: usize,
}

/// Messages to one topic that follow each other in a batch, and do not expire, as packets.
#[derive(Debug)]
struct Packets {
    kind: Kind,
    topic: String,
    bytes: Vec<u8>,
    /// Place of the first message in the batch.
    first: Fence,
    packets: Vec<Packet>,
    /// Bytes of the largest.
    largest: usize,
    /// Where the record behind the last one stands.
    next: Option<Fence>,
    /// The record at `next` is not to be one of them.
    is_whole: bool,
}

/// What packets are, and how they are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    batch: Index,
    version: ProtocolVersion,
    retain: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Packet {
    place: Option<Fence>,
    /// Where it ends in the bytes.
    end: usize,
    /// Bytes of the payloads up to its own.
    payload_bytes: usize,
}

impl Waiting {
    /// The packets that have the message at `place`, or end before it. None if it has to be looked at
    /// by itself.
    fn packets(
        &mut self,
        batch: &CommittedBatch,
        kind: Kind,
        place: Fence,
    ) -> Option<&mut Packets> {
        if let Some(at) = self.runs.iter().position(|run| run.at(kind, place).is_some()) {
            return Some(&mut self.runs[at]);
        }
        let begun = Packets::begin(batch, kind, place)?;
        let bytes: usize = self.runs.iter().map(Packets::held_bytes).sum();
        if bytes > BYTES_MAX {
            self.runs.clear();
        }
        if self.runs.len() < RUNS_MAX {
            self.runs.push(begun);
            return self.runs.last_mut();
        }
        let at = self.oldest % RUNS_MAX;
        self.oldest = at + 1;
        self.runs[at] = begun;
        Some(&mut self.runs[at])
    }
}

impl Packets {
    /// With the message at `place`, which is not encoded yet.
    fn begin(batch: &CommittedBatch, kind: Kind, place: Fence) -> Option<Self> {
        let record = batch.batch().record_at(place).ok()?;
        let EventRef::MessagePublished(message) = record.event().ok()? else { return None };
        if message.message_expiry_interval.is_some() {
            return None;
        }
        Some(Self {
            kind,
            topic: message.topic.to_owned(),
            bytes: Vec::new(),
            first: place,
            packets: Vec::new(),
            largest: 0,
            next: Some(place),
            is_whole: false,
        })
    }

    /// Which of them is that at `place`; the next one may be, too.
    fn at(&self, kind: Kind, place: Fence) -> Option<usize> {
        let at = place.ordinal.checked_sub(self.first.ordinal).filter(|_| self.kind == kind)?;
        let at = usize::try_from(at).ok()?;
        let is_next = at == self.packets.len() && !self.is_whole && self.next == Some(place);
        (at < self.packets.len() || is_next).then_some(at)
    }

    /// Up to `messages` of them from the one at `place` on, as far as `room` bytes go but one at least.
    fn some(
        &mut self,
        batch: &CommittedBatch,
        place: Fence,
        messages: usize,
        room: usize,
    ) -> Range<usize> {
        let at = self.at(self.kind, place).unwrap_or(self.packets.len());
        let start = self.before(at).end;
        self.extend(batch, at + messages, start + room);
        let there = &self.packets[at..self.packets.len().min(at + messages)];
        let fitting = there.partition_point(|packet| packet.end - start <= room);
        at..at + fitting.max(usize::from(!there.is_empty()))
    }

    /// Encodes on until there are so many packets, or bytes.
    fn extend(&mut self, batch: &CommittedBatch, packets: usize, bytes: usize) {
        let Some(next) = self.next.filter(|_| !self.is_whole) else { return };
        let mut records = batch.batch().records_from(next).map_while(Result::ok).peekable();
        while self.packets.len() < packets && self.bytes.len() < bytes {
            if !records.peek().is_some_and(|record| self.push(record)) {
                self.is_whole = true;
                break;
            }
            records.next();
        }
        self.next = records.peek().map(Record::place);
    }

    /// Encodes the message of a record if it is one of them.
    fn push(&mut self, record: &Record<'_>) -> bool {
        let Ok(EventRef::MessagePublished(message)) = record.event() else { return false };
        if message.message_expiry_interval.is_some() || message.topic != self.topic {
            return false;
        }
        let Kind { version, retain, .. } = self.kind;
        let length = encode(&message, version, retain, &mut self.bytes);
        let payload_bytes = self.before(self.packets.len()).payload_bytes + message.payload.len();
        let (place, end) = (Some(record.place()), self.bytes.len());
        self.packets.push(Packet { place, end, payload_bytes });
        self.largest = self.largest.max(length);
        true
    }

    /// What the packets before that `at` come to.
    fn before(&self, at: usize) -> Packet {
        at.checked_sub(1).map_or_else(Packet::default, |last| self.packets[last])
    }

    /// Where the message behind the packets before `end` stands.
    fn behind(&self, end: usize) -> Option<Fence> {
        self.packets.get(end).map_or(self.next, |packet| packet.place)
    }

    fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.packets.capacity() * size_of::<Packet>()
    }
}

impl Shard {
    /// Copies what waits first for a connection, as far as its output has room, if that is at QoS 0 in
    /// a batch at hand. Says whether it did; if not, the first message has to be looked at by itself.
    pub(super) fn copy_waiting(&mut self, now: Timestamp, token: Token) -> bool {
        let Some(client) = self.table.get(token) else { return false };
        let output_max = self.output_max(&client.link);
        let Self { table, waiting, spare, stats, settings, .. } = self;
        let Some(client) = table.get_mut(token) else { return false };
        let Some(backlog) = &client.backlog else { return false };
        let lane = backlog.lanes().into_iter().find(|lane| backlog.front(*lane).is_some());
        let Some(pending) = lane.and_then(|lane| backlog.front(lane)) else { return false };
        let Source::Pinned(pin, place) = &pending.source else { return false };
        if lane != Some(Lane::Owed)
            || pending.qos > QoS::AtMostOnce
            || !client.machine.takes_unchanged(0)
        {
            return false;
        }
        let (batch, version, retain) = (&pin.batch, client.link.version, pending.retain);
        let kind = Kind { batch: batch.index, version, retain };
        let Some(run) = waiting.packets(batch, kind, *place) else { return false };
        if !client.may_receive(&settings.rules, &run.topic)
            || !identifiers(client, &run.topic).is_empty()
        {
            return false;
        }
        let room = output_max.saturating_sub(client.link.unwritten().len());
        let some = run.some(batch, *place, pending.messages as usize, room);
        if some.is_empty() || !client.machine.takes_unchanged(run.largest) {
            return false;
        }
        let (before, upto) = (run.before(some.start), run.before(some.end));
        let messages = some.len() as u64;
        let bytes = &run.bytes[before.end..upto.end];
        if let Some(backlog) = &mut client.backlog {
            backlog.skip(some.len(), run.behind(some.end));
        }
        client.link.copy(bytes, messages, spare);
        stats.copied(messages, (upto.payload_bytes - before.payload_bytes) as u64);
        self.after(now, token);
        true
    }
}
