//! The node: the three machines and, by hand, the turns of their drivers.
//!
//! What `gateway/src/worker.rs`, `projections/src/driver.rs` and the log thread do with threads
//! and sockets, this does step by step: a worker's turn, a turn of the projections, a turn of the
//! log, a read that a worker waits for, a write of the checkpoint. Chance decides who is next.

pub(crate) mod disk;
pub(crate) mod log;
mod projections;
mod sources;
mod worker;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ledgermq_core::access::RuleList;
use ledgermq_core::event::EventRef;
use ledgermq_core::offset::Timestamp;
use ledgermq_log::{CommittedBatch, Membership, Tail, TailError};
use ledgermq_projections::checkpoint::MemoryStore;

use crate::book::uid_of;
use crate::net::Net;
use crate::network::{ConnId, Network};
use crate::options::Options;
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::trace::Trace;

use disk::Disk;
use log::{NoWake, SimLog};
use projections::Projections;

pub(crate) use worker::Worker;

/// What outlives a crash.
#[derive(Clone, Default)]
pub(crate) struct Remains {
    pub(crate) disk: Disk,
    pub(crate) store: MemoryStore,
}

/// A running node.
pub(crate) struct Node {
    pub(crate) log: SimLog,
    pub(crate) projections: Projections,
    pub(crate) workers: Vec<Worker>,
    /// Where the oracle stands.
    told: Tail,
    takes_connections: bool,
    is_stopping: bool,
    /// The rules that the file has.
    rules: Option<RuleList>,
}

/// Which node, and how the trace calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    /// Its number, from 1.
    pub(crate) id: u64,
    /// There is no other.
    pub(crate) is_alone: bool,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_alone { Ok(()) } else { write!(f, "node {}: ", self.id) }
    }
}

/// What a node may touch in its turn.
pub(crate) struct Outside<'a> {
    pub(crate) name: Name,
    /// The node's even clock, which only goes on.
    pub(crate) now: Timestamp,
    /// What the wall clock shows.
    pub(crate) wall: Timestamp,
    pub(crate) rng: &'a mut Rng,
    pub(crate) network: &'a mut Network,
    pub(crate) trace: &'a mut Trace,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) options: &'a Options,
    /// The rules that the file has.
    pub(crate) rules: &'a Option<RuleList>,
    /// After this time unheard a node is declared lost.
    pub(crate) node_lost: Duration,
    /// None for a node that is alone.
    pub(crate) others: Option<Others<'a>>,
}

/// The way to the other nodes.
pub(crate) struct Others<'a> {
    pub(crate) net: &'a mut Net,
    /// Number of nodes, this one counted.
    pub(crate) nodes: u64,
    /// The true time, which is the network's.
    pub(crate) now: Timestamp,
}

impl Outside<'_> {
    /// Writes down what the node does.
    pub(crate) fn say(&mut self, what: fmt::Arguments<'_>) {
        self.trace.say(format_args!("{}{what}", self.name));
    }
}

impl Node {
    /// Starts a node on what an earlier one left behind.
    pub(crate) fn start(
        remains: &Remains,
        membership: Option<Membership>,
        o: &mut Outside<'_>,
    ) -> Result<Self, String> {
        let log = SimLog::open(&remains.disk, membership, o)?;
        let mut projections = Projections::open(remains.store.clone(), &log.log, o)?;
        // What `driver.rs` does at the start.
        match log.log.is_sole_member() {
            true => projections.set_rules(o.rules.clone()),
            false => projections.offer_rules(o.rules.clone()),
        }
        let workers = Vec::new();
        let status = log.log.status();
        o.say(format_args!(
            "the node starts ({}): log {}..={}, views at {}",
            log.log.start(),
            status.first_index,
            status.commit_index,
            projections.reader.applied(),
        ));
        if o.name.is_alone {
            o.oracle.on_recovered(status.commit_index);
        }
        let told = log.log.tail_gapless(status.first_index, NoWake::shared());
        let mut node = Self {
            log,
            projections,
            workers,
            told,
            takes_connections: false,
            is_stopping: false,
            rules: o.rules.clone(),
        };
        node.tell(o)?;
        Ok(node)
    }

    /// The process is gone, with all that was in memory.
    pub(crate) fn crash(self, o: &mut Outside<'_>) -> Remains {
        o.network.node_died(o.name.id, o.rng);
        let store = self.projections.store;
        Remains { disk: self.log.crash(o), store }
    }

    /// The file was changed, and the node told so. One of several does not lift rules because it has
    /// no file: another may have one.
    pub(crate) fn reload(&mut self, rules: Option<RuleList>) {
        if rules.is_some() || self.log.log.is_sole_member() {
            self.projections.set_rules(rules.clone());
        }
        self.rules = rules;
    }

    /// Whatever rules there are, they are lifted.
    pub(crate) fn lift_rules(&mut self) {
        self.projections.set_rules(None);
        self.rules = None;
    }

    /// One machine takes a turn.
    pub(crate) fn turn(&mut self, o: &mut Outside<'_>) -> Result<(), String> {
        let has_workers = !self.workers.is_empty();
        match o.rng.below(10) {
            0..=3 if has_workers => {
                let at = o.rng.size(0, self.workers.len() - 1);
                self.workers[at].turn(&self.log.log, &self.projections, o)?;
            }
            4..=5 => self.turn_log(o)?,
            6..=7 => self.projections.turn(&self.log.log, &mut self.workers, o)?,
            8 => self.projections.answer(&self.log.log, o)?,
            _ if has_workers => {
                let at = o.rng.size(0, self.workers.len() - 1);
                self.workers[at].load(&self.log.log, o)?;
            }
            _ => {}
        }
        self.accept(o);
        Ok(())
    }

