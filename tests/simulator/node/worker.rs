//! A worker's turns: what `gateway/src/worker.rs` does, with pipes for sockets.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ledgermq_core::connection::{Refusal, Settings};
use ledgermq_core::identity::{ClientId, ProducerId};
use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_core::reason::ReasonCode;
use ledgermq_gateway::shard::{Asked, Shard, Stage, Token};
use ledgermq_gateway::worker::patience;
use ledgermq_log::{Class, Log, Producer, Tail, TailError};
use ledgermq_projections::notice::Notice;
use ledgermq_projections::reader::Reader;

use crate::network::{ConnId, Read};
use crate::node::log::NoWake;
use crate::node::projections::Projections;
use crate::node::sources::SimSources;
use crate::node::{Outside, peer};
use crate::oracle::Process;

/// One worker.
pub(crate) struct Worker {
    producer: Producer,
    tail: Tail,
    /// What its clock, the wall clock when it started, gained.
    started: (Timestamp, Timestamp),
    pub(crate) shard: Shard,
    sources: SimSources,
    pub(crate) inbox: VecDeque<Notice>,
    accepted: Vec<ConnId>,
    sockets: BTreeMap<Token, Socket>,
    /// Passwords that are being compared.
    asked: Vec<Asked>,
    /// Since when there is no quorum; whether its clients were sent away for that.
    cut_off: Option<(Timestamp, bool)>,
    /// Part of the log is skipped: the first index that is there, and the incarnation that skips.
    skipping: Option<(Index, u64)>,
}

/// A connection's end at the node.
#[derive(Debug)]
struct Socket {
    conn: ConnId,
    /// Its input is not taken at the moment.
    is_paused: bool,
}

impl Worker {
    pub(crate) fn new(log: &Log, views: &Reader, o: &Outside<'_>) -> Self {
        let names: ledgermq_gateway::shard::Names = Box::new(|| ClientId::from("nobody"));
        let (applied, rules) =
            views.with(|views| (views.applied(), views.access().rules().clone()));
        let position = applied + 1;
        let settings = Settings { node: o.name.id, rules, ..o.options.settings.clone() };
        let producer = log.producer(NoWake::shared());
        let shard = Shard::new(
            producer.id(),
            settings,
            o.options.shard,
            Stage::new(producer.builder(), names),
            position,
            o.wall,
        );
        Self {
            tail: log.tail_gapless(position, NoWake::shared()),
            producer,
            started: (o.now, o.wall),
            shard,
            sources: SimSources::default(),
            inbox: VecDeque::new(),
            accepted: Vec::new(),
            sockets: BTreeMap::new(),
            asked: Vec::new(),
            cut_off: None,
            skipping: None,
        }
    }

    /// Whether it is the worker whose producer has this number.
    pub(crate) fn is(&self, local: u16) -> bool {
        self.producer.id().local == local
    }

    /// The process that its connections belong to. The log may have begun anew, as another, already.
    pub(crate) fn process(&self) -> Process {
        let ProducerId { node, start, .. } = self.producer.id();
        Process { node, start }
    }

    /// Its clock: it never runs backwards.
    fn clock(&self, o: &Outside<'_>) -> Timestamp {
        let (started, wall) = self.started;
        wall.plus(o.now.since(started))
    }

    pub(crate) fn accept(&mut self, o: &Outside<'_>, conn: ConnId) {
        let now = self.clock(o);
        let token = self.shard.accept(now, peer(conn));
        self.sockets.insert(token, Socket { conn, is_paused: false });
        self.accepted.push(conn);
    }

    /// Tells every client that the node stops.
    pub(crate) fn end_all(&mut self, o: &Outside<'_>) {
        let now = self.clock(o);
        self.shard.end_all(now, ReasonCode::ServerShuttingDown);
    }

    /// Whether it has read everything up to `last` and holds the connection of `client`.
    pub(crate) fn holds(&self, client: &str, last: Index) -> bool {
        self.shard.position() > last && self.shard.counts(client).is_some()
    }

    pub(crate) fn is_idle(&self, log: &Log) -> bool {
        self.inbox.is_empty()
            && self.asked.is_empty()
            && self.skipping.is_none()
            && self.tail.position() > log.status().commit_index
    }

    /// Whether all its connections have ended and their events are committed.
    pub(crate) fn is_drained(&self, log: &Log) -> bool {
        self.shard.connections() == 0 && self.shard.is_idle() && self.is_idle(log)
    }

