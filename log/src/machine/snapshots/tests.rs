//! Three machines and lines between them, turned by hand: one lacks what the others have purged.

mod load;
mod reading;
mod room;

use std::collections::VecDeque;
use std::io::{Read, Write};

use ledgermq_core::event::MessagePublished;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::QoS;
use ledgermq_core::quantity::ByteSize;
use raft::eraftpb::{Message, MessageType};

use super::*;
use crate::class::Class;
use crate::cluster::{JoinAnswer, Local, PeerInput, Sent, SnapshotAck, SnapshotState};
use crate::config::Config;
use crate::log::Log;
use crate::machine::Beginning;
use crate::machine::testing::hello;
use crate::snapshots::MemoryFiles;
use crate::space::Monitor;
use crate::store::simulated::{SimulatedDisk, SimulatedStore};
use crate::store::{Configuration, Unit};
use crate::tail::{StateItem, StateTail};
use crate::wake::Wake;

const FILE: u64 = 10_000;
/// Bytes of the projections in each snapshot: several windows of chunks.
const VIEWS: usize = 40 * (256 << 10);
const STEP: Duration = Duration::from_millis(20);

struct Mute;

impl Wake for Mute {
    fn wake(&self) {}
}

/// What a machine sent.
#[derive(Default)]
struct Out {
    frames: VecDeque<(u64, Frame)>,
    is_down: bool,
}

impl Peers for Out {
    fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        if self.is_down {
            return Sent::Down;
        }
        self.frames.push_back((to, frame.clone()));
        Sent::Taken
    }

    fn update(&mut self, _: &Local) {}

    fn answer(&mut self, _: u64, _: JoinAnswer) {}
}

struct Node {
    id: u64,
    disk: SimulatedDisk,
    files: MemoryFiles,
    log: Log,
    machine: LogMachine<SimulatedStore>,
    tail: StateTail,
    out: Out,
    now: Duration,
    /// Jumps that the projections were told of.
    jumps: Vec<Index>,
    /// Bytes that the projections say they have, and why no cut could be written.
    claimed: u64,
    refusals: Vec<String>,
}

fn config() -> Config {
    Config { hot_entries_max: 4, file_bytes: ByteSize(FILE), ..Config::default() }
}

impl Node {
    fn new(id: u64) -> Self {
        Self::with(id, config())
    }

    fn with(id: u64, config: Config) -> Self {
        let disk = SimulatedDisk::new(id, FILE);
        let configuration = Some(Configuration::of_voters(&[1, 2, 3]));
        let unit = Unit { configuration, ..Unit::default() };
        SimulatedStore::open(&disk).expect("opens").write(&unit, true).expect("room");
        Self::open_with(id, disk, MemoryFiles::default(), 1, config)
    }

    fn open(id: u64, disk: SimulatedDisk, files: MemoryFiles, from: Index) -> Self {
        Self::open_with(id, disk, files, from, config())
    }

    fn open_with(
        id: u64,
        disk: SimulatedDisk,
        files: MemoryFiles,
        from: Index,
        config: Config,
    ) -> Self {
        let beginning = Beginning {
            node: id,
            seed: id,
            membership: None,
            node_lost: Duration::from_secs(2),
            space: Monitor::new(&config, Box::new(disk.clone())),
            config,
            snapshots: Arc::new(files.clone()),
            catch_up_rate: 1 << 30,
            stopwatch: Box::new(|| Duration::ZERO),
        };
        let now = Now { wall: Timestamp::from_secs(1_700_000_000), monotonic: Duration::ZERO };
        let store = SimulatedStore::open(&disk).expect("opens");
        let (log, mut machine) = LogMachine::recover(store, beginning, now).expect("it is sound");
        machine.trust();
        let tail = log.tail_state(from, Arc::new(Mute));
        let (out, now, jumps) = (Out::default(), Duration::ZERO, Vec::new());
        let (claimed, refusals) = (VIEWS as u64, Vec::new());
        Self { id, disk, files, log, machine, tail, out, now, jumps, claimed, refusals }
    }

    fn turn(&mut self) {
        self.now += STEP;
        let wall = Timestamp::from_secs(1_700_000_000).plus(self.now);
        let now = Now { wall, monotonic: self.now };
        self.machine.turn(now, &mut self.out).expect("the disk is good");
    }

