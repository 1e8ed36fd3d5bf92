use std::collections::BTreeSet;
use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use super::partition::Kind;
use super::*;
use crate::trace::START;

const MILLI: Duration = Duration::from_millis(1);

/// Links with a clock; frames arrive after exactly 1 ms, and nobody waits for longer than 1 s.
struct Net {
    links: Links<Vec<u8>>,
    now: Timestamp,
    rng: Rng,
}

impl Net {
    fn new(nodes: u64) -> Self {
        let habits = Habits {
            latency: (MILLI, MILLI),
            patience: (Duration::from_secs(1), Duration::from_secs(1)),
            lane_bytes: [100; 3],
            hostile: [0; 3],
        };
        Self::with(habits, nodes)
    }

    fn with(habits: Habits, nodes: u64) -> Self {
        let mut links = Links::new(habits);
        (1..=nodes).for_each(|node| links.started(node));
        Self { links, now: START, rng: Rng::new(1) }
    }

    /// Two nodes with a connection on the lane for the log.
    fn connected() -> Self {
        let mut net = Self::new(2);
        net.dial(1, 2);
        net.wait(2);
        assert_eq!(net.events(1), [Event::Connected]);
        assert_eq!(net.events(2), [Event::Connected]);
        net
    }

    fn wait(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now = self.now.plus(MILLI);
            self.links.advance(self.now, &mut self.rng);
        }
    }

    fn dial(&mut self, from: u64, to: u64) {
        self.links.dial((from, to), Lane::Log, self.now, &mut self.rng);
    }

    fn send_on(&mut self, lane: Lane, from: u64, to: u64, frame: &[u8]) -> Sent {
        self.links.send((from, to), lane, &frame.to_vec(), self.now, &mut self.rng)
    }

    fn send(&mut self, from: u64, to: u64, frame: &[u8]) -> Sent {
        self.send_on(Lane::Log, from, to, frame)
    }

    fn events(&mut self, node: u64) -> Vec<Event<Vec<u8>>> {
        let next = || self.links.next(node, self.now).map(|(_, _, event)| event);
        std::iter::from_fn(next).collect()
    }

    fn strike(&mut self, kind: Kind) {
        let until = self.now.plus(Duration::from_secs(3_600));
        let partition = Partition { kind, since: self.now, until };
        self.links.strike(partition, self.now, &mut self.rng);
    }

    fn mend(&mut self) {
        self.links.mend(self.now, &mut self.rng);
    }
}

fn frame(text: &str) -> Event<Vec<u8>> {
    Event::Frame(text.as_bytes().to_vec())
}

#[test]
fn frames_arrive_in_order_and_not_at_once() {
    let mut net = Net::connected();
    assert_eq!(net.send(1, 2, b"a"), Sent::Taken);
    assert_eq!(net.send(1, 2, b"b"), Sent::Taken);
    assert_eq!(net.events(2), []);
    net.wait(1);
    assert_eq!(net.send(2, 1, b"c"), Sent::Taken);
    assert_eq!(net.events(2), [frame("a"), frame("b")]);
    net.wait(1);
    assert_eq!(net.events(1), [frame("c")]);
    assert_eq!(net.events(2), []);
}

#[test]
fn without_a_connection_nothing_is_taken() {
    let mut net = Net::connected();
    assert_eq!(net.send_on(Lane::Pulse, 1, 2, b"a"), Sent::Down);
    assert_eq!(Net::new(2).send(1, 2, b"a"), Sent::Down);
}

#[test]
fn a_lane_takes_what_it_has_room_for_and_one_frame_always() {
    let mut net = Net::connected();
    assert_eq!(net.send(1, 2, &[0; 150]), Sent::Taken);
    assert_eq!(net.send(1, 2, b"a"), Sent::Full);
    net.wait(1);
    net.events(2);
    assert_eq!(net.send(1, 2, &[0; 60]), Sent::Taken);
    assert_eq!(net.send(1, 2, &[0; 60]), Sent::Full);
    assert_eq!(net.send(1, 2, &[0; 40]), Sent::Taken);
}

#[test]
fn dialing_a_node_that_is_not_there_fails() {
    let mut net = Net::new(1);
    net.dial(1, 2);
    assert_eq!(net.events(1), []);
    net.wait(2);
    assert_eq!(net.events(1), [Event::Disconnected]);
}

#[test]
fn dialing_over_a_path_that_is_cut_fails_late() {
    let mut net = Net::new(2);
    net.strike(Kind::OneWay(Path { from: 2, to: 1 }));
    net.dial(1, 2);
    net.wait(999);
    assert_eq!(net.events(1), []);
    net.wait(1);
    assert_eq!(net.events(1), [Event::Disconnected]);
    assert_eq!(net.events(2), []);
}