    /// Batches that were asked for come.
    pub(crate) fn load(&mut self, log: &Log, o: &mut Outside<'_>) -> Result<(), String> {
        self.sources.load(log, o.rng)
    }

    pub(crate) fn turn(
        &mut self,
        log: &Log,
        projections: &Projections,
        o: &mut Outside<'_>,
    ) -> Result<(), String> {
        let now = self.clock(o);
        self.sources.reader = Some(projections.reader.clone());
        self.shard.retained_messages = projections.reader.retained_messages();
        self.jump(log, now, o);
        if self.producer.renew() {
            self.shard.on_incarnation(now, self.producer.id());
        }
        self.refresh(log, now, o);
        self.take_notices(now, o);
        let known = o.oracle.access.before(self.shard.position());
        self.read(now, o);
        self.authenticate(now, o);
        self.hand_over(known, o);
        self.take_committed(log, now, o)?;
        self.shard.retry(now, &mut self.sources);
        self.shard.tick(now, &mut self.sources);
        self.hand_over(known, o);
        let expected = o.oracle.access.at(o.oracle.access.before(self.shard.position()));
        if self.shard.settings.rules.list() != expected {
            return Err(format!("access: a shard has other rules at {}", self.shard.position()));
        }
        self.write(now, o);
        Ok(())
    }

    /// Goes on behind a gap as soon as the node begins anew and the views have come as far.
    fn jump(&mut self, log: &Log, now: Timestamp, o: &mut Outside<'_>) {
        let Some((next, start)) = self.skipping else { return };
        let Some(reader) = &self.sources.reader else { return };
        let (applied, rules) =
            reader.with(|views| (views.applied(), views.access().rules().clone()));
        if applied + 1 < next || log.incarnation() == start {
            return;
        }
        o.say(format_args!("a worker goes on at {}", applied + 1));
        self.skipping = None;
        self.sources.forget();
        self.shard.jump(now, applied + 1, rules);
        self.tail = log.tail_gapless(applied + 1, NoWake::shared());
    }

    fn refresh(&mut self, log: &Log, now: Timestamp, o: &Outside<'_>) {
        self.shard.set_log_time(log.time());
        if let Some(reader) = &self.sources.reader {
            self.shard.set_applied(reader.applied());
        }
        let gate = log.gate();
        let patience = patience(&gate, o.node_lost);
        self.watch_quorum(now, patience);
        let settings = &mut self.shard.settings;
        settings.elsewhere = log.is_draining().then(|| log.mqtt_elsewhere().join(" ").into());
        let did_take = settings.takes_publishes;
        let start = self.producer.id().start;
        let is_known = self.skipping.is_none()
            && self.sources.reader.as_ref().is_some_and(|views| views.is_ready_as(start));
        let was_cut_off = settings.shortage == Refusal::Quorum;
        let is_cut_off = patience.is_some() || !is_known;
        settings.shortage = if is_cut_off { Refusal::Quorum } else { Refusal::Storage };
        settings.takes_publishes = is_known && gate.accepts(Class::Publish);
        settings.takes_sessions = is_known && gate.accepts(Class::Open);
        if settings.takes_publishes && !did_take || was_cut_off && !is_cut_off {
            self.shard.on_gate_opened(now, &mut self.sources);
        }
    }

    /// Where nothing becomes durable clients wait for so long, and are sent away then.
    fn watch_quorum(&mut self, now: Timestamp, patience: Option<Duration>) {
        let Some(patience) = patience else {
            self.cut_off = None;
            return;
        };
        let (since, did_end) = self.cut_off.get_or_insert((now, false));
        if !*did_end && now.since(*since) >= patience {
            *did_end = true;
            self.shard.end_cut_off(now);
        }
    }

    fn take_notices(&mut self, now: Timestamp, o: &mut Outside<'_>) {
        let count = o.rng.size(0, self.inbox.len());
        let count = if o.rng.permille(700) { self.inbox.len() } else { count };
        for notice in self.inbox.drain(..count) {
            self.shard.on_notice(now, notice, &mut self.sources);
        }
    }

    fn read(&mut self, now: Timestamp, o: &mut Outside<'_>) {
        let mut resumed = Vec::new();
        self.shard.take_resumed(&mut resumed);
        for token in resumed {
            if let Some(socket) = self.sockets.get_mut(&token) {
                socket.is_paused = false;
            }
        }
        let tokens: Vec<_> = self.sockets.keys().copied().collect();
        for token in tokens {
            if self.shard.stage().is_congested() {
                return;
            }
            self.read_one(now, token, o);
        }
    }