    /// What the projections do: they answer cuts, and take in what comes if they may.
    fn project(&mut self, imports: bool) {
        let mut items = Vec::new();
        self.tail.take(usize::MAX, &mut items).expect("no gap but a snapshot's");
        for item in items {
            if let StateItem::Snapshot { index } = item {
                self.jumps.push(index);
            }
        }
        if let Some(index) = self.log.cut_wanted()
            && let Err(error) = self.cut(index)
        {
            self.refusals.push(error.to_string());
        }
        if let Some(incoming) = self.log.incoming().filter(|_| imports) {
            let mut bytes = Vec::new();
            incoming.open().expect("there").read_to_end(&mut bytes).expect("whole");
            assert!(bytes == vec![7; VIEWS] && incoming.checksum == 7);
            self.log.imported(incoming.index, Ok(()));
        }
        self.log.checkpointed(self.tail.position() - 1);
        self.log.purge_allowed(self.tail.position() - 1);
    }

    fn cut(&self, index: Index) -> std::io::Result<()> {
        let mut writer = self.log.begin_cut(index, self.claimed)?;
        writer.write_all(&vec![7; VIEWS])?;
        writer.finish(7)
    }

    fn connect(&mut self, peer: u64) {
        self.machine.receive(PeerInput::Connected { peer, hello: hello(peer) });
    }

    fn append(&mut self) {
        let mut events = self.log.builder();
        events.publish(
            None,
            None,
            &MessagePublished {
                qos: QoS::AtLeastOnce,
                retain: false,
                packet_id: None,
                topic: "t",
                message_expiry_interval: None,
                properties: &[],
                payload: &[1; 3000],
            },
        );
        drop(self.log.submit(Class::Publish, events).expect("room"));
    }

    fn counts(&self) -> SnapshotStatus {
        self.machine.snapshots.counts
    }

    fn names(&self) -> Vec<String> {
        self.files.list().expect("memory")
    }
}

/// Three nodes: the first leads, and the last was away when the log was purged.
struct World {
    nodes: [Node; 3],
    is_there: bool,
    /// Chunks that arrived.
    chunks: Vec<u32>,
    /// Frames of snapshots that are lost on the way.
    lost: fn(&Frame, usize) -> bool,
    imports: bool,
    /// No entries get to the last node.
    is_starved: bool,
}

impl World {
    fn new() -> Self {
        Self::with(&config())
    }

    fn with(config: &Config) -> Self {
        let nodes = [1, 2, 3].map(|id| Node::with(id, config.clone()));
        let mut world = Self {
            nodes,
            is_there: false,
            chunks: Vec::new(),
            lost: |_, _| false,
            imports: true,
            is_starved: false,
        };
        world.connect(1, 2);
        world.nodes[0].machine.replica.campaign().expect("it may");
        world.run(10);
        assert!(world.nodes[0].machine.replica.is_leader());
        for _ in 0..5 * config.hot_entries_max {
            world.nodes[0].append();
            world.run(1);
        }
        world.run(30);
        assert!(world.nodes[0].log.status().first_index > 10, "it was purged");
        world
    }

    fn connect(&mut self, one: u64, other: u64) {
        for (id, peer) in [(one, other), (other, one)] {
            self.nodes[at(id)].connect(peer);
        }
        self.is_there |= other == 3;
    }

    /// The last node comes.
    fn come(&mut self) {
        self.connect(1, 3);
        self.connect(2, 3);
    }

    fn break_line(&mut self) {
        for node in &mut self.nodes {
            node.out.frames.retain(|(to, _)| (node.id, *to) != (1, 3) && (node.id, *to) != (3, 1));
        }
        for (id, peer) in [(1, 3), (3, 1)] {
            self.nodes[at(id)].machine.receive(PeerInput::Disconnected { peer });
            self.nodes[at(id)].connect(peer);
        }
    }

    /// Carries frames for so long, in tenths of a second.
    fn run(&mut self, tenths: u32) {
        (0..tenths * 5).for_each(|_| self.step());
    }

    fn step(&mut self) {
        self.carry();
        for node in &mut self.nodes {
            if node.id == 3 && !self.is_there {
                continue;
            }
            node.turn();
            node.project(self.imports);
        }
    }