#[test]
fn a_reset_loses_what_travels_and_not_what_arrived() {
    let mut net = Net::connected();
    net.send(1, 2, b"arrived");
    net.wait(1);
    net.send(1, 2, b"lost");
    assert_eq!(net.links.reset_any(net.now, &mut net.rng), Some((1, 2, Lane::Log)));
    // It does not know yet: what it sends goes nowhere.
    assert_eq!(net.send(1, 2, b"lost, too"), Sent::Taken);
    net.wait(1);
    assert_eq!(net.events(2), [frame("arrived"), Event::Disconnected]);
    assert_eq!(net.events(1), [Event::Disconnected]);
    assert_eq!(net.send(1, 2, b"no"), Sent::Down);
    assert_eq!(net.links.reset_any(net.now, &mut net.rng), None);
}

#[test]
fn who_sends_to_nobody_finds_the_lane_full() {
    let mut net = Net::connected();
    net.links.reset_any(net.now, &mut net.rng);
    assert_eq!(net.send(1, 2, &[0; 100]), Sent::Taken);
    assert_eq!(net.send(1, 2, b"a"), Sent::Full);
}

#[test]
fn a_short_cut_delays_and_loses_nothing() {
    let mut net = Net::connected();
    net.send(1, 2, b"a");
    net.strike(Kind::Pair(1, 2));
    net.send(1, 2, b"b");
    net.send(2, 1, b"c");
    net.wait(500);
    assert_eq!((net.events(1), net.events(2)), (vec![], vec![]));
    net.mend();
    assert_eq!(net.events(2), []);
    net.wait(1);
    assert_eq!((net.events(1), net.events(2)), (vec![frame("c")], vec![frame("a"), frame("b")]));
    net.wait(1000);
    assert_eq!((net.events(1), net.events(2)), (vec![], vec![]));
}

#[test]
fn a_long_cut_breaks_the_connection() {
    let mut net = Net::connected();
    net.send(1, 2, b"arrived");
    net.wait(1);
    net.strike(Kind::Group(BTreeSet::from([1])));
    net.send(1, 2, b"lost");
    net.wait(1000);
    assert_eq!(net.events(1), [Event::Disconnected]);
    assert_eq!(net.events(2), [frame("arrived"), Event::Disconnected]);
    net.mend();
    net.dial(1, 2);
    net.wait(2);
    assert_eq!((net.events(1), net.events(2)), (vec![Event::Connected], vec![Event::Connected]));
}

#[test]
fn a_one_way_cut_lets_the_other_way_pass() {
    let mut net = Net::connected();
    net.strike(Kind::OneWay(Path { from: 1, to: 2 }));
    assert!(net.links.is_cut(1, 2) && !net.links.is_cut(2, 1));
    net.send(1, 2, b"a");
    net.send(2, 1, b"b");
    net.wait(10);
    assert_eq!((net.events(1), net.events(2)), (vec![frame("b")], vec![]));
}

#[test]
fn within_a_group_everything_passes() {
    let mut net = Net::new(5);
    net.strike(Kind::Group(BTreeSet::from([2, 4])));
    for (from, to) in [(2, 4), (4, 2), (1, 3), (3, 5)] {
        assert!(!net.links.is_cut(from, to), "{from} to {to}");
    }
    for (from, to) in [(2, 1), (1, 2), (4, 5), (3, 4)] {
        assert!(net.links.is_cut(from, to), "{from} to {to}");
    }
}

#[test]
fn a_flapping_path_passes_in_turn() {
    let mut net = Net::connected();
    net.strike(Kind::Flapping { nodes: (2, 1), period: 100 * MILLI });
    net.send(1, 2, b"a");
    net.wait(99);
    assert_eq!(net.events(2), []);
    net.wait(2);
    assert_eq!(net.events(2), [frame("a")]);
    net.wait(99);
    net.send(1, 2, b"b");
    net.wait(50);
    assert_eq!(net.events(2), []);
}

#[test]
fn a_slow_path_takes_its_time_for_each_byte() {
    let mut net = Net::connected();
    net.strike(Kind::Slow { path: Path { from: 1, to: 2 }, pace: 1000 });
    net.send(1, 2, &[b'a'; 10]);
    net.send(1, 2, &[b'b'; 10]);
    net.send(2, 1, b"quick");
    net.wait(10);
    assert_eq!((net.events(1), net.events(2)), (vec![frame("quick")], vec![]));
    net.wait(1);
    assert_eq!(net.events(2), [frame("aaaaaaaaaa")]);
    net.wait(9);
    assert_eq!(net.events(2), []);
    net.wait(1);
    assert_eq!(net.events(2), [frame("bbbbbbbbbb")]);
}

#[test]
fn a_partition_ends_by_itself() {
    let mut net = Net::connected();
    let until = net.now.plus(10 * MILLI);
    let partition = Partition { kind: Kind::Pair(1, 2), since: net.now, until };
    net.links.strike(partition, net.now, &mut net.rng);
    net.wait(9);
    assert!(net.links.is_cut(1, 2));
    net.wait(1);
    assert!(!net.links.is_cut(1, 2));
}