    fn read_one(&mut self, now: Timestamp, token: Token, o: &mut Outside<'_>) {
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        let Some(connection) = o.network.get_mut(socket.conn) else { return };
        if socket.is_paused || !connection.up.is_readable() {
            return;
        }
        if !self.shard.takes_bytes(token) {
            socket.is_paused = true;
            return;
        }
        let max = if o.rng.permille(200) { o.rng.size(1, 100) } else { 64 << 10 };
        match connection.up.read(max) {
            Read::Bytes(bytes) => self.shard.on_bytes(now, token, &bytes, &mut self.sources),
            Read::Nothing => {}
            Read::Closed => {
                self.shard.on_transport_closed(now, token);
                self.close(token, o);
            }
        }
    }

    /// Passwords are compared elsewhere: the answers come later, in any order, and some are bad.
    fn authenticate(&mut self, now: Timestamp, o: &mut Outside<'_>) {
        self.shard.take_asked(&mut self.asked);
        while !self.asked.is_empty() && o.rng.permille(500) {
            let asked = self.asked.swap_remove(o.rng.size(0, self.asked.len() - 1));
            let verdict = match o.rng.below(20) {
                0 => Err(ReasonCode::ServerBusy),
                1 => Err(ReasonCode::BadUserNameOrPassword),
                _ => Ok(()),
            };
            self.shard.on_authenticated(now, asked.token, verdict, &mut self.sources);
        }
    }

    /// `known`: how many changes of the rules the shard knew when the turn began.
    fn hand_over(&mut self, known: usize, o: &mut Outside<'_>) {
        let producer = &mut self.producer;
        let id = producer.id();
        let staged = &mut o.oracle.staged;
        self.shard.stage().hand_over(|class, batch| match producer.push(class, batch) {
            Ok(pushed) => {
                staged.entry((id, pushed.sequence)).or_insert(known);
                true
            }
            Err(_) => false,
        });
    }

    fn take_committed(
        &mut self,
        log: &Log,
        now: Timestamp,
        o: &mut Outside<'_>,
    ) -> Result<(), String> {
        if self.skipping.is_some() {
            return Ok(());
        }
        let mut batches = Vec::new();
        match self.tail.take(o.options.committed_bytes, &mut batches) {
            Err(TailError::Gap { from, to }) if o.others.is_some() => {
                o.say(format_args!("a worker skips {from} to {to}"));
                let start = self.producer.id().start;
                self.skipping = Some((to + 1, start));
                if log.incarnation() == start {
                    log.renew_incarnation();
                }
            }
            taken => taken.map_err(|error| format!("a worker cannot read on: {error}"))?,
        }
        for batch in batches {
            self.shard.on_committed(now, &batch, &mut self.sources);
        }
        Ok(())
    }

    fn write(&mut self, now: Timestamp, o: &mut Outside<'_>) {
        // A socket that takes bytes again is written without being asked for.
        let mut tokens: Vec<_> = self.sockets.keys().copied().collect();
        let mut dirty = Vec::new();
        self.shard.take_dirty(&mut dirty);
        dirty.retain(|token| !self.sockets.contains_key(token));
        tokens.extend(dirty);
        for token in tokens {
            self.write_one(now, token, o);
        }
        let mut closed = Vec::new();
        self.shard.take_closed(&mut closed);
        for token in closed {
            self.close(token, o);
        }
    }

    fn write_one(&mut self, now: Timestamp, token: Token, o: &mut Outside<'_>) {
        let Some(socket) = self.sockets.get(&token) else { return };
        let conn = socket.conn;
        loop {
            let output = self.shard.output(token);
            if output.is_empty() {
                break;
            }
            let Some(connection) = o.network.get_mut(conn) else { return };
            match connection.down.send(output, o.options.socket_bytes) {
                Some(0) => return,
                Some(bytes) => self.shard.written(now, token, bytes, &mut self.sources),
                None => {
                    self.shard.on_transport_closed(now, token);
                    return self.close(token, o);
                }
            }
        }
        if self.shard.is_ending(token) {
            self.shard.forget(token);
            self.close(token, o);
        }
    }

    fn close(&mut self, token: Token, o: &mut Outside<'_>) {
        let Some(socket) = self.sockets.remove(&token) else { return };
        let Some(connection) = o.network.get_mut(socket.conn) else { return };
        connection.node_left = true;
        connection.down.close();
        o.say(format_args!("the node closes connection {}", socket.conn));
    }
}
