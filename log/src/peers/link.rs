//! What the sending side and the thread with the sockets share.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::{Poll, Token, Waker};

use crate::cluster::exchange::{JoinAnswer, Local, Sent, Traffic, Volume};
use crate::cluster::frame::{Frame, Lane};
use crate::cluster::members::Members;
use crate::wake::Wake;

/// The token of the bell.
pub(super) const BELL: Token = Token(0);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the thread, once until it has looked.
#[derive(Debug)]
pub(super) struct Bell {
    waker: Waker,
    is_rung: AtomicBool,
}

impl Bell {
    /// The thread looks now: whoever comes after this rings again.
    pub(super) fn answer(&self) {
        self.is_rung.store(false, Ordering::SeqCst);
    }
}

impl Wake for Bell {
    fn wake(&self) {
        if !self.is_rung.swap(true, Ordering::SeqCst) {
            // It fails only where the system is out of its senses; the thread looks again anyway
            // when its time has come.
            let _ = self.waker.wake();
        }
    }
}

/// What both sides have in hand.
#[derive(Debug)]
pub(super) struct Shared {
    bell: Arc<Bell>,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    local: Mutex<Update>,
    pub(super) answers: Mutex<Vec<(u64, JoinAnswer)>>,
    pub(super) resolved: Mutex<Vec<super::resolve::Resolved>>,
    pub(super) is_stopping: AtomicBool,
}

/// What the log thread said last.
#[derive(Debug, Default)]
struct Update {
    fresh: Option<Local>,
    members: Arc<Members>,
}

/// The buffers towards one peer.
#[derive(Debug, Default)]
pub(super) struct Link {
    lanes: [Mutex<Outgoing>; 3],
    sent: [Counted; 3],
    received: [Counted; 3],
}

/// Frames and bytes of a lane in one direction, since the process started.
#[derive(Debug, Default)]
struct Counted {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Counted {
    fn add(&self, bytes: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Volume {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Volume { frames: read(&self.frames), bytes: read(&self.bytes) }
    }
}

/// What waits on a lane.
#[derive(Debug, Default)]
struct Outgoing {
    is_up: bool,
    bytes: Vec<u8>,
    /// Bytes that the thread has taken and not written.
    taken: usize,
}

impl Shared {
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        let waker = Waker::new(poll.registry(), BELL)?;
        Ok(Self {
            bell: Arc::new(Bell { waker, is_rung: AtomicBool::new(false) }),
            links: Mutex::default(),
            local: Mutex::default(),
            answers: Mutex::default(),
            resolved: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        })
    }

    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    pub(super) fn wake(&self) {
        self.bell.wake();
    }

    /// Takes in what the log thread knows. The thread is woken only if somebody else may have to be
    /// dialled: it looks in any case before it says or hears a greeting.
    pub(super) fn update(&self, local: &Local) {
        let is_news = {
            let mut update = lock(&self.local);
            let is_news = !Arc::ptr_eq(&update.members, &local.members);
            update.members = Arc::clone(&local.members);
            update.fresh = Some(local.clone());
            is_news
        };
        if is_news {
            self.wake();
        }
    }

    /// What is new since the last time.
    pub(super) fn take_update(&self) -> Option<Local> {
        lock(&self.local).fresh.take()
    }

    /// Puts a frame into the buffer of its lane.
    pub(super) fn send(&self, to: u64, frame: &Frame) -> Sent {
        let link = lock(&self.links).get(&to).map(Arc::clone);
        let sent = link.map_or(Sent::Down, |link| link.push(to, frame));
        if sent == Sent::Taken {
            self.wake();
        }
        sent
    }

    /// What went to `peer` and came from it.
    pub(super) fn traffic(&self, peer: u64) -> Traffic {
        let link = lock(&self.links).get(&peer).map(Arc::clone);
        link.map_or_else(Traffic::default, |link| Traffic {
            sent: link.sent.each_ref().map(Counted::read),
            received: link.received.each_ref().map(Counted::read),
        })
    }

