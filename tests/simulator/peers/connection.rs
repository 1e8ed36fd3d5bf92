//! One connection: what each end knows of it, and what has reached, or will reach, each end.

use std::collections::VecDeque;
use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::peers::{Event, Sent};

/// A lane between two nodes: the connection there is, or the last one there was.
#[derive(Debug)]
pub(super) struct Connection<P> {
    /// Of the lower node, of the higher.
    pub(super) ends: [End<P>; 2],
    /// Bytes reach the other side.
    pub(super) is_whole: bool,
    /// Number of the connection: an end that knows an older one talks to nobody.
    number: u64,
    /// When each end loses its patience with a path that is cut.
    pub(super) gives_up: Option<[Timestamp; 2]>,
}

/// One end.
#[derive(Debug)]
pub(super) struct End<P> {
    pub(super) knows: Knows,
    inbox: VecDeque<(Timestamp, Arrival<P>)>,
    /// Bytes of the frames in `inbox`.
    inbox_bytes: usize,
    /// Bytes that it sent to nobody.
    void_bytes: usize,
    /// Until then its slow path is busy with what it sent.
    busy_until: Timestamp,
}

/// What reaches an end.
#[derive(Debug)]
enum Arrival<P> {
    /// The connection with this number.
    Connected(u64),
    Disconnected,
    Frame(P),
}

/// What an end knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knows {
    Nothing,
    Dialing,
    /// A connection with this number.
    Open(u64),
}

impl<P> Default for Connection<P> {
    fn default() -> Self {
        let ends = [(); 2].map(|()| End {
            knows: Knows::Nothing,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            void_bytes: 0,
            busy_until: Timestamp(0),
        });
        Self { ends, is_whole: false, number: 0, gives_up: None }
    }
}

impl<P: AsRef<[u8]>> Connection<P> {
    /// `own` dials in vain, and knows it at `at`.
    pub(super) fn fail(&mut self, own: usize, at: Timestamp) {
        self.ends[own].knows = Knows::Dialing;
        self.ends[own].push(at, Arrival::Disconnected);
    }

    /// `own` dials: a new connection, known to the other end and to itself at the times given. By
    /// then the other end has learned that there is no older one.
    pub(super) fn open(&mut self, own: usize, [there, back]: [Timestamp; 2]) {
        self.is_whole = true;
        self.number += 1;
        let other = &mut self.ends[1 - own];
        other.inbox.iter_mut().for_each(|(at, _)| *at = there.min(*at));
        other.push(there, Arrival::Disconnected);
        other.push(there, Arrival::Connected(self.number));
        self.ends[own].knows = Knows::Dialing;
        self.ends[own].push(back, Arrival::Connected(self.number));
    }

    /// It breaks. What travels is lost, what arrived may be read; each end learns of it at its time.
    /// `cuts`: since when nothing reaches each end.
    pub(super) fn fall(
        &mut self,
        now: Timestamp,
        cuts: [Option<Timestamp>; 2],
        learn: [Timestamp; 2],
    ) {
        if !std::mem::take(&mut self.is_whole) {
            return;
        }
        self.gives_up = None;
        for ((end, cut), learn) in self.ends.iter_mut().zip(cuts).zip(learn) {
            let arrived = cut.map_or(now, |cut| cut.min(now));
            end.keep(|at, arrival| at <= arrived || matches!(arrival, Arrival::Disconnected));
            end.push(learn.max(now), Arrival::Disconnected);
        }
    }

    /// The process at this end is gone, and with it what it knew.
    pub(super) fn clear(&mut self, own: usize) {
        self.ends[own].knows = Knows::Nothing;
        self.ends[own].keep(|_, _| false);
    }

    /// Whether `own` may send so many bytes more on a lane of `lane_bytes`.
    pub(super) fn take(&mut self, own: usize, bytes: usize, lane_bytes: usize) -> Sent {
        let Knows::Open(_) = self.ends[own].knows else { return Sent::Down };
        let carries = self.carries(own);
        let under_way =
            if carries { self.ends[1 - own].inbox_bytes } else { self.ends[own].void_bytes };
        if under_way > 0 && under_way + bytes > lane_bytes {
            return Sent::Full;
        }
        if !carries {
            self.ends[own].void_bytes += bytes;
        }
        Sent::Taken
    }

