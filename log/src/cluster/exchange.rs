//! Between the log and the sockets to the other nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ledgermq_core::offset::Index;

use crate::cluster::frame::{Frame, Hello, Join, Joined, Lane, Refusal};
use crate::cluster::members::Members;

/// What the log is told of the peers.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerInput {
    /// All lanes to a peer are up; what was sent to it before is lost.
    Connected {
        /// The peer.
        peer: u64,
        /// What it said of itself.
        hello: Hello,
    },
    /// A peer that knows of newer members than this node has greeted. Not all lanes are up yet, and
    /// they may never be: it refuses this node if its disk was rolled back.
    Greeted {
        /// The peer.
        peer: u64,
        /// The last change of the members of which it knows.
        members: Index,
    },
    /// A lane broke: all of them are down, and what was under way may be lost.
    Disconnected {
        /// The peer.
        peer: u64,
    },
    /// A frame, checked by [`crate::cluster::frame::admit`].
    Frame {
        /// The peer.
        from: u64,
        /// What it said.
        frame: Frame,
    },
    /// A node asks to be let in; it waits half a minute for [`Peers::answer`].
    Join {
        /// Number for the answer.
        id: u64,
        /// What it asks.
        request: Join,
    },
    /// A peer does not want to speak with this node. It is tried again, whatever the reason.
    Refused {
        /// The peer.
        by: u64,
        /// Its reason.
        refusal: Refusal,
    },
}

/// What became of a frame that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way. It may be lost if the peer is disconnected.
    Taken,
    /// The peer is not connected.
    Down,
    /// As much as may wait on its lane is waiting; nothing of it was taken.
    Full,
}

/// The answer to a node that asks to be let in.
pub type JoinAnswer = Result<Joined, Refusal>;

/// What this node knows, as far as greetings say or check it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The members.
    pub members: Arc<Members>,
    /// The own start epoch.
    pub start: u64,
    /// Index and term of the last durable entry.
    pub last: (Index, u64),
    /// What is known to be committed.
    pub commit: Index,
    /// First entry of the log.
    pub first: Index,
    /// Nodes that have left, and that raft needs until the change by which they leave is finished and
    /// known here: without them the others may be no quorum.
    pub leaving: BTreeSet<u64>,
    /// The newest start epoch of each node as which a process is known to have run.
    pub starts: BTreeMap<u64, u64>,
}

impl Local {
    /// Whether `node` has left the cluster, and nobody needs it any more.
    #[must_use]
    pub fn has_left(&self, node: u64) -> bool {
        self.members.retired.contains(&node) && !self.leaving.contains(&node)
    }
}

/// What went to a peer and came from it since the process started, by lane in the order of
/// [`Lane::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What was sent, or is about to be.
    pub sent: [Volume; 3],
    /// What came.
    pub received: [Volume; 3],
}

/// A number of frames, and their bytes without those of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The way to the peers: through sockets, or a simulated network.
pub trait Peers: Send {
    /// Sends a frame on its lane. Never blocks.
    fn send(&mut self, to: u64, frame: &Frame) -> Sent;
    /// Has go what was sent, as much as the system takes: what follows in the turn may take long.
    fn flush(&mut self) {}
    /// From now on greetings say this, and these members are dialled. Told at ticks, and at once when
    /// the process takes another number.
    fn update(&mut self, local: &Local);
    /// Answers a node that asked to be let in; nothing if it does not wait any more.
    fn answer(&mut self, id: u64, answer: JoinAnswer);
    /// What went to a peer and came from it; nothing where nobody counts.
    fn traffic(&self, _peer: u64) -> Traffic {
        Traffic::default()
    }
}

/// The way of a node that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn send(&mut self, _to: u64, _frame: &Frame) -> Sent {
        Sent::Down
    }

    fn update(&mut self, _local: &Local) {}

    fn answer(&mut self, _id: u64, _answer: JoinAnswer) {}
}

/// Bytes that an event without a frame counts for.
const EVENT_BYTES: usize = 512;
/// What must not wait is taken beyond the bound, up to as much more.
const PULSE_BYTES_MAX: usize = 4 << 20;

/// What peers have said and the log has not taken yet.
///
/// When as many bytes wait as may, the lanes are no longer read, but for [`Lane::Pulse`]; should
/// those frames pile up, too, they are dropped: raft says them again.
#[derive(Debug)]
pub struct Inbox {
    items: VecDeque<PeerInput>,
    bytes: usize,
    bytes_max: usize,
}

impl Inbox {
    /// An empty inbox for `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Takes everything.
    pub fn drain(&mut self) -> impl Iterator<Item = PeerInput> {
        self.bytes = 0;
        self.items.drain(..)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether as much waits as may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Takes in a frame of `bytes` bytes. Ask [`Self::is_full`] before, but on [`Lane::Pulse`].
    pub fn push_frame(&mut self, from: u64, frame: Frame, lane: Lane, bytes: usize) {
        if lane == Lane::Pulse && self.bytes >= self.bytes_max + PULSE_BYTES_MAX {
            return;
        }
        self.push(PeerInput::Frame { from, frame }, bytes);
    }

    /// Takes in something that is no frame. There are few of them.
    pub fn push_event(&mut self, event: PeerInput) {
        self.push(event, EVENT_BYTES);
    }

    /// Takes in a request to join of `bytes` bytes: anybody can send one. Ask [`Self::is_full`] before.
    pub fn push_join(&mut self, id: u64, request: Join, bytes: usize) {
        self.push(PeerInput::Join { id, request }, bytes.max(EVENT_BYTES));
    }

    fn push(&mut self, input: PeerInput, bytes: usize) {
        self.bytes += bytes;
        self.items.push_back(input);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse() -> Frame {
        Frame::Pulse(Box::default())
    }

    #[test]
    fn a_full_inbox_says_so_until_it_is_emptied() {
        let mut inbox = Inbox::new(1000);
        inbox.push_frame(2, pulse(), Lane::Log, 600);
        assert!(!inbox.is_full());
        inbox.push_frame(2, pulse(), Lane::Log, 600);
        assert!(inbox.is_full());
        assert_eq!(inbox.drain().count(), 2);
        assert!(!inbox.is_full() && inbox.is_empty());
    }

    #[test]
    fn pulses_pass_a_full_inbox_within_a_bound() {
        let mut inbox = Inbox::new(1000);
        let bytes = 1 << 20;
        for _ in 0..20 {
            inbox.push_frame(2, pulse(), Lane::Pulse, bytes);
        }
        assert_eq!(inbox.drain().count(), 5);
    }
}