    fn carry(&mut self) {
        for from in 1..=3 {
            for (to, frame) in std::mem::take(&mut self.nodes[at(from)].out.frames) {
                let is_away = !self.is_there && to == 3;
                let is_kept = self.is_starved && to == 3 && is_append(&frame);
                if is_away || is_kept || (self.lost)(&frame, self.chunks.len()) {
                    continue;
                }
                if to > 3 {
                    let answer = answer_of_empty(to, &frame);
                    let answer = answer.map(|frame| PeerInput::Frame { from: to, frame });
                    answer
                        .into_iter()
                        .for_each(|input| self.nodes[at(from)].machine.receive(input));
                    continue;
                }
                if let Frame::SnapshotChunk(chunk) = &frame {
                    self.chunks.push(chunk.number);
                }
                self.nodes[at(to)].machine.receive(PeerInput::Frame { from, frame });
            }
        }
    }

    fn has_arrived(&self) -> bool {
        let committed = self.nodes[0].log.committed();
        self.nodes[2].log.committed() == committed && self.nodes[2].jumps.len() == 1
    }

    fn run_until_arrived(&mut self, tenths: u32) {
        for _ in 0..tenths {
            self.run(1);
            if self.has_arrived() {
                return;
            }
        }
        let counts = self.nodes.each_ref().map(Node::counts);
        assert!(self.has_arrived(), "it did not arrive: {counts:?}");
    }
}

fn is_append(frame: &Frame) -> bool {
    matches!(frame, Frame::Raft { message, .. } if !message.entries.is_empty())
}

/// What a node without a log says to its leader, which is all that there is of it.
fn answer_of_empty(node: u64, frame: &Frame) -> Option<Frame> {
    let Frame::Raft { message, .. } = frame else { return None };
    let mut answer = Message::new();
    (answer.from, answer.to, answer.term) = (node, message.from, message.term);
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            answer.set_msg_type(MessageType::MsgAppendResponse);
            (answer.reject, answer.index) = (true, message.index);
        }
        MessageType::MsgHeartbeat => answer.set_msg_type(MessageType::MsgHeartbeatResponse),
        _ => return None,
    }
    Some(Frame::raft(answer))
}

fn at(id: u64) -> usize {
    usize::try_from(id - 1).expect("three nodes")
}

#[test]
fn who_lacks_what_was_purged_gets_a_snapshot() {
    let mut world = World::new();
    world.come();
    world.run_until_arrived(100);
    world.run(5);
    let jumped = world.nodes[2].jumps[0];
    assert_eq!(world.nodes[2].log.status().first_index, jumped + 1);
    let same = world.nodes.each_ref().map(|node| node.machine.admission_checksum());
    assert!(same[0] == same[2] && same[0] == same[1]);
    // Every chunk was sent once.
    let all: Vec<u32> = (0..u32::try_from(world.chunks.len()).expect("few")).collect();
    assert!(world.chunks == all && all.len() == 41, "{} chunks", all.len());
    world.run(2);
    let [sender, _, receiver] = world.nodes.each_ref().map(Node::counts);
    assert_eq!((sender.made, sender.sent, sender.failed), (1, 1, 0));
    assert_eq!((receiver.received, receiver.failed), (1, 0));
    assert_eq!(sender.sent_bytes, receiver.received_bytes);
    assert_eq!(world.nodes[2].names(), [""; 0]);
    // It takes part: what is appended there is admitted everywhere.
    world.nodes[2].append();
    world.run(5);
    assert!(world.nodes[2].machine.is_idle());
    // Whoever made it forgets it after ten minutes.
    assert_eq!(world.nodes[0].names().len(), 1);
    world.run(6010);
    assert_eq!(world.nodes[0].names(), [""; 0]);
}

