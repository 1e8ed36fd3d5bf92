//! Where pushed events wait for the log thread.

use std::collections::VecDeque;
use std::sync::Arc;

use ledgermq_core::event::BatchBuilder;
use ledgermq_core::event::batch::TARGET_BYTES;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::Timestamp;

use crate::class::Class;
use crate::envelope::{self, ENVELOPE_BYTES};
use crate::error::Full;
use crate::receipt::Pushed;
use crate::wake::Wake;

/// Bytes that may wait in all; messages get three quarters of it, openings seven eighths.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Room for the tables behind the records of a batch.
const TABLES_BYTES: usize = 4 << 10;
/// Batches below are copied out of their builder's buffer.
const COPIED_BYTES: usize = 16 << 10;
/// Builders kept for reuse by each producer.
const SPARE_MAX: usize = 4;

/// The queues of all producers of this process.
#[derive(Default)]
pub(crate) struct Staging {
    queues: Vec<Queue>,
    /// Start of the producers of now.
    start: u64,
    waiting_bytes: usize,
    /// The log's time, as the log thread said last.
    pub(crate) time: Timestamp,
    /// Queue whose turn it is.
    turn: usize,
    /// Pushes that found no room, by class.
    refused: [u64; 3],
    /// The log ends with what waits: nothing more is taken.
    is_closed: bool,
}

struct Queue {
    /// Batches must not be merged: each push has its own receipt.
    is_exact: bool,
    /// Sequence of the next batch.
    next: u64,
    batches: VecDeque<Staged>,
    spare: Vec<BatchBuilder>,
    wake: Arc<dyn Wake>,
    wants_room: bool,
}

/// A batch that waits.
pub(crate) struct Staged {
    producer: ProducerId,
    sequence: u64,
    /// When its first event was pushed.
    since: Timestamp,
    events: BatchBuilder,
}

impl Staged {
    /// Whose it is, and which of theirs.
    pub(crate) fn name(&self) -> (ProducerId, u64) {
        (self.producer, self.sequence)
    }

    /// The bytes of the batch in its envelope, which is still to be stamped. Leaves the builder
    /// empty.
    pub(crate) fn close(&mut self) -> Vec<u8> {
        close(&mut self.events, self.producer, self.sequence, self.since)
    }
}

/// The bytes of a batch of `events`, which are left empty and were pushed at `since` or later, in its
/// envelope, which is still to be stamped.
pub(crate) fn close(
    events: &mut BatchBuilder,
    producer: ProducerId,
    sequence: u64,
    since: Timestamp,
) -> Vec<u8> {
    // What it holds in memory is what it needs: the ring keeps many small ones. (A buffer that
    // is shrunk leaves a hole into which the next buffer does not fit.)
    let size = events.bytes().min(TARGET_BYTES);
    let mut closed = match size {
        ..COPIED_BYTES => events.finish_copied(),
        // The next batch is probably of the same size.
        _ => events.finish(Vec::with_capacity(size + TABLES_BYTES)),
    };
    if closed.capacity() > closed.len() / 3 * 4 {
        closed.shrink_to_fit();
    }
    envelope::close(&mut closed, producer, sequence, since);
    closed
}

/// What a batch counts for while it waits: the envelope, too, so that an empty one is seen.
fn weight(events: &BatchBuilder) -> usize {
    events.bytes() + ENVELOPE_BYTES
}

impl Staging {
    /// A new producer; its number is that of the queue.
    pub(crate) fn add(
        &mut self,
        node: u64,
        start: u64,
        is_exact: bool,
        wake: Arc<dyn Wake>,
    ) -> ProducerId {
        let local = u16::try_from(self.queues.len()).expect("few producers in a process");
        self.start = start;
        let id = ProducerId { node, start, local };
        self.queues.push(Queue {
            is_exact,
            next: 1,
            batches: VecDeque::new(),
            spare: Vec::new(),
            wake,
            wants_room: false,
        });
        id
    }

    /// See [`crate::Producer::push`].
    pub(crate) fn push(
        &mut self,
        producer: ProducerId,
        class: Class,
        events: &mut BatchBuilder,
    ) -> Result<Pushed, Full> {
        if self.is_closed {
            // Everybody is woken when the log has stopped.
            return Err(Full);
        }
        if producer.start != self.start {
            // It was woken, and is to look who it is now.
            return Err(Full);
        }
        let queue = &mut self.queues[usize::from(producer.local)];
        let share = match class {
            Class::Publish => WAITING_BYTES_MAX / 4 * 3,
            Class::Open => WAITING_BYTES_MAX / 8 * 7,
            Class::Progress => WAITING_BYTES_MAX,
        };
        // One larger message alone must pass, too.
        if self.waiting_bytes > 0 && self.waiting_bytes + weight(events) > share {
            queue.wants_room = true;
            self.refused[class as usize] += 1;
            return Err(Full);
        }
        if !queue.is_exact
            && let Some(last) = queue.batches.back_mut()
            && last.events.bytes() + events.bytes() <= TARGET_BYTES
        {
            // Together they are smaller: they share the sessions that both name.
            let before = last.events.bytes();
            let ordinal = last.events.absorb(events);
            self.waiting_bytes += last.events.bytes() - before;
            return Ok(Pushed { sequence: last.sequence, ordinal });
        }
        self.waiting_bytes += weight(events);
        let spare = queue.spare.pop().unwrap_or_else(|| BatchBuilder::new(ENVELOPE_BYTES));
        let events = std::mem::replace(events, spare);
        let sequence = queue.next;
        queue.next += 1;
        queue.batches.push_back(Staged { producer, sequence, since: self.time, events });
        Ok(Pushed { sequence, ordinal: 0 })
    }

