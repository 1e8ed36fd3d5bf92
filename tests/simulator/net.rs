//! Frames between nodes, through the real codec.

use std::collections::BTreeMap;

use ledgermq_core::offset::Timestamp;
use ledgermq_log::cluster::frame::{admit, split};
use ledgermq_log::cluster::{
    ClusterId, Frame, Hello, JoinAnswer, Local, PeerInput, Peers, Sent, frame,
};

use raft::eraftpb::MessageType;

use crate::peers::{Event, Habits, Lane, Links, Sent as LinkSent};
use crate::rng::Rng;

/// Lanes that a peer must have to count as connected.
const NEEDED: [Lane; 3] = [Lane::Log, Lane::Pulse, Lane::Bulk];

/// All links, and who knows of whom.
pub(crate) struct Net {
    pub(crate) links: Links<Vec<u8>>,
    /// By node and peer: which of [`NEEDED`] are there.
    up: BTreeMap<(u64, u64), [bool; 3]>,
    /// What each process says of itself when it greets. Before it has said so, it greets nobody.
    locals: BTreeMap<u64, Local>,
}

/// The way out of one node, for a turn.
pub(crate) struct Out<'a> {
    pub(crate) node: u64,
    pub(crate) now: Timestamp,
    pub(crate) net: &'a mut Net,
    pub(crate) rng: &'a mut Rng,
    /// Votes that were given: in which term, to whom.
    pub(crate) votes: Vec<(u64, u64)>,
}

impl<'a> Out<'a> {
    pub(crate) fn new(node: u64, now: Timestamp, net: &'a mut Net, rng: &'a mut Rng) -> Self {
        Self { node, now, net, rng, votes: Vec::new() }
    }
}

// The simulator has one thread; the machine asks for a way out that a thread may own.
impl Peers for Out<'_> {
    fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).expect("a node sends frames that can be");
        let lane = lane_of(frame);
        if let Frame::Raft { message, .. } = frame
            && message.get_msg_type() == MessageType::MsgRequestVoteResponse
            && !message.reject
        {
            self.votes.push((message.term, to));
        }
        if let Frame::Raft { message, .. } = frame
            && message.get_msg_type() == MessageType::MsgRequestVote
        {
            self.votes.push((message.term, self.node));
        }
        match self.net.links.send((self.node, to), lane, &bytes, self.now, self.rng) {
            LinkSent::Taken => Sent::Taken,
            LinkSent::Full => Sent::Full,
            LinkSent::Down => Sent::Down,
        }
    }

    fn update(&mut self, local: &Local) {
        let others = local.members.retired.iter().filter(|left| **left != self.node);
        for left in others.filter(|left| local.has_left(**left)) {
            self.net.links.end((self.node, *left), self.now, self.rng);
        }
        self.net.locals.insert(self.node, local.clone());
        self.net.links.started(self.node);
    }

    fn answer(&mut self, _id: u64, _answer: JoinAnswer) {}
}

fn lane_of(frame: &Frame) -> Lane {
    match frame.lane() {
        frame::Lane::Log => Lane::Log,
        frame::Lane::Pulse => Lane::Pulse,
        frame::Lane::Bulk => Lane::Bulk,
    }
}

fn real(lane: Lane) -> frame::Lane {
    match lane {
        Lane::Log => frame::Lane::Log,
        Lane::Pulse => frame::Lane::Pulse,
        Lane::Bulk => frame::Lane::Bulk,
    }
}

impl Net {
    pub(crate) fn new(habits: Habits) -> Self {
        Self { links: Links::new(habits), up: BTreeMap::new(), locals: BTreeMap::new() }
    }

    /// A process of `node` begins: it knows of no connection.
    pub(crate) fn started(&mut self, node: u64) {
        self.locals.remove(&node);
        self.up.retain(|(of, _), _| *of != node);
    }

    /// The lower dials the higher, where it knows of no connection.
    pub(crate) fn dial(&mut self, node: u64, nodes: u64, now: Timestamp, rng: &mut Rng) {
        for peer in node + 1..=nodes {
            if self.has_left(node, peer) || self.has_left(peer, node) {
                continue;
            }
            for lane in NEEDED {
                self.links.dial((node, peer), lane, now, rng);
            }
        }
    }

    /// Whether `node` knows that `peer` has left the cluster and is not needed any more: it speaks
    /// with it no more.
    fn has_left(&self, node: u64, peer: u64) -> bool {
        self.locals.get(&node).is_some_and(|local| local.has_left(peer))
    }

    /// The next thing that `node` has to take.
    pub(crate) fn next(&mut self, node: u64, now: Timestamp) -> Option<PeerInput> {
        loop {
            let (peer, lane, event) = self.links.next(node, now)?;
            let at = NEEDED.iter().position(|needed| *needed == lane);
            match event {
                Event::Frame(bytes) => {
                    let split = split(&bytes, Some(real(lane))).expect("a frame");
                    let (frame, length) = split.expect("a whole frame");
                    assert_eq!(length, bytes.len());
                    admit(&frame, node, peer).expect("a frame that the peer may send");
                    return Some(PeerInput::Frame { from: peer, frame });
                }
                Event::Connected | Event::Disconnected => {
                    let Some(at) = at else { continue };
                    let up = self.up.entry((node, peer)).or_default();
                    let before = *up == [true; 3];
                    up[at] = event == Event::Connected;
                    match (before, *up == [true; 3]) {
                        (false, true) => {
                            let hello = self.hello(peer);
                            return Some(PeerInput::Connected { peer, hello });
                        }
                        (true, false) => return Some(PeerInput::Disconnected { peer }),
                        _ => {}
                    }
                }
            }
        }
    }

    /// What `node` says on each lane of a connection.
    fn hello(&self, node: u64) -> Hello {
        let local = self.locals.get(&node).cloned().unwrap_or_default();
        Hello {
            lane: frame::Lane::Log,
            cluster: ClusterId([7; 16]),
            boot: 1,
            session: 1,
            generation: 1,
            node,
            start: local.start,
            last: local.last,
            commit: local.commit,
            first: local.first,
            members_index: local.members.index,
            version: String::new(),
            address: "node:1".to_owned(),
        }
    }
}
