//! A place for a node: its disk, and its process while one runs.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::event::Event;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::quantity::ByteSize;
use ledgermq_log::cluster::PeerInput;
use ledgermq_log::space::Monitor;
use ledgermq_log::{Beginning, Class, Config, Log, LogMachine, Now, Producer, Ticket};

use crate::net::{Net, Out};
use crate::node::disk::{Disk, SimStore};
use crate::node::log::NoWake;
use crate::raft::fold::{Fold, Saved};
use crate::raft::members::{Standing, membership};
use crate::raft::options::Options;
use crate::rng::Rng;

/// A place for a node.
pub(crate) struct Seat {
    pub(crate) id: u64,
    pub(crate) standing: Standing,
    pub(crate) disk: Disk,
    /// What the fold has saved.
    pub(crate) saved: Saved,
    pub(crate) process: Option<Process>,
    /// When it starts again.
    pub(crate) restart_at: Timestamp,
    /// Until then it does nothing, as if stopped.
    pub(crate) halted_until: Timestamp,
    /// The disk is full until then.
    pub(crate) full_until: Option<Timestamp>,
    /// Its wall clock is ahead by so much; 100 seconds are right.
    pub(crate) wall_ahead: Duration,
}

/// The wall clocks are ahead by this, so that one can be behind.
pub(crate) const AHEAD: Duration = Duration::from_secs(100);

/// A running process.
pub(crate) struct Process {
    pub(crate) log: Log,
    pub(crate) machine: LogMachine<SimStore>,
    pub(crate) fold: Fold,
    pub(crate) producers: Vec<Producer>,
    /// What the last event of each producer was.
    pub(crate) counters: Vec<u64>,
    started: Timestamp,
    greeted: Option<Ticket>,
}

impl Seat {
    /// A node of a cluster of `nodes`, which everybody knows already; or of one that grows from the
    /// first.
    pub(crate) fn new(id: u64, nodes: u64, grows: bool) -> Self {
        let is_in = !grows || id == 1;
        Self {
            id,
            standing: if is_in { Standing::In } else { Standing::Outside },
            saved: Saved::default(),
            disk: if grows { Disk::default() } else { Disk::of_voter(nodes) },
            process: None,
            restart_at: Timestamp(0),
            halted_until: Timestamp(0),
            full_until: None,
            wall_ahead: AHEAD,
        }
    }

    pub(crate) fn wall(&self, now: Timestamp) -> Timestamp {
        now.plus(self.wall_ahead)
    }

    pub(crate) fn start(
        &mut self,
        options: &Options,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Result<(), String> {
        let config = Config {
            hot_entries_max: options.hot_entries,
            ring_bytes: ByteSize(options.ring_bytes),
            cache_bytes: ByteSize(options.ring_bytes),
            reserve_publish: ByteSize(40_000),
            reserve_open: ByteSize(20_000),
            ballast: ByteSize(10_000),
            file_bytes: ByteSize(10_000),
            ..Config::default()
        };
        let space = Monitor::new(&config, self.disk.space());
        let beginning = Beginning {
            node: self.id,
            seed: rng.next(),
            membership: options.grows.then(|| membership(self.id)),
            node_lost: Duration::from_secs(options.node_lost),
            config,
            space,
            snapshots: Arc::new(self.disk.snapshots.clone()),
            catch_up_rate: options.catch_up_rate,
            stopwatch: Box::new(|| Duration::ZERO),
        };
        let begins = Now { wall: self.wall(now), monotonic: Duration::ZERO };
        let (log, machine) = LogMachine::recover(self.disk.open(), beginning, begins)
            .map_err(|error| format!("the log does not open: {error}"))?;
        let producers: Vec<_> = (0..2).map(|_| log.producer(NoWake::shared())).collect();
        let fold = Fold::open(&log, &mut self.saved)?;
        let counters = vec![0; producers.len()];
        let greeted = None;
        self.process =
            Some(Process { log, machine, fold, producers, counters, started: now, greeted });
        Ok(())
    }

    /// The process is gone, and what its disk had not synced.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> bool {
        let was_there = self.process.take().is_some();
        self.disk.cut_power(rng);
        was_there
    }

    /// Takes what came and turns once.
    pub(crate) fn turn(
        &mut self,
        net: &mut Net,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Result<(), String> {
        let (id, wall) = (self.id, self.wall(now));
        let Some(process) = &mut self.process else { return Ok(()) };
        process.renew();
        process.greet(id);
        if process.machine.may_receive() {
            for _ in 0..rng.range(0, 20) {
                let Some(input) = net.next(id, now) else { break };
                process.machine.receive(input);
            }
        }
        let at = Now { wall, monotonic: now.since(process.started) };
        let mut out = Out { node: id, now, links: &mut net.links, rng };
        process.machine.turn(at, &mut out).map(drop).map_err(|error| error.to_string())
    }

    /// Takes what came, all of it: for times of peace.
    pub(crate) fn take_all(&mut self, net: &mut Net, now: Timestamp) {
        let Some(process) = &mut self.process else { return };
        while process.machine.may_receive() && self.full_until.is_none() {
            let inputs: Vec<PeerInput> = std::iter::from_fn(|| net.next(self.id, now)).collect();
            if inputs.is_empty() {
                break;
            }
            inputs.into_iter().for_each(|input| process.machine.receive(input));
        }
    }
}

impl Process {
    /// Begins anew if the others gave it up.
    fn renew(&mut self) {
        for (producer, counter) in self.producers.iter_mut().zip(&mut self.counters) {
            if producer.renew() {
                *counter = 0;
                self.greeted = None;
            }
        }
    }

    /// Says once that it has started, as every node does: what its earlier starts sent is void then.
    fn greet(&mut self, node: u64) {
        if self.greeted.is_none() {
            let mut events = self.log.builder();
            events.push(None, None, &Event::NodeStarted { node, start: self.log.start() });
            self.greeted = self.log.submit(Class::Progress, events).ok();
        }
    }

    /// Its own word that it leads.
    pub(crate) fn leads(&self, node: u64) -> Option<u64> {
        let status = self.log.status();
        (status.leader == node).then_some(status.term)
    }
}