    /// Refuses all pushes from now on: what waits is the last that the log takes.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Throws away what waits: all producers begin anew with `start` and sequence 1.
    pub(crate) fn renew(&mut self, start: u64) {
        self.start = start;
        self.waiting_bytes = 0;
        for queue in &mut self.queues {
            queue.batches.clear();
            queue.next = 1;
            queue.wants_room = false;
        }
        self.wake_all();
    }

    /// Takes batches in turn of the producers, up to about `bytes_max`, at least one if one waits.
    /// They are closed outside of the lock; their builders come back by [`Staging::give_back`].
    pub(crate) fn take(&mut self, bytes_max: usize, out: &mut Vec<Staged>) {
        let mut bytes = 0;
        let mut empty = 0;
        while bytes < bytes_max && empty < self.queues.len() {
            let at = self.turn % self.queues.len();
            self.turn = at + 1;
            let Some(staged) = self.queues[at].batches.pop_front() else {
                empty += 1;
                continue;
            };
            empty = 0;
            bytes += weight(&staged.events);
            out.push(staged);
        }
        self.waiting_bytes -= bytes;
    }

    /// Takes the emptied builders of closed batches back for their producers.
    pub(crate) fn give_back(&mut self, closed: impl Iterator<Item = Staged>) {
        for staged in closed {
            let queue = &mut self.queues[usize::from(staged.producer.local)];
            if queue.spare.len() < SPARE_MAX {
                queue.spare.push(staged.events);
            }
        }
    }

    /// Wakes the producers that were refused for want of room.
    pub(crate) fn wake_waiting(&mut self) {
        for queue in &mut self.queues {
            if std::mem::take(&mut queue.wants_room) {
                queue.wake.wake();
            }
        }
    }

    /// Wakes all producers: the log has stopped.
    pub(crate) fn wake_all(&self) {
        self.queues.iter().for_each(|queue| queue.wake.wake());
    }

    /// Pushes that found no room, by class.
    pub(crate) fn refused(&self) -> [u64; 3] {
        self.refused
    }

    /// Bytes that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use ledgermq_core::event::MessagePublished;
    use ledgermq_core::identity::ClientId;
    use ledgermq_core::offset::Offset;
    use ledgermq_core::packet::QoS;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn message(payload: &[u8]) -> MessagePublished<'_> {
        MessagePublished {
            qos: QoS::AtMostOnce,
            retain: false,
            packet_id: None,
            topic: "t",
            message_expiry_interval: None,
            properties: &[],
            payload,
        }
    }

    #[test]
    fn a_closed_batch_holds_little_more_memory_than_its_bytes() {
        for payload in [1, 100, 5_000, 60_000, 1_000_000] {
            let mut events = BatchBuilder::new(ENVELOPE_BYTES);
            let client = ClientId::from("c");
            let payload = vec![0; payload];
            events.publish(Some((&client, Offset::new(1, 0))), None, &message(&payload));
            let producer = ProducerId { node: 1, start: 1, local: 0 };
            let since = Timestamp::default();
            let closed = Staged { producer, sequence: 1, since, events }.close();
            let most = closed.len() / 3 * 4;
            assert!(closed.capacity() <= most, "{} for {}", closed.capacity(), closed.len());
        }
    }

    #[test]
    fn the_account_is_even_when_all_is_taken_also_of_merged_batches() {
        let mut staging = Staging::default();
        let producer = staging.add(1, 1, false, Arc::new(Nobody));
        let client = ClientId::from("a client of several batches");
        let message = message(b"x");
        for _ in 0..3 {
            let mut events = BatchBuilder::new(ENVELOPE_BYTES);
            events.publish(Some((&client, Offset::new(1, 0))), None, &message);
            staging.push(producer, Class::Publish, &mut events).unwrap();
        }
        let mut taken = Vec::new();
        staging.take(usize::MAX, &mut taken);
        assert_eq!(taken.len(), 1);
        assert_eq!(staging.waiting_bytes(), 0);
    }

    #[test]
    fn a_batch_without_events_waits_like_any_other() {
        let mut staging = Staging::default();
        let producer = staging.add(1, 1, false, Arc::new(Nobody));
        let mut events = BatchBuilder::new(ENVELOPE_BYTES);
        staging.push(producer, Class::Publish, &mut events).unwrap();
        assert!(staging.waiting_bytes() > 0, "the log thread must see it");
        let mut taken = Vec::new();
        staging.take(usize::MAX, &mut taken);
        assert_eq!((taken.len(), staging.waiting_bytes()), (1, 0));
    }
}
