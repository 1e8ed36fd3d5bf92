//! The world of one seed: nodes with their disks, clients, the network between, faults, and the
//! judges.

mod cluster;
mod faults;
mod look;
mod members;
mod seat;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use ledgermq_core::access::RuleList;
use ledgermq_core::offset::Timestamp;
use ledgermq_log::testing::Admitted;
use ledgermq_projections::views::Views;

use crate::book::Book;
use crate::client::{Client, Surroundings};
use crate::invariants::{Facts, Invariant};
use crate::network::Network;
use crate::node::{Name, Node, Others, Outside};
use crate::options::Options;
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::seen::Seen;
use crate::trace::{START, Trace};

use cluster::Cluster;
use members::Growth;
use seat::Seat;

/// After this time unheard a node is declared lost; one that is alone hears of nobody.
const NODE_LOST: Duration = Duration::from_secs(10);

/// Everything that a seed makes.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) rng: Rng,
    pub(crate) options: Options,
    pub(crate) trace: Trace,
    network: Network,
    book: Book,
    clients: Vec<Client>,
    oracle: Oracle,
    /// The views folded from the beginning, batch by batch.
    scratch: Views,
    /// Admission, likewise.
    admitted: Admitted,
    /// Node 1 sits in the first.
    seats: Vec<Seat>,
    /// None for a node that is alone.
    cluster: Option<Cluster>,
    /// None for a cluster whose members everybody knows from the beginning.
    growth: Option<Growth>,
    /// The access rules in the file, which all nodes read.
    rules: Option<RuleList>,
    seen: Vec<Seen>,
    /// By node: the last term that it said it leads.
    leading: BTreeMap<u64, u64>,
    invariants: Vec<(&'static str, Box<dyn Invariant>)>,
    pub(crate) tally: Tally,
}

/// What a run met, to see that runs meet something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) crashes: u64,
    pub(crate) published: u64,
    pub(crate) received: u64,
    pub(crate) resumed: u64,
    pub(crate) void: u64,
    /// Sessions that were not opened because the wish came late.
    pub(crate) late: u64,
    pub(crate) snapshots: u64,
    /// Nodes that were let in, and that left.
    pub(crate) joined: u64,
    pub(crate) left: u64,
}

impl World {
    /// A world of `nodes` nodes. What is drawn for one node does not depend on what there is to draw
    /// for several: old seeds keep their value.
    pub(crate) fn new(seed: u64, nodes: u64, is_loud: bool) -> Self {
        Self::with(seed, (nodes, Growth::draw(seed, nodes)), is_loud)
    }

    fn with(seed: u64, (nodes, growth): (u64, Option<Growth>), is_loud: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut options = Options::draw(&mut rng);
        let clients =
            (0..options.clients).map(|number| Client::new(number, &options, &mut rng)).collect();
        let oracle =
            Oracle { may_drop: options.queued.queued_messages < 1000, ..Oracle::default() };
        let is_alone = nodes == 1;
        let cluster = (!is_alone).then(|| Cluster::draw(&mut rng));
        if let Some(cluster) = &cluster {
            options.hot_entries = cluster.hot_entries;
        }
        let grows = growth.is_some();
        let nodes = growth.map_or(nodes, |growth| growth.nodes_max);
        Self {
            now: START,
            trace: Trace::new(is_loud),
            network: Network::default(),
            book: Book::default(),
            clients,
            oracle,
            scratch: Views::new(options.queued),
            admitted: Admitted::default(),
            seats: (1..=nodes).map(|id| Seat::new(Name { id, is_alone }, nodes, grows)).collect(),
            cluster,
            growth,
            rules: None,
            seen: Vec::new(),
            leading: BTreeMap::new(),
            invariants: crate::invariants::all(),
            tally: Tally::default(),
            rng,
            options,
        }
    }