    /// The buffers towards `peer`, made if it is new.
    pub(super) fn link(&self, peer: u64) -> Arc<Link> {
        Arc::clone(lock(&self.links).entry(peer).or_default())
    }
}

impl Link {
    fn lane(&self, lane: Lane) -> MutexGuard<'_, Outgoing> {
        lock(&self.lanes[lane as usize])
    }

    fn push(&self, to: u64, frame: &Frame) -> Sent {
        let lane = frame.lane();
        let mut outgoing = self.lane(lane);
        if !outgoing.is_up {
            return Sent::Down;
        }
        let waiting = outgoing.taken + outgoing.bytes.len();
        let max = lane.send_bytes_max();
        if waiting >= max {
            return Sent::Full;
        }
        let start = outgoing.bytes.len();
        if let Err(error) = frame.encode(&mut outgoing.bytes) {
            tracing::error!(peer = to, %error, "a frame cannot be sent");
            return Sent::Full;
        }
        // A frame larger than the buffer goes alone.
        if waiting > 0 && outgoing.taken + outgoing.bytes.len() > max {
            outgoing.bytes.truncate(start);
            return Sent::Full;
        }
        self.sent[lane as usize].add(outgoing.bytes.len() - start);
        Sent::Taken
    }

    /// A frame of `bytes` bytes has come.
    pub(super) fn received(&self, lane: Lane, bytes: usize) {
        self.received[lane as usize].add(bytes);
    }

    /// The session is up, or over: what waited belongs to the one before.
    pub(super) fn set_up(&self, is_up: bool) {
        for lane in Lane::ALL {
            *self.lane(lane) = Outgoing { is_up, ..Outgoing::default() };
        }
    }

    /// Takes what waits into `out`, which is empty.
    pub(super) fn take(&self, lane: Lane, out: &mut Vec<u8>) {
        let mut outgoing = self.lane(lane);
        std::mem::swap(&mut outgoing.bytes, out);
        outgoing.taken = out.len();
    }

    /// So much of what was taken is not written yet.
    pub(super) fn set_taken(&self, lane: Lane, bytes: usize) {
        self.lane(lane).taken = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::frame::{Answer, Forward};

    fn forward(bytes: usize) -> Frame {
        Frame::Forward(Forward { term: 1, batches: vec![vec![0; bytes].into()] })
    }

    #[test]
    fn a_lane_takes_what_fits_and_one_larger_frame_alone() {
        let link = Link::default();
        assert_eq!(link.push(2, &forward(1)), Sent::Down);
        link.set_up(true);
        assert_eq!(link.push(2, &forward(10 << 20)), Sent::Taken);
        assert_eq!(link.push(2, &forward(1)), Sent::Full);
        assert_eq!(link.push(2, &Frame::Answer { id: 1, answer: Answer::Done }), Sent::Taken);
        let mut out = Vec::new();
        link.take(Lane::Log, &mut out);
        assert_eq!(link.push(2, &forward(1)), Sent::Full, "it is not written yet");
        link.set_taken(Lane::Log, 1 << 20);
        assert_eq!(link.push(2, &forward(8 << 20)), Sent::Full);
        assert_eq!(link.push(2, &forward(6 << 20)), Sent::Taken);
        link.set_taken(Lane::Log, 0);
        let before = link.lane(Lane::Log).bytes.len();
        assert_eq!(link.push(2, &forward(3 << 20)), Sent::Full);
        assert_eq!(link.lane(Lane::Log).bytes.len(), before, "nothing of it was taken");
        link.set_up(false);
        assert_eq!(link.push(2, &forward(1)), Sent::Down);
    }

    #[test]
    fn a_frame_that_no_peer_takes_is_not_sent() {
        let link = Link::default();
        link.set_up(true);
        assert_eq!(link.push(2, &forward(21 << 20)), Sent::Full);
        assert_eq!(link.lane(Lane::Log).bytes.len(), 0);
    }
}