#[test]
fn a_node_that_comes_back_is_met_as_a_new_one() {
    let mut net = Net::connected();
    net.send(2, 1, b"lost");
    net.links.died(1, net.now, &mut net.rng);
    net.links.started(1);
    net.dial(1, 2);
    net.wait(2);
    assert_eq!(net.events(1), [Event::Connected]);
    assert_eq!(net.events(2), [Event::Disconnected, Event::Connected]);
    net.send(2, 1, b"a");
    net.wait(1);
    assert_eq!(net.events(1), [frame("a")]);
}

#[test]
fn a_connection_that_nobody_took_yet_is_not_the_next_one() {
    let mut net = Net::new(2);
    net.dial(1, 2);
    net.wait(2);
    net.events(1);
    net.links.reset_any(net.now, &mut net.rng);
    net.wait(1);
    net.events(1);
    net.dial(1, 2);
    net.wait(2);
    net.events(1);
    net.send(1, 2, b"a");
    net.wait(1);
    // Node 2 was paused all the while.
    let event = |net: &mut Net| net.links.next(2, net.now).map(|(_, _, event)| event);
    assert_eq!(event(&mut net), Some(Event::Connected));
    net.send(2, 1, b"to nobody");
    assert_eq!(net.events(2), [Event::Disconnected, Event::Connected, frame("a")]);
    net.wait(1);
    assert_eq!(net.events(1), []);
}

/// What a test node knows of a lane: numbers of frames, sent and received on this connection.
#[derive(Clone, Copy, Default)]
struct Counted {
    is_open: bool,
    sent: u32,
    received: u32,
}

/// Runs three nodes that dial, send, die and are cut off by chance; counts what was out of order.
fn run(seed: u64, hostile: [u32; 3]) -> (u64, u64) {
    let mut rng = Rng::new(seed);
    let habits = Habits { hostile, ..Habits::draw(&mut rng) };
    let mut net = Net::with(habits, 3);
    net.rng = rng;
    let mut known: BTreeMap<(u64, u64, Lane), Counted> = BTreeMap::new();
    let (mut in_order, mut out_of_order) = (0, 0);
    for _ in 0..3_000 {
        net.now = net.now.plus(Duration::from_micros(net.rng.below(20_000)));
        let (now, rng) = (net.now, &mut net.rng);
        net.links.advance(now, rng);
        let (a, b) = *rng.pick(&[(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)]);
        let lane = *rng.pick(&[Lane::Log, Lane::Pulse, Lane::Bulk]);
        match rng.below(100) {
            0 => net.links.strike(Partition::draw(&[1, 2, 3], now, rng), now, rng),
            1 => {
                net.links.died(a, now, rng);
                net.links.started(a);
                known.retain(|(node, ..), _| *node != a);
            }
            2..4 => {
                net.links.reset_any(now, rng);
            }
            4..30 => net.links.dial((a, b), lane, now, rng),
            30..70 => {
                let counted = known.entry((a, b, lane)).or_default();
                let frame = counted.sent.to_le_bytes().to_vec();
                let sent = net.links.send((a, b), lane, &frame, now, rng);
                assert_eq!(sent != Sent::Down, counted.is_open, "seed {seed}");
                counted.sent += u32::from(sent == Sent::Taken);
            }
            _ => {
                while let Some((peer, lane, event)) = net.links.next(a, now) {
                    let counted = known.entry((a, peer, lane)).or_default();
                    match event {
                        Event::Connected => {
                            assert!(!counted.is_open, "seed {seed}: two connections at once");
                            *counted = Counted { is_open: true, ..Counted::default() };
                        }
                        Event::Disconnected => *counted = Counted::default(),
                        Event::Frame(frame) if frame == counted.received.to_le_bytes() => {
                            counted.received += 1;
                            in_order += 1;
                        }
                        Event::Frame(frame) => {
                            let number = frame.try_into().map(u32::from_le_bytes);
                            counted.received = number.expect("it has four bytes") + 1;
                            out_of_order += 1;
                        }
                    }
                }
            }
        }
    }
    (in_order, out_of_order)
}

#[test]
fn on_each_connection_frames_come_in_order_without_a_gap() {
    let mut received = 0;
    for seed in 1..=200 {
        let (in_order, out_of_order) = run(seed, [0; 3]);
        assert_eq!(out_of_order, 0, "seed {seed}");
        received += in_order;
    }
    assert!(received > 10_000, "{received}");
}

#[test]
fn hostile_links_lose_double_and_reorder() {
    for hostile in [[50, 0, 0], [0, 50, 0], [0, 0, 50]] {
        let sums = (1..=20).map(|seed| run(seed, hostile).1);
        assert!(sums.sum::<u64>() > 20, "{hostile:?}");
    }
}