    /// Runs the phase with faults, then lets everything settle.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.options.steps {
            self.step()?;
            self.tally.steps += 1;
        }
        self.settle()
    }

    fn step(&mut self) -> Result<(), String> {
        if self.cluster.is_some() {
            self.step_cluster()?;
        } else {
            self.step_alone()?;
        }
        self.step_members();
        self.judge()?;
        if self.rng.below(10_000) < u64::from(self.options.faults.rate) {
            self.strike()?;
        }
        self.revive()?;
        self.judge()
    }

    fn step_alone(&mut self) -> Result<(), String> {
        self.pass_time();
        match self.rng.below(100) {
            0..40 => self.turn_by(0, Node::turn)?,
            40..75 => self.turn_client(),
            75..98 => self.turn_network(),
            _ => self.look(),
        }
        Ok(())
    }

    fn pass_time(&mut self) {
        let micros = match self.rng.below(1000) {
            0 => 20_000_000,
            1..5 => 1_000_000,
            5..30 => 100_000,
            _ => 2_000,
        };
        let passed = self.rng.below(micros);
        self.advance(Duration::from_micros(passed));
    }

    pub(super) fn advance(&mut self, duration: Duration) {
        self.now = self.now.plus(duration);
        self.trace.set_now(self.now);
        if let Some(cluster) = &mut self.cluster {
            cluster.advance(self.now, &mut self.rng);
        }
    }

    /// The place of a seat, by chance if there are several.
    fn pick_seat(&mut self) -> usize {
        if self.seats.len() == 1 { 0 } else { self.rng.size(0, self.seats.len() - 1) }
    }

    /// The nodes that run.
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.seats.iter().filter_map(|seat| seat.node.as_ref())
    }

    /// A node takes a turn, by one of its machines or by all.
    fn turn_by(
        &mut self,
        at: usize,
        turn: fn(&mut Node, &mut Outside<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some((node, mut outside)) = self.inside(at) else { return Ok(()) };
        turn(node, &mut outside).or_else(|error| self.on_stopped(at, &error))
    }

    fn turn_client(&mut self) {
        let at = self.rng.size(0, self.clients.len() - 1);
        self.turn_client_at(at, false);
    }

    fn turn_client_at(&mut self, at: usize, is_settling: bool) {
        let is_running = |seat: &&Seat| seat.node.is_some();
        let mut nodes: Vec<u64> =
            self.seats.iter().filter(is_running).map(|seat| seat.name.id).collect();
        if nodes.is_empty() {
            nodes.extend(self.seats.iter().filter(|seat| seat.is_in()).map(|seat| seat.name.id));
        }
        let Self { now, rng, network, book, trace, seen, oracle, options, .. } = self;
        let mut surroundings = Surroundings {
            now: *now,
            rng,
            network,
            book,
            trace,
            seen,
            oracle,
            options,
            nodes: &nodes,
            is_settling,
        };
        self.clients[at].turn(&mut surroundings);
    }

    fn turn_network(&mut self) {
        for _ in 0..3 {
            if let Some(id) = self.network.any(&mut self.rng)
                && let Some(connection) = self.network.get_mut(id)
            {
                connection.advance(&mut self.rng);
            }
        }
        self.network.sweep();
    }

    /// The node of a seat with what it may touch, if it runs and is not paused.
    fn inside(&mut self, at: usize) -> Option<(&mut Node, Outside<'_>)> {
        if self.seats[at].is_paused(self.now) {
            return None;
        }
        let (seat, outside) = self.around(at);
        Some((seat.node.as_mut()?, outside))
    }

    /// A seat, and what its node may touch.
    fn around(&mut self, at: usize) -> (&mut Seat, Outside<'_>) {
        let Self { rng, network, trace, oracle, options, seats, rules, cluster, .. } = self;
        let nodes = seats.len() as u64;
        let seat = &mut seats[at];
        let (name, now) = (seat.name, seat.monotonic(self.now));
        let node_lost = cluster.as_ref().map_or(NODE_LOST, |cluster| cluster.node_lost);
        let net = cluster.as_mut().map(|cluster| &mut cluster.net);
        let outside = Outside {
            name,
            now,
            wall: Timestamp(now.0 + seat.wall_ahead),
            rng,
            network,
            trace,
            oracle,
            options,
            rules,
            node_lost,
            others: net.map(|net| Others { net, nodes, now: self.now }),
        };
        (seat, outside)
    }

    /// Lets every invariant judge what was seen.
    fn judge(&mut self) -> Result<(), String> {
        if !self.oracle.faults.is_empty() && self.seen.is_empty() {
            return Err(format!("history: {}", self.oracle.faults[0]));
        }
        for seen in self.seen.drain(..) {
            match &seen {
                Seen::Received(_) => self.tally.received += 1,
                Seen::ConnAck { session_present: true, .. } => self.tally.resumed += 1,
                _ => {}
            }
            let facts = Facts { oracle: &self.oracle, book: &self.book, clients: &self.clients };
            for (name, invariant) in &mut self.invariants {
                invariant.see(&seen, &facts).map_err(|fault| format!("{name}: {fault}"))?;
            }
        }
        Ok(())
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            steps,
            crashes,
            published,
            received,
            resumed,
            void,
            late,
            snapshots,
            joined,
            left,
        } = other;
        self.steps += steps;
        self.crashes += crashes;
        self.published += published;
        self.received += received;
        self.resumed += resumed;
        self.void += void;
        self.late += late;
        self.snapshots += snapshots;
        self.joined += joined;
        self.left += left;
    }
}
