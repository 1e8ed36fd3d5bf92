//! A place for a node: its disk, and its process while one runs.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::event::Event;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::quantity::ByteSize;
use ledgermq_log::cluster::{Members, PeerInput};
use ledgermq_log::space::Monitor;
use ledgermq_log::{
    Beginning, Class, Config, Durability, Log, LogMachine, Membership, Now, OpenError, Producer,
    Ticket,
};

use crate::net::{Net, Out};
use crate::node::disk::{Disk, SimStore};
use crate::node::log::NoWake;
use crate::raft::fold::{Fold, Habits, Saved, Step};
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
    /// Its disk is gone: it never comes back.
    pub(crate) is_lost: bool,
    /// Its disk was damaged.
    pub(crate) may_be_damaged: bool,
    /// Its log was given up since.
    pub(crate) was_given_up: bool,
    /// When an image of the disk was taken, with what the fold had saved.
    pub(crate) remembered_at: Option<Timestamp>,
    pub(crate) remembered: Saved,
    /// The least number of a start, as the files of the cluster note it, which outlive a log. None has
    /// begun if it is 0: the first node then founds the cluster, and any other begins with what it is
    /// sent.
    start_min: u64,
    /// The members as it was told when it was let in, before its first process.
    pub(crate) told: Option<Arc<Members>>,
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    Yes,
    /// The log was given up.
    GaveUp(String),
}

/// What a turn brought.
#[derive(Default)]
pub(crate) struct Turn {
    /// Votes that were given: in which term, to whom.
    pub(crate) votes: Vec<(u64, u64)>,
    /// The node may not vote.
    pub(crate) is_in_doubt: bool,
    /// The log was given up.
    pub(crate) gave_up: Option<String>,
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
    pub(crate) started: Timestamp,
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
            is_lost: false,
            may_be_damaged: false,
            was_given_up: false,
            remembered_at: None,
            remembered: Saved::default(),
            start_min: u64::from(id > 1),
            told: None,
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
    ) -> Result<Started, String> {
        let durability = if options.is_cached { Durability::OsCache } else { Durability::Fsync };
        let config = Config {
            durability,
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
            membership: options.grows.then(|| self.membership()),
            node_lost: Duration::from_secs(options.node_lost),
            config,
            space,
            snapshots: Arc::new(self.disk.snapshots.clone()),
            catch_up_rate: options.catch_up_rate,
            stopwatch: Box::new(|| Duration::ZERO),
        };
        let begins = Now { wall: self.wall(now), monotonic: Duration::ZERO };
        let store = match self.disk.open_checked() {
            Ok(store) => store,
            Err(why) => return self.give_up(&why).map(|()| Started::GaveUp(why)),
        };
        let (log, machine) = match LogMachine::recover(store, beginning, begins) {
            Ok(opened) => opened,
            Err(error @ OpenError::Damaged { .. }) => {
                let why = error.to_string();
                return self.give_up(&why).map(|()| Started::GaveUp(why));
            }
            Err(error) => return Err(format!("the log does not open: {error}")),
        };
        let producers: Vec<_> = (0..2).map(|_| log.producer(NoWake::shared())).collect();
        self.start_min = self.start_min.max(log.start() + 1);
        let fold = Fold::open(&log, &mut self.saved)?;
        let counters = vec![0; producers.len()];
        let greeted = None;
        self.process =
            Some(Process { log, machine, fold, producers, counters, started: now, greeted });
        Ok(Started::Yes)
    }

    fn membership(&mut self) -> Membership {
        membership(self.id, self.start_min, self.told.take())
    }

    /// The log is not what it promised: the next process begins without it, as the driver would.
    fn give_up(&mut self, why: &str) -> Result<(), String> {
        if !self.may_be_damaged {
            return Err(format!("the log of node {} is given up: {why}", self.id));
        }
        self.process = None;
        self.was_given_up = true;
        self.remembered_at = None;
        self.disk.wipe();
        // What was derived from it goes with it.
        self.saved = Saved::default();
        Ok(())
    }

    /// The process is gone; its system goes on and writes what it was given.
    pub(crate) fn kill(&mut self) -> bool {
        self.process.take().is_some()
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
    ) -> Result<Turn, String> {
        let (id, wall) = (self.id, self.wall(now));
        let Some(process) = &mut self.process else { return Ok(Turn::default()) };
        process.renew();
        process.greet(id);
        if process.machine.may_receive() {
            for _ in 0..rng.range(0, 20) {
                let Some(input) = net.next(id, now) else { break };
                process.machine.receive(input);
            }
        }
        let at = Now { wall, monotonic: now.since(process.started) };
        let mut out = Out::new(id, now, net, rng);
        let turned = process.machine.turn(at, &mut out);
        let votes = std::mem::take(&mut out.votes);
        self.start_min = self.start_min.max(process.log.start() + 1);
        match turned {
            Ok(_) => {
                let is_in_doubt = process.machine.is_in_doubt();
                Ok(Turn { votes, is_in_doubt, gave_up: None })
            }
            Err(error) if process.machine.must_make_way(&error) => {
                let why = error.to_string();
                self.give_up(&why)?;
                Ok(Turn { votes, is_in_doubt: true, gave_up: Some(why) })
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// What this node's fold has seen since it was asked last.
    pub(crate) fn shown(&mut self, habits: Habits, rng: &mut Rng) -> Result<Vec<Step>, String> {
        let Some(process) = &mut self.process else { return Ok(Vec::new()) };
        let Process { fold, log, .. } = process;
        fold.turn(log, &mut self.saved, habits, self.may_be_damaged, rng)
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