    /// Every machine takes a turn.
    pub(crate) fn turn_all(&mut self, o: &mut Outside<'_>) -> Result<(), String> {
        self.accept(o);
        for worker in &mut self.workers {
            worker.turn(&self.log.log, &self.projections, o)?;
        }
        self.take_log_turn(o, usize::MAX)?;
        self.projections.turn(&self.log.log, &mut self.workers, o)?;
        self.projections.answer(&self.log.log, o)?;
        for worker in &mut self.workers {
            worker.load(&self.log.log, o)?;
        }
        Ok(())
    }

    /// Whether nothing is on its way inside.
    pub(crate) fn is_idle(&self) -> bool {
        self.log.is_idle()
            && self.projections.is_at_end(self.log.log.status().commit_index)
            && self.takes_connections
            && self.workers.iter().all(|worker| worker.is_idle(&self.log.log))
    }

    /// The first thing of a stop in order: no new connection is taken, every client is told.
    pub(crate) fn end_connections(&mut self, o: &Outside<'_>) {
        self.is_stopping = true;
        for worker in &mut self.workers {
            worker.end_all(o);
        }
    }

    /// Whether every connection has ended, and its last events are committed.
    pub(crate) fn is_drained(&self) -> bool {
        self.log.is_idle() && self.workers.iter().all(|worker| worker.is_drained(&self.log.log))
    }

    /// The rest of a stop in order: the projections apply everything and write their last
    /// checkpoint, then the log ends.
    pub(crate) fn close(&mut self, o: &mut Outside<'_>) -> Result<(), String> {
        let commit = self.log.log.status().commit_index;
        while !self.projections.is_at_end(commit) && !self.projections.is_installing() {
            self.projections.turn(&self.log.log, &mut self.workers, o)?;
        }
        self.projections.save_last(&self.log.log, o)?;
        self.log.close()
    }

    /// Deliveries that were given up because too much waited.
    pub(crate) fn dropped(&self) -> u64 {
        let of = |worker: &Worker| {
            let stats = worker.shard.stats();
            stats.dropped_queue_full + stats.dropped_purged
        };
        self.workers.iter().map(of).sum()
    }

    /// The log takes a turn, with some of what came from other nodes.
    pub(crate) fn turn_log(&mut self, o: &mut Outside<'_>) -> Result<(), String> {
        let inputs = if o.others.is_some() { o.rng.size(0, 20) } else { 0 };
        self.take_log_turn(o, inputs)
    }

    fn take_log_turn(&mut self, o: &mut Outside<'_>, inputs: usize) -> Result<(), String> {
        let result = self.log.turn(o, inputs);
        self.tell(o)?;
        result
    }

    /// Tells the oracle what was committed.
    fn tell(&mut self, o: &mut Outside<'_>) -> Result<(), String> {
        let mut batches = Vec::new();
        loop {
            match self.told.take(usize::MAX, &mut batches) {
                // The log jumped: the oracle knows from others what was skipped.
                Err(TailError::Gap { to, .. }) if to <= o.oracle.last_entry => continue,
                taken => taken.map_err(|error| error.to_string())?,
            }
            let last = self.told.position() - 1;
            o.oracle.last_entry = o.oracle.last_entry.max(last);
            if batches.is_empty() {
                return Ok(());
            }
            for batch in batches.drain(..) {
                if batch.index > o.oracle.last_index {
                    describe(&batch, o.trace);
                }
                o.oracle.on_committed(&batch);
            }
        }
    }

    /// Hands new connections to the workers, once the views know of this start.
    fn accept(&mut self, o: &mut Outside<'_>) {
        if self.is_stopping {
            return;
        }
        if !self.takes_connections {
            let reader = &self.projections.reader;
            let is_alone = self.log.log.is_sole_member();
            let has_rules = reader.with(|views| {
                let access = views.access();
                access.rules().list() == self.rules.as_ref()
                    || !is_alone && access.since().is_some()
            });
            if !reader.is_ready() || !has_rules {
                return;
            }
            self.takes_connections = true;
            let workers = (0..o.options.workers).map(|_| Worker::new(&self.log.log, reader, o));
            self.workers = workers.collect();
        }
        let mut accepted = Vec::new();
        for (id, connection) in &mut o.network.connections {
            let is_here = connection.node == o.name.id;
            if !is_here || connection.is_accepted || connection.node_left || connection.is_silent {
                continue;
            }
            connection.is_accepted = true;
            let at = o.rng.size(0, self.workers.len() - 1);
            accepted.push((at, *id));
        }
        for (at, id) in accepted {
            self.workers[at].accept(o, id);
        }
    }
}

/// The address of a connection's client.
pub(crate) fn peer(id: ConnId) -> SocketAddr {
    let [_, a, b, c] = id.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, a, b, c), 1))
}

/// Writes a committed batch down, a line for each record.
fn describe(batch: &CommittedBatch, trace: &mut Trace) {
    let body = batch.batch();
    let sessions: Vec<_> = body.sessions().flatten().collect();
    for record in body.records().flatten() {
        let client = record.session.map_or("-", |slot| sessions[usize::from(slot)].client);
        let void = if batch.is_void(&record) { " VOID" } else { "" };
        let place = format_args!("log {}:{}{void} {client}", batch.index, record.ordinal);
        match record.event() {
            Ok(EventRef::MessagePublished(message)) => trace.say(format_args!(
                "{place} published m{} {} {:?} id {:?} retain {}",
                uid_of(message.payload).unwrap_or_default(),
                message.topic,
                message.qos,
                message.packet_id,
                message.retain,
            )),
            Ok(EventRef::Other(event)) => trace.say(format_args!("{place} {event:?}")),
            Err(error) => trace.say(format_args!("{place} {error}")),
        }
    }
}