#[test]
fn what_is_under_way_is_told() {
    let mut world = World::new();
    let running = |world: &World, node: u64| {
        let running = world.nodes[at(node)].machine.snapshots_running();
        running.iter().map(|it| (it.step, it.bytes, it.bytes_total)).collect::<Vec<_>>()
    };
    assert!(running(&world, 1).is_empty());
    world.come();
    while world.nodes[0].log.cut_wanted().is_none() {
        world.carry();
        world.nodes.iter_mut().for_each(Node::turn);
    }
    assert_eq!(running(&world, 1), [(SnapshotStep::Made, 0, None)]);
    while world.chunks.len() < 20 {
        world.step();
    }
    let sent = running(&world, 1);
    let (bytes, total) = (sent[0].1, sent[0].2.expect("it is known"));
    assert_eq!(sent, [(SnapshotStep::Sent { to: 3 }, bytes, Some(total))]);
    let received = running(&world, 3);
    let arrived = received[0].1;
    assert_eq!(received, [(SnapshotStep::Received { from: 1 }, arrived, Some(total))]);
    assert!(0 < bytes && bytes <= arrived && arrived < total, "{bytes}, {arrived}, {total}");
    world.imports = false;
    world.run(20);
    let imported = (SnapshotStep::Imported { from: 1 }, total, Some(total));
    assert_eq!(running(&world, 3), [imported]);
    world.imports = true;
    world.run_until_arrived(100);
    world.run(2);
    assert!(running(&world, 1).is_empty() && running(&world, 3).is_empty());
    let [sender, _, receiver] = world.nodes.each_ref().map(Node::counts);
    assert_eq!(sender.last_sent, Some((total, sender.sent_time)));
    assert_eq!(receiver.last_received, Some((total, receiver.received_time)));
}

#[test]
fn chunks_that_are_lost_are_sent_again() {
    let mut world = World::new();
    // The chunk behind the tenth that arrived, as long as ten have arrived: twice.
    world.lost = |frame, arrived| {
        matches!(frame, Frame::SnapshotChunk(chunk) if chunk.number == 10 && arrived == 10)
            || matches!(frame, Frame::SnapshotEnd(_)) && arrived < 50
    };
    world.come();
    world.run_until_arrived(600);
    assert_eq!(world.nodes[2].counts().received, 1);
    assert!(world.chunks.len() > 41, "{}", world.chunks.len());
}

#[test]
fn a_transfer_goes_on_where_its_connection_broke() {
    let mut world = World::new();
    world.come();
    while world.chunks.len() < 20 {
        world.step();
    }
    assert!(!world.has_arrived());
    world.break_line();
    world.run_until_arrived(300);
    assert!(world.chunks.len() <= 41 + 2 * 16, "{}", world.chunks.len());
    let again = world.chunks.iter().filter(|number| **number == 0).count();
    assert_eq!(again, 1, "not from the beginning");
    assert_eq!((world.nodes[0].counts().failed, world.nodes[0].counts().made), (1, 1));
}

#[test]
fn a_transfer_goes_on_when_another_snapshot_takes_the_place_of_the_one_that_is_sent() {
    let mut world = World::new();
    world.come();
    while world.chunks.len() < 20 {
        world.step();
    }
    world.nodes[0].append();
    world.step();
    let now = world.nodes[0].now;
    world.nodes[0].machine.begin_cut(now);
    world.run_until_arrived(100);
    world.run(2);
    let [sender, _, receiver] = world.nodes.each_ref().map(Node::counts);
    assert_eq!((sender.made, sender.sent, sender.failed), (2, 1, 0));
    assert_eq!((receiver.received, world.chunks.len()), (1, 41));
}

#[test]
fn a_damaged_chunk_of_the_sender_is_not_sent_and_another_snapshot_is_made() {
    let mut world = World::new();
    world.lost = |frame, _| matches!(frame, Frame::SnapshotChunk(_));
    world.come();
    while world.nodes[0].names().is_empty() {
        world.run(1);
    }
    let name = world.nodes[0].names()[0].clone();
    world.nodes[0].files.flip(&name, 20 * (256 << 10));
    world.lost = |_, _| false;
    world.run_until_arrived(600);
    assert_eq!((world.nodes[0].counts().made, world.nodes[2].counts().received), (2, 1));
}

#[test]
fn raft_is_told_when_nothing_arrives() {
    let mut world = World::new();
    world.lost = |frame, _| matches!(frame, Frame::SnapshotChunk(_));
    world.come();
    world.run(550);
    assert_eq!(world.nodes[0].counts().failed, 0);
    world.run(100);
    assert_eq!(world.nodes[0].counts().failed, 1, "after a minute");
    world.lost = |_, _| false;
    world.run_until_arrived(300);
}

