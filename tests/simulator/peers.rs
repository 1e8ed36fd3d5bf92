//! The links between nodes, as TCP makes them: frames of bytes, in order on each lane or lost with
//! their connection, late as long as a path is cut, and ends that learn of a break each at its own
//! time. Nothing here knows what a frame says.
//!
//! Time and chance come from the caller: [`Links::advance`] makes what is due happen, a node takes
//! what reached it by [`Links::next`] (or does not: it is paused).

mod connection;
mod habits;
mod partition;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::offset::Timestamp;

use crate::rng::Rng;

use connection::{Connection, Knows};

pub(crate) use habits::Habits;
pub(crate) use partition::{Partition, Path};

/// One of the connections that two nodes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Log,
    Pulse,
    Bulk,
}

/// What reaches a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<P> {
    Connected,
    /// The connection is gone, or none could be made.
    Disconnected,
    Frame(P),
}

/// What became of a frame that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is on its way, as far as the sender can know.
    Taken,
    /// Too much is on its way.
    Full,
    /// There is no connection.
    Down,
}

/// All connections between nodes.
#[derive(Debug)]
pub(crate) struct Links<P> {
    habits: Habits,
    /// Nodes that were ever there.
    nodes: BTreeSet<u64>,
    listening: BTreeSet<u64>,
    /// By both nodes, the lower first.
    connections: BTreeMap<(u64, u64, Lane), Connection<P>>,
    partitions: Vec<Partition>,
    /// Paths on which nothing passes, and since when.
    cut: BTreeMap<Path, Timestamp>,
}

impl<P: AsRef<[u8]> + Clone> Links<P> {
    pub(crate) fn new(habits: Habits) -> Self {
        Self {
            habits,
            nodes: BTreeSet::new(),
            listening: BTreeSet::new(),
            connections: BTreeMap::new(),
            partitions: Vec::new(),
            cut: BTreeMap::new(),
        }
    }

    /// A process of `node` runs and takes connections.
    pub(crate) fn started(&mut self, node: u64) {
        self.nodes.insert(node);
        self.listening.insert(node);
    }

    /// The process of `node` is gone. Mostly its kernel says so to the peers; after a power cut they
    /// find out by themselves.
    pub(crate) fn died(&mut self, node: u64, now: Timestamp, rng: &mut Rng) {
        self.listening.remove(&node);
        let Self { habits, connections, cut, .. } = self;
        for ((low, high, _), connection) in connections {
            let (own, peer) = match (*low == node, *high == node) {
                (true, _) => (0, *high),
                (_, true) => (1, *low),
                _ => continue,
            };
            let is_told = rng.permille(800) && !cut.contains_key(&Path { from: node, to: peer });
            let after = if is_told { habits.latency(rng) } else { habits.patience(rng) };
            connection.fall(now, since(cut, *low, *high), [now.plus(after); 2]);
            connection.clear(own);
        }
    }

    /// `from` dials `to`, if it knows of no connection and dials none, and none of `to` is about to
    /// reach it. It learns later what came of it: [`Event::Connected`] or [`Event::Disconnected`].
    pub(crate) fn dial(
        &mut self,
        (from, to): (u64, u64),
        lane: Lane,
        now: Timestamp,
        rng: &mut Rng,
    ) {
        let (low, high, own) = order(from, to);
        let Self { habits, connections, cut, listening, .. } = self;
        let connection = connections.entry((low, high, lane)).or_default();
        if connection.ends[own].knows != Knows::Nothing || connection.is_whole {
            return;
        }
        let there = now.plus(habits.latency(rng));
        let back = there.plus(habits.latency(rng));
        if since(cut, low, high) != [None, None] {
            connection.fail(own, now.plus(habits.patience(rng)));
        } else if !listening.contains(&to) {
            connection.fail(own, back);
        } else {
            connection.open(own, [there, back]);
        }
    }

