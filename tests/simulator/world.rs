//! The world of one seed: a node, its disk, clients, the network between, faults, and the judges.

mod faults;
mod look;

use std::time::Duration;

use ledgermq_core::access::RuleList;
use ledgermq_core::offset::Timestamp;
use ledgermq_projections::views::Views;

use crate::book::Book;
use crate::client::{Client, Surroundings};
use crate::invariants::{Facts, Invariant};
use crate::network::Network;
use crate::node::{Node, Outside, Remains};
use crate::options::Options;
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::seen::Seen;
use crate::trace::{START, Trace};

/// Where the wall clock begins: it may be put back from there.
const WALL_AHEAD: u64 = 1_000_000_000_000;
/// Rounds within which everything must be delivered when faults have stopped.
const SETTLE_ROUNDS: u64 = 12_000;
/// Time that passes in a round, and in one that finds everything at rest.
const ROUND: Duration = Duration::from_millis(25);
const QUIET_ROUND: Duration = Duration::from_millis(250);
/// Rounds at rest after which nothing more is expected: longer than a will may be delayed, by a log
/// whose time goes at half the pace.
const QUIET_ROUNDS: u64 = 200;

/// Everything that a seed makes.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    /// Microseconds by which the wall clock is ahead of true time.
    wall_ahead: u64,
    pub(crate) rng: Rng,
    pub(crate) options: Options,
    pub(crate) trace: Trace,
    network: Network,
    book: Book,
    clients: Vec<Client>,
    oracle: Oracle,
    /// The views folded from the beginning, batch by batch.
    scratch: Views,
    node: Option<Node>,
    remains: Option<Remains>,
    restart_at: Timestamp,
    heal_at: Option<Timestamp>,
    /// The access rules in the node's file.
    rules: Option<RuleList>,
    seen: Vec<Seen>,
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
}

impl World {
    pub(crate) fn new(seed: u64, is_loud: bool) -> Self {
        let mut rng = Rng::new(seed);
        let options = Options::draw(&mut rng);
        let clients =
            (0..options.clients).map(|number| Client::new(number, &options, &mut rng)).collect();
        let oracle =
            Oracle { may_drop: options.queued.queued_messages < 1000, ..Oracle::default() };
        Self {
            now: START,
            wall_ahead: WALL_AHEAD,
            trace: Trace::new(is_loud),
            network: Network::default(),
            book: Book::default(),
            clients,
            oracle,
            scratch: Views::new(options.queued),
            node: None,
            remains: Some(Remains::default()),
            restart_at: START,
            heal_at: None,
            rules: None,
            seen: Vec::new(),
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
        self.pass_time();
        match self.rng.below(100) {
            0..40 => self.turn_node()?,
            40..75 => self.turn_client(),
            75..98 => self.turn_network(),
            _ => self.look(),
        }
        self.judge()?;
        if self.rng.below(10_000) < u64::from(self.options.faults.rate) {
            self.strike()?;
        }
        self.revive()?;
        self.judge()
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

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(self.now.0 + self.wall_ahead)
    }

    pub(super) fn advance(&mut self, duration: Duration) {
        self.now = self.now.plus(duration);
        self.trace.set_now(self.now);
    }

    fn turn_node(&mut self) -> Result<(), String> {
        let Some((node, mut outside)) = self.inside() else { return Ok(()) };
        match node.turn(&mut outside) {
            Ok(()) => Ok(()),
            Err(error) => self.on_stopped(&error),
        }
    }

    fn turn_client(&mut self) {
        let at = self.rng.size(0, self.clients.len() - 1);
        self.turn_client_at(at, false);
    }

    fn turn_client_at(&mut self, at: usize, is_settling: bool) {
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

    /// The node with what it may touch.
    fn inside(&mut self) -> Option<(&mut Node, Outside<'_>)> {
        let wall = self.wall();
        let Self { now, rng, network, trace, oracle, options, node, rules, .. } = self;
        let outside = Outside { now: *now, wall, rng, network, trace, oracle, options, rules };
        Some((node.as_mut()?, outside))
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

    /// Faults stop, clients behave: everything must come to its end.
    fn settle(&mut self) -> Result<(), String> {
        self.trace.say(format_args!("--- faults stop"));
        self.heal();
        self.change_rules(None);
        self.options.socket_bytes = self.options.socket_bytes.max(64 << 10);
        let (mut quiet, mut is_at_rest) = (0, false);
        for _ in 0..SETTLE_ROUNDS {
            self.advance(if is_at_rest { QUIET_ROUND } else { ROUND });
            if let Some((node, mut outside)) = self.inside() {
                node.turn_all(&mut outside).or_else(|error| self.on_stopped(&error))?;
            }
            self.revive()?;
            for at in 0..self.clients.len() {
                self.turn_client_at(at, true);
            }
            for connection in self.network.connections.values_mut() {
                connection.advance(&mut self.rng);
            }
            self.network.sweep();
            self.judge()?;
            let is_quiet = self.node.as_ref().is_some_and(Node::is_idle)
                && self.clients.iter().all(Client::is_settled);
            let is_silent = self.network.is_silent();
            quiet = if is_quiet { quiet + u64::from(is_silent) } else { 0 };
            is_at_rest = is_quiet && is_silent;
            if quiet >= QUIET_ROUNDS {
                return self.finish();
            }
        }
        let clients: Vec<_> = self
            .clients
            .iter()
            .filter(|client| !client.is_settled())
            .map(|client| format!("{client:?}"))
            .collect();
        let is_idle = self.node.as_ref().is_some_and(Node::is_idle);
        Err(format!("owed: it does not come to rest; idle {is_idle}, unsettled: {clients:?}"))
    }

    fn finish(&mut self) -> Result<(), String> {
        self.trace.say(format_args!("--- settled"));
        self.tell_what_is_owed();
        for client in &self.clients {
            let open = client.left_open(&self.network);
            let left = open.map(|conn| Seen::LeftOpen { client: client.number, conn });
            self.seen.extend(left);
        }
        let dropped = self.node.as_ref().map_or(0, Node::dropped);
        self.oracle.may_lose_transient |= dropped > 0 || self.oracle.access.has_changed();
        self.look();
        self.seen.push(Seen::Settled);
        self.tally.void = self.oracle.void_records;
        self.tally.published = self.oracle.published.len() as u64;
        self.judge()
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { steps, crashes, published, received, resumed, void } = other;
        self.steps += steps;
        self.crashes += crashes;
        self.published += published;
        self.received += received;
        self.resumed += resumed;
        self.void += void;
    }
}
