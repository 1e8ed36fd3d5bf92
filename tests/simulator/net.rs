//! Frames between nodes, through the real codec.

use std::collections::BTreeMap;

use ledgermq_core::offset::Timestamp;
use ledgermq_log::cluster::frame::{admit, split};
use ledgermq_log::cluster::{
    ClusterId, Frame, Hello, JoinAnswer, Local, PeerInput, Peers, Sent, frame,
};

use crate::peers::{Event, Habits, Lane, Links, Sent as LinkSent};
use crate::rng::Rng;

/// Lanes that a peer must have to count as connected.
const NEEDED: [Lane; 3] = [Lane::Log, Lane::Pulse, Lane::Bulk];

/// All links, and who knows of whom.
pub(crate) struct Net {
    pub(crate) links: Links<Vec<u8>>,
    /// By node and peer: which of [`NEEDED`] are there.
    up: BTreeMap<(u64, u64), [bool; 3]>,
}

/// The way out of one node, for a turn.
pub(crate) struct Out<'a> {
    pub(crate) node: u64,
    pub(crate) now: Timestamp,
    pub(crate) links: &'a mut Links<Vec<u8>>,
    pub(crate) rng: &'a mut Rng,
}

// The simulator has one thread; the machine asks for a way out that a thread may own.
impl Peers for Out<'_> {
    fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).expect("a node sends frames that can be");
        let lane = lane_of(frame);
        match self.links.send((self.node, to), lane, &bytes, self.now, self.rng) {
            LinkSent::Taken => Sent::Taken,
            LinkSent::Full => Sent::Full,
            LinkSent::Down => Sent::Down,
        }
    }

    // Greetings are the driver's business.
    fn update(&mut self, _local: &Local) {}

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
        Self { links: Links::new(habits), up: BTreeMap::new() }
    }

    /// A process of `node` begins: it knows of no connection.
    pub(crate) fn started(&mut self, node: u64) {
        self.links.started(node);
        self.up.retain(|(of, _), _| *of != node);
    }

    /// The lower dials the higher, where it knows of no connection.
    pub(crate) fn dial(&mut self, node: u64, nodes: u64, now: Timestamp, rng: &mut Rng) {
        for peer in node + 1..=nodes {
            for lane in NEEDED {
                self.links.dial((node, peer), lane, now, rng);
            }
        }
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
                            return Some(PeerInput::Connected { peer, hello: hello(peer) });
                        }
                        (true, false) => return Some(PeerInput::Disconnected { peer }),
                        _ => {}
                    }
                }
            }
        }
    }
}

fn hello(node: u64) -> Hello {
    Hello {
        lane: frame::Lane::Log,
        cluster: ClusterId([7; 16]),
        boot: 1,
        session: 1,
        generation: 1,
        node,
        start: 1,
        last: (0, 0),
        commit: 0,
        acked: 0,
        first: 1,
        members_index: 0,
        version: String::new(),
        address: "node:1".to_owned(),
    }
}