    /// Sends a frame on a lane.
    pub(crate) fn send(
        &mut self,
        (from, to): (u64, u64),
        lane: Lane,
        frame: &P,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Sent {
        let (low, high, own) = order(from, to);
        let path = Path { from, to };
        let pace = self.partitions.iter().filter_map(|partition| partition.pace(path)).min();
        let Some(connection) = self.connections.get_mut(&(low, high, lane)) else {
            return Sent::Down;
        };
        let bytes = frame.as_ref().len();
        let sent = connection.take(own, bytes, self.habits.lane_bytes[lane as usize]);
        if sent != Sent::Taken || !connection.carries(own) {
            return sent;
        }
        let [lost, doubled, reordered] = self.habits.hostile;
        if lost > 0 && rng.permille(lost) {
            return Sent::Taken;
        }
        let copies = if doubled > 0 && rng.permille(doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let at = connection.leaves(own, now, bytes, pace).plus(self.habits.latency(rng));
            let ahead = if reordered > 0 && rng.permille(reordered) {
                rng.size(0, connection.overtakable(own))
            } else {
                0
            };
            connection.carry(own, at, ahead, frame.clone());
        }
        Sent::Taken
    }

    /// The next thing that has reached `node`: from whom, on which lane.
    pub(crate) fn next(&mut self, node: u64, now: Timestamp) -> Option<(u64, Lane, Event<P>)> {
        loop {
            let Self { connections, cut, .. } = self;
            let due = connections.iter().filter_map(|((low, high, lane), connection)| {
                let (own, peer) = match (*low == node, *high == node) {
                    (true, _) => (0, *high),
                    (_, true) => (1, *low),
                    _ => return None,
                };
                // Mostly nothing is, whatever is cut.
                connection.due(own, now, None)?;
                let held_since = cut.get(&Path { from: peer, to: node }).copied();
                let at = connection.due(own, now, held_since)?;
                Some((at, (*low, *high, *lane), own, peer))
            });
            let (_, key, own, peer) = due.min()?;
            let event = connections.get_mut(&key).and_then(|connection| connection.next(own));
            if let Some(event) = event {
                return Some((peer, key.2, event));
            }
        }
    }

    /// A connection between two nodes breaks: what travels is lost. Says between whom.
    pub(crate) fn reset_any(&mut self, now: Timestamp, rng: &mut Rng) -> Option<(u64, u64, Lane)> {
        let whole = self.connections.iter().filter(|(_, connection)| connection.is_whole);
        let whole: Vec<_> = whole.map(|(key, _)| *key).collect();
        if whole.is_empty() {
            return None;
        }
        let key @ (low, high, _) = *rng.pick(&whole);
        let learn = [(); 2].map(|()| now.plus(self.habits.latency(rng)));
        let cuts = since(&self.cut, low, high);
        self.connections.get_mut(&key)?.fall(now, cuts, learn);
        Some(key)
    }

    /// One of two nodes ends all connections between them.
    pub(crate) fn end(&mut self, (from, to): (u64, u64), now: Timestamp, rng: &mut Rng) {
        let (low, high, _) = order(from, to);
        let Self { habits, connections, cut, .. } = self;
        let cuts = since(cut, low, high);
        for connection in on_path(connections, Path { from, to }).filter(|it| it.is_whole) {
            let learn = [(); 2].map(|()| now.plus(habits.latency(rng)));
            connection.fall(now, cuts, learn);
        }
    }

    /// Cuts or slows paths, until its end or until [`Links::mend`].
    pub(crate) fn strike(&mut self, partition: Partition, now: Timestamp, rng: &mut Rng) {
        self.partitions.push(partition);
        self.advance(now, rng);
    }

    /// All paths are whole and quick again.
    pub(crate) fn mend(&mut self, now: Timestamp, rng: &mut Rng) {
        self.partitions.clear();
        self.advance(now, rng);
        // What was to take minutes over a slow path does not any more.
        let soon = now.plus(self.habits.latency(rng));
        self.connections.values_mut().for_each(|connection| connection.hasten(soon));
    }

    /// Nothing is lost, doubled or put before others any more: at rest a second is few frames.
    pub(crate) fn calm(&mut self) {
        self.habits.hostile = [0; 3];
    }

    /// Whether nothing passes from one node to another.
    pub(crate) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains_key(&Path { from, to })
    }

    /// Makes happen what is due: partitions come and go, and ends lose their patience.
    pub(crate) fn advance(&mut self, now: Timestamp, rng: &mut Rng) {
        self.partitions.retain(|partition| partition.until > now);
        if !self.partitions.is_empty() || !self.cut.is_empty() {
            self.cut_and_mend(now, rng);
        }
        let Self { connections, cut, .. } = self;
        for ((low, high, _), connection) in connections {
            if connection.gives_up.is_some_and(|ends| ends.iter().any(|end| *end <= now)) {
                let learn = connection.gives_up.unwrap_or_default();
                connection.fall(now, since(cut, *low, *high), learn);
            }
        }
    }

    fn cut_and_mend(&mut self, now: Timestamp, rng: &mut Rng) {
        for from in self.nodes.clone() {
            for to in self.nodes.clone() {
                let path = Path { from, to };
                let is_cut = self.partitions.iter().any(|partition| partition.cuts(path, now));
                match (is_cut, self.cut.get(&path).copied()) {
                    (true, None) => self.on_cut(path, now, rng),
                    (false, Some(since)) => self.on_mended(path, since, now, rng),
                    _ => {}
                }
            }
        }
    }

    fn on_cut(&mut self, path: Path, now: Timestamp, rng: &mut Rng) {
        self.cut.insert(path, now);
        for connection in on_path(&mut self.connections, path) {
            if connection.is_whole && connection.gives_up.is_none() {
                let gives_up = [(); 2].map(|()| now.plus(self.habits.patience(rng)));
                connection.gives_up = Some(gives_up);
            }
        }
    }

    /// What could not pass is sent again.
    fn on_mended(&mut self, path: Path, since: Timestamp, now: Timestamp, rng: &mut Rng) {
        self.cut.remove(&path);
        let is_free = !self.cut.contains_key(&Path { from: path.to, to: path.from });
        let (_, _, sender) = order(path.from, path.to);
        for connection in on_path(&mut self.connections, path) {
            if is_free {
                connection.gives_up = None;
            }
            connection.delay(1 - sender, since, now.plus(self.habits.latency(rng)));
        }
    }
}

/// Both nodes, the lower first, and the place of the first given among them.
fn order(node: u64, other: u64) -> (u64, u64, usize) {
    if node < other { (node, other, 0) } else { (other, node, 1) }
}

/// Since when nothing reaches the lower, the higher.
fn since(cut: &BTreeMap<Path, Timestamp>, low: u64, high: u64) -> [Option<Timestamp>; 2] {
    [Path { from: high, to: low }, Path { from: low, to: high }].map(|path| cut.get(&path).copied())
}

fn on_path<P>(
    connections: &mut BTreeMap<(u64, u64, Lane), Connection<P>>,
    path: Path,
) -> impl Iterator<Item = &mut Connection<P>> {
    let (low, high, _) = order(path.from, path.to);
    let range = (low, high, Lane::Log)..=(low, high, Lane::Bulk);
    connections.range_mut(range).map(|(_, connection)| connection)
}