    /// Whether the connection that `own` knows reaches the other end.
    pub(super) fn carries(&self, own: usize) -> bool {
        self.is_whole && self.ends[own].knows == Knows::Open(self.number)
    }

    /// When a frame has left `own`, over a path of so many bytes in a second.
    pub(super) fn leaves(
        &mut self,
        own: usize,
        now: Timestamp,
        bytes: usize,
        pace: Option<u64>,
    ) -> Timestamp {
        let Some(pace) = pace else { return now };
        let end = &mut self.ends[own];
        let micros = bytes as u64 * 1_000_000 / pace;
        end.busy_until = end.busy_until.max(now).plus(Duration::from_micros(micros));
        end.busy_until
    }

    /// How many frames under way from `own` another could be put before.
    pub(super) fn overtakable(&self, own: usize) -> usize {
        let inbox = &self.ends[1 - own].inbox;
        inbox.iter().rev().take_while(|(_, arrival)| matches!(arrival, Arrival::Frame(_))).count()
    }

    /// A frame of `own` that arrives at `at`, behind all before it but the last `ahead`.
    pub(super) fn carry(&mut self, own: usize, at: Timestamp, ahead: usize, frame: P) {
        let end = &mut self.ends[1 - own];
        if ahead == 0 {
            return end.push(at, Arrival::Frame(frame));
        }
        let place = end.inbox.len() - ahead;
        let (at, _) = end.inbox[place];
        end.inbox_bytes += frame.as_ref().len();
        end.inbox.insert(place, (at, Arrival::Frame(frame)));
    }

    /// When the next thing reached this end, if it did: of what came after `held_since` only what
    /// the end finds out by itself.
    pub(super) fn due(
        &self,
        own: usize,
        now: Timestamp,
        held_since: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let (at, arrival) = self.ends[own].inbox.front()?;
        let is_held = held_since.is_some_and(|since| *at > since)
            && !matches!(arrival, Arrival::Disconnected);
        (*at <= now && !is_held).then_some(*at)
    }

    /// Takes what is due; none if it is no news.
    pub(super) fn next(&mut self, own: usize) -> Option<Event<P>> {
        let end = &mut self.ends[own];
        let (_, arrival) = end.inbox.pop_front()?;
        match arrival {
            Arrival::Connected(number) => {
                end.knows = Knows::Open(number);
                end.void_bytes = 0;
                end.busy_until = Timestamp(0);
                Some(Event::Connected)
            }
            Arrival::Disconnected => {
                let knew = std::mem::replace(&mut end.knows, Knows::Nothing);
                (knew != Knows::Nothing).then_some(Event::Disconnected)
            }
            Arrival::Frame(frame) => {
                end.inbox_bytes -= frame.as_ref().len();
                Some(Event::Frame(frame))
            }
        }
    }

    /// What is under way is there at `at` at the latest.
    pub(super) fn hasten(&mut self, at: Timestamp) {
        for end in &mut self.ends {
            end.inbox.iter_mut().for_each(|(due, _)| *due = at.min(*due));
            end.busy_until = at.min(end.busy_until);
        }
    }

    /// What was to reach this end after `since` reaches it at `at` at the earliest.
    pub(super) fn delay(&mut self, own: usize, since: Timestamp, at: Timestamp) {
        let late = self.ends[own].inbox.iter_mut().filter(|(due, _)| *due > since);
        late.for_each(|(due, _)| *due = at.max(*due));
    }
}

impl<P: AsRef<[u8]>> End<P> {
    /// Puts it behind all that comes before.
    fn push(&mut self, at: Timestamp, arrival: Arrival<P>) {
        if let Arrival::Frame(frame) = &arrival {
            self.inbox_bytes += frame.as_ref().len();
        }
        let last = self.inbox.back().map_or(at, |(last, _)| *last);
        self.inbox.push_back((at.max(last), arrival));
    }

    fn keep(&mut self, keeps: impl Fn(Timestamp, &Arrival<P>) -> bool) {
        self.inbox.retain(|(at, arrival)| keeps(*at, arrival));
        let bytes = self.inbox.iter().map(|(_, arrival)| match arrival {
            Arrival::Frame(frame) => frame.as_ref().len(),
            Arrival::Connected(_) | Arrival::Disconnected => 0,
        });
        self.inbox_bytes = bytes.sum();
    }
}
