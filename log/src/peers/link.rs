//! What waits for the sockets towards each peer, and the bell of who waits at them.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Poll, Token, Waker};

use crate::cluster::exchange::{Sent, Traffic, Volume};
use crate::cluster::frame::{Frame, Lane};
use crate::wake::Wake;

/// The token of the bell.
pub(super) const BELL: Token = Token(0);

/// Wakes the thread that waits at the sockets, once until it has looked.
#[derive(Debug)]
pub(super) struct Bell {
    waker: Waker,
    is_rung: AtomicBool,
}

impl Bell {
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        let waker = Waker::new(poll.registry(), BELL)?;
        Ok(Self { waker, is_rung: AtomicBool::new(false) })
    }

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

/// The buffers towards all peers.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<u64, Link>);

/// The buffers towards one peer.
#[derive(Debug, Default)]
pub(super) struct Link {
    lanes: [Outgoing; 3],
    traffic: Traffic,
}

/// What waits on a lane.
#[derive(Debug, Default)]
struct Outgoing {
    is_up: bool,
    bytes: Vec<u8>,
    /// Bytes that the connection has taken and not written.
    taken: usize,
}

impl Links {
    /// The buffers towards `peer`, made if it is new.
    pub(super) fn to(&mut self, peer: u64) -> &mut Link {
        self.0.entry(peer).or_default()
    }

    /// Puts a frame into the buffer of its lane.
    pub(super) fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        self.0.get_mut(&to).map_or(Sent::Down, |link| link.push(to, frame))
    }

    /// What went to `peer` and came from it.
    pub(super) fn traffic(&self, peer: u64) -> Traffic {
        self.0.get(&peer).map_or_else(Traffic::default, |link| link.traffic)
    }
}

impl Link {
    fn push(&mut self, to: u64, frame: &Frame) -> Sent {
        let lane = frame.lane();
        let outgoing = &mut self.lanes[lane as usize];
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
        add(&mut self.traffic.sent[lane as usize], outgoing.bytes.len() - start);
        Sent::Taken
    }

    /// A frame of `bytes` bytes has come.
    pub(super) fn received(&mut self, lane: Lane, bytes: usize) {
        add(&mut self.traffic.received[lane as usize], bytes);
    }

    /// The session is up, or over: what waited belongs to the one before.
    pub(super) fn set_up(&mut self, is_up: bool) {
        self.lanes = [(); 3].map(|()| Outgoing { is_up, ..Outgoing::default() });
    }

    /// Takes what waits into `out`, which is empty.
    pub(super) fn take(&mut self, lane: Lane, out: &mut Vec<u8>) {
        let outgoing = &mut self.lanes[lane as usize];
        std::mem::swap(&mut outgoing.bytes, out);
        outgoing.taken = out.len();
    }

    /// Takes what waits, behind what `out` still has.
    pub(super) fn take_rest(&mut self, lane: Lane, out: &mut Vec<u8>) {
        out.append(&mut self.lanes[lane as usize].bytes);
    }

    /// So much of what was taken is not written yet.
    pub(super) fn set_taken(&mut self, lane: Lane, bytes: usize) {
        self.lanes[lane as usize].taken = bytes;
    }
}

fn add(volume: &mut Volume, bytes: usize) {
    volume.frames += 1;
    volume.bytes += bytes as u64;
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
        let mut link = Link::default();
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
        let before = link.lanes[Lane::Log as usize].bytes.len();
        assert_eq!(link.push(2, &forward(3 << 20)), Sent::Full);
        let after = link.lanes[Lane::Log as usize].bytes.len();
        assert_eq!(after, before, "nothing of it was taken");
        link.set_up(false);
        assert_eq!(link.push(2, &forward(1)), Sent::Down);
    }

    #[test]
    fn a_frame_that_no_peer_takes_is_not_sent() {
        let mut link = Link::default();
        link.set_up(true);
        assert_eq!(link.push(2, &forward(21 << 20)), Sent::Full);
        assert_eq!(link.lanes[Lane::Log as usize].bytes.len(), 0);
    }
}