#[test]
fn a_cut_that_nobody_writes_is_given_up_and_wanted_again() {
    let mut world = World::new();
    world.come();
    let wanted = |world: &World| lock(&world.nodes[0].log.shared().snapshots).running();
    // The projections take nothing for a minute.
    for _ in 0..3200 {
        world.carry();
        world.nodes.iter_mut().for_each(Node::turn);
    }
    assert_eq!(world.nodes[0].counts().failed, 1);
    assert!(wanted(&world).is_some(), "another is wanted");
    world.run_until_arrived(300);
    assert_eq!(world.nodes[0].counts().made, 1);
}

#[test]
fn a_write_that_fails_ends_the_transfer_which_begins_anew() {
    let mut world = World::new();
    world.nodes[2].files.set_fails_after(Some(5));
    world.come();
    world.run(20);
    assert_eq!((world.nodes[2].counts().failed, world.nodes[2].counts().received), (1, 0));
    assert_eq!(world.nodes[2].names(), [""; 0]);
    world.nodes[2].files.set_fails_after(None);
    world.run_until_arrived(300);
}

#[test]
fn the_log_jumps_only_when_the_projections_have_taken_it_in() {
    let mut world = World::new();
    world.imports = false;
    world.come();
    world.run(900);
    let receiver = &world.nodes[2];
    assert!(receiver.log.incoming().is_some() && receiver.log.committed() == 0);
    assert_eq!(world.nodes[0].counts().failed, 0, "it says that it is at it");
    world.imports = true;
    world.run_until_arrived(20);
}

#[test]
fn answers_about_another_snapshot_change_nothing() {
    let mut world = World::new();
    world.imports = false;
    world.come();
    world.run(30);
    let ack = SnapshotAck { id: 1, next: 0, state: SnapshotState::Done };
    let frame = Frame::SnapshotAck(ack);
    world.nodes[0].machine.receive(PeerInput::Frame { from: 3, frame });
    world.run(1);
    assert_eq!(world.nodes[0].counts().sent, 0);
}

#[test]
fn what_was_received_is_gone_after_a_restart_and_comes_again() {
    let mut world = World::new();
    world.imports = false;
    world.come();
    world.run(30);
    assert_eq!(world.nodes[2].names().len(), 1);
    let (disk, now) = (world.nodes[2].disk.clone(), world.nodes[2].now);
    let files = world.nodes[2].files.clone();
    world.nodes[2] = Node::new(3);
    world.nodes[2] = Node::open(3, disk, files, 1);
    assert_eq!(world.nodes[2].names(), [""; 0]);
    (world.nodes[2].now, world.nodes[2].machine.last_tick) = (now, now);
    world.break_line();
    world.connect(2, 3);
    world.imports = true;
    world.run_until_arrived(300);
}

#[test]
fn a_log_that_begins_behind_a_snapshot_opens_again() {
    let mut world = World::new();
    world.come();
    world.run_until_arrived(100);
    let jumped = world.nodes[2].jumps[0];
    let before = world.nodes[2].machine.admission_checksum();
    let time = world.nodes[2].log.status().last_time;
    let disk = world.nodes[2].disk.clone();
    world.nodes[2] = Node::new(3);
    let again = Node::open(3, disk, MemoryFiles::default(), jumped + 1);
    assert_eq!(again.machine.admission_checksum(), before);
    assert_eq!(again.log.status().first_index, jumped + 1);
    assert!(time > Timestamp::default() && again.log.status().last_time == time);
    assert!(again.machine.replica.configuration().is_voter(3));
}

/// Raft seed 48668: nothing was committed before there was a snapshot, and none was cut before that.
#[test]
fn who_has_folded_more_than_it_knows_to_be_committed_cuts_a_snapshot() {
    let mut world = World::new();
    world.nodes[0].append();
    world.run(1);
    let folded = world.nodes[1].log.committed();
    let disk = world.nodes[1].disk.clone();
    // The first has lost its disk, and the last lacks what was purged: only the second has it all.
    world.nodes = [1, 2, 3].map(Node::new);
    world.nodes[1] = Node::open(2, disk, MemoryFiles::default(), folded + 1);
    assert!(world.nodes[1].log.committed() < folded, "the disk tells less");
    world.connect(1, 2);
    world.connect(2, 3);
    world.nodes[1].machine.replica.campaign().expect("it may");
    world.run(100);
    assert!(world.nodes[1].machine.replica.is_leader());
    for node in &world.nodes {
        assert!(node.log.committed() > folded, "node {}: {:?}", node.id, node.counts());
    }
}
