//! The driver around a [`Shard`]: one thread that owns its connections' sockets.
//!
//! One turn: read what is readable into one buffer, hand the events to the log, take what was
//! committed, write what came of it, one write a connection. It sleeps in its poll; the log, the
//! projections and the acceptor wake it at most once a turn, and only if it sleeps.

mod connections;
mod elsewhere;
mod lag;
mod lingering;
mod pace;
mod quorum;
pub use quorum::patience;
mod resuming;
pub(crate) mod sockets;
mod upkeep;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledgermq_core::connection::Refusal;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::reason::ReasonCode;
use ledgermq_log::{Class, CommittedBatch, Gate, Log, Producer, ReadError, Tail, TailError};
use mio::{Events, Poll};

use crate::authenticator::{Attempt, Authenticator};
use crate::census::{Census, Pressure};
use crate::clock::Clock;
use crate::control::{self, Asker, ControlDoor, Question};
use crate::inbox::{Inbound, Inbox};
use crate::shard::{Asked, Control, Shard, ShardStats, SysValue, Token, Volume};
use crate::sources::LogSources;

use elsewhere::Elsewhere;
pub(crate) use lag::Lag;
use lingering::Lingering;
use pace::Pace;
pub(crate) use quorum::{NODE_LOST, Quorum};
use resuming::Skipping;
use sockets::{Read, Sockets};

/// Bytes read from one connection at a time.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Bytes read in one turn from all connections that have some, if many have.
const READ_BYTES_ALL: usize = 1 << 20;
/// The least that is read from each of them.
const READ_BYTES_MIN: usize = 4 << 10;
/// Time for the clients and the log to take the rest when the node stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a worker stopped by itself. The node must stop.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log stopped, or cannot be read.
    #[error(transparent)]
    Log(#[from] TailError),
    /// The log holds a damaged batch.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A bug: the thread panicked, and its connections are gone.
    #[error("a worker panicked")]
    Panicked,
    /// The operating system refused to wait.
    #[error("cannot wait for connections")]
    Poll(#[source] io::Error),
}

/// What a worker is made of.
pub(crate) struct Worker {
    pub(crate) poll: Poll,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) log: Log,
    pub(crate) producer: Producer,
    pub(crate) tail: Tail,
    pub(crate) shard: Shard,
    pub(crate) sources: LogSources,
    pub(crate) clock: Clock,
    pub(crate) census: Arc<Census>,
    pub(crate) stats: Arc<Mutex<ShardStats>>,
    /// The node's limits of sessions and retained messages.
    pub(crate) volume_max: Volume,
    /// What of this worker is charged in the census.
    pub(crate) charged: Volume,
    /// How far the views are behind.
    pub(crate) lag: Lag,
    /// How long the log has had no quorum.
    pub(crate) quorum: Quorum,
    /// Who compares passwords; none if there are none.
    pub(crate) authenticator: Option<Authenticator>,
    /// Who answers what is asked under `$CONTROL`; none if nobody does.
    pub(crate) control: Option<ControlDoor>,
}

impl Worker {
    /// Turns until it is drained or the log stops.
    pub(crate) fn run(self) -> Result<(), WorkerError> {
        Turning {
            sockets: Sockets::default(),
            lingering: Lingering::default(),
            events: Events::with_capacity(1024),
            readable: VecDeque::new(),
            buffer: vec![0; READ_BYTES],
            plain: Vec::new(),
            inbound: Vec::new(),
            committed: Vec::new(),
            asked: Vec::new(),
            controls: Vec::new(),
            tokens: Vec::new(),
            unblocked: Vec::new(),
            draining: None,
            unconfirmed: None,
            skipping: None,
            elsewhere: Elsewhere::default(),
            pace: Pace::default(),
            worker: self,
        }
        .run()
    }
}

/// A worker at work, with what it reuses from turn to turn.
struct Turning {
    worker: Worker,
    sockets: Sockets,
    lingering: Lingering,
    events: Events,
    /// Connections that may have bytes to read, in turn.
    readable: VecDeque<Token>,
    buffer: Vec<u8>,
    /// Room for what TLS makes of it.
    plain: Vec<u8>,
    inbound: Vec<Inbound>,
    committed: Vec<Arc<CommittedBatch>>,
    asked: Vec<Asked>,
    controls: Vec<Control>,
    tokens: Vec<Token>,
    /// Connections whose sockets take bytes again.
    unblocked: Vec<Token>,
    /// When draining ends at the latest.
    draining: Option<Timestamp>,
    /// Sequence of the last batch handed over, if its commit was not seen.
    unconfirmed: Option<u64>,
    /// Part of the log is skipped, and the rest not yet gone on with.
    skipping: Option<Skipping>,
    /// Where new clients are sent while the node is drained.
    elsewhere: Elsewhere,
    pace: Pace,
}

impl Turning {
    fn run(mut self) -> Result<(), WorkerError> {
        loop {
            self.wait()?;
            let now = self.worker.clock.now();
            self.jump(now);
            self.renew(now);
            self.refresh(now);
            self.take_inbound(now)?;
            self.read(now);
            self.authenticate(now);
            self.ask_server(now);
            self.hand_over();
            self.take_committed(now)?;
            self.worker.shard.retry(now, &mut self.worker.sources);
            self.worker.shard.tick(now, &mut self.worker.sources);
            self.hand_over();
            self.write(now);
            self.pace.turned(self.worker.clock.now().since(now));
            let stats = ShardStats { held: self.worker.shard.held(), ..*self.worker.shard.stats() };
            *self.worker.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
            if self.is_drained(now) {
                return Ok(());
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self) -> Result<(), WorkerError> {
        let worker = &mut self.worker;
        // The turn's end may have left events, and connections to be read on.
        let has_work = !self.readable.is_empty() || !worker.shard.is_idle();
        let may_work = worker.shard.is_reading && !worker.shard.stage().is_congested();
        let is_busy = has_work && may_work;
        let is_at_end = self.skipping.is_some() || worker.tail.prepare_sleep();
        let may_sleep = !is_busy && is_at_end && worker.inbox.prepare_sleep();
        let timeout = match may_sleep {
            true => worker.sleep_at_most(self.draining, self.lingering.next()),
            false => Some(Duration::ZERO),
        };
        let polled = worker.poll.poll(&mut self.events, timeout);
        worker.tail.awake();
        worker.inbox.awake();
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(WorkerError::Poll(error));
            }
            _ => {}
        }
        for event in &self.events {
            if Lingering::is_here(event.token()) {
                if self.lingering.read(event.token(), &mut self.buffer) {
                    self.worker.census.leave();
                }
                continue;
            }
            let Some(token) = self.sockets.token_of(event.token()) else { continue };
            if event.is_writable() {
                self.sockets.set_writable(token, &mut self.unblocked);
            }
            if event.is_read_closed() {
                self.sockets.set_read_closed(token);
            }
            if event.is_readable() && self.sockets.set_readable(token) {
                self.readable.push_back(token);
            }
        }
        Ok(())
    }

    /// Brings the shard's settings up to the moment.
    fn refresh(&mut self, now: Timestamp) {
        let worker = &mut self.worker;
        worker.shard.set_log_time(worker.log.time());
        let gate = worker.log.gate();
        let (applied, owed) = (worker.sources.applied(), worker.sources.owed_messages());
        worker.shard.is_reading = worker.lag.look(worker.tail.position(), applied, owed);
        worker.charge();
        if worker.quorum.look(now, &gate) {
            worker.shard.end_cut_off(now);
        }
        // Nobody is let in before the log knows this incarnation of the node.
        let start = worker.producer.id().start;
        let is_known = self.skipping.is_none() && worker.sources.is_ready_as(start);
        let settings = &mut worker.shard.settings;
        settings.elsewhere = self.elsewhere.look(now, &worker.log);
        let did_take = settings.takes_publishes;
        let pressure = worker.census.pressure();
        settings.takes_publishes =
            is_known && gate.accepts(Class::Publish) && pressure < Pressure::Publishes;
        settings.takes_sessions =
            is_known && gate.accepts(Class::Open) && pressure < Pressure::Sessions;
        let was_cut_off = settings.shortage == Refusal::Quorum;
        settings.shortage = match pressure {
            _ if worker.quorum.is_lost() || !is_known => Refusal::Quorum,
            Pressure::None => Refusal::Storage,
            _ => Refusal::Memory,
        };
        // What waited for a quorum is refused if there is another reason.
        let is_cut_off = settings.shortage == Refusal::Quorum;
        if settings.takes_publishes && !did_take || was_cut_off && !is_cut_off {
            worker.shard.on_gate_opened(now, &mut worker.sources);
        }
    }

    fn take_inbound(&mut self, now: Timestamp) -> Result<(), WorkerError> {
        let mut inbound = std::mem::take(&mut self.inbound);
        self.worker.inbox.take(&mut inbound);
        for inbound in inbound.drain(..) {
            let worker = &mut self.worker;
            match inbound {
                Inbound::Accepted(accepted) => self.accept(now, accepted),
                Inbound::Notice(notice) => {
                    worker.shard.on_notice(now, notice, &mut worker.sources);
                }
                Inbound::Authenticated(token, verdict) => {
                    worker.shard.on_authenticated(now, token, verdict, &mut worker.sources);
                }
                Inbound::Loaded(generation, loaded) => {
                    worker.sources.on_loaded(generation, loaded)?;
                }
                Inbound::Count(client, answer) => {
                    // Who asked may have gone.
                    let _ = answer.send(worker.shard.counts(&client));
                }
                Inbound::ControlAnswer(to, answer) => {
                    worker.shard.on_control_answer(now, to, &answer);
                }
                Inbound::Sys(values) => worker.shard.on_sys(now, &values),
                Inbound::Drain => {
                    self.draining.get_or_insert(now.plus(DRAIN_TIMEOUT));
                    worker.shard.end_all(now, ReasonCode::ServerShuttingDown);
                }
            }
        }
        self.inbound = inbound;
        Ok(())
    }

    /// Reads once from each connection that may have something, unless the log is behind.
    fn read(&mut self, now: Timestamp) {
        let mut tokens = std::mem::take(&mut self.tokens);
        self.worker.shard.take_resumed(&mut tokens);
        for token in tokens.drain(..) {
            if self.sockets.resume(token) {
                self.readable.push_back(token);
            }
        }
        self.tokens = tokens;
        if !self.worker.shard.is_reading {
            return;
        }
        // Whoever sends little is not to wait for many that send much.
        let most = READ_BYTES_ALL / self.readable.len().max(1);
        let most = most.clamp(READ_BYTES_MIN, READ_BYTES);
        for _ in 0..self.readable.len() {
            let shard = &mut self.worker.shard;
            if shard.stage().is_congested() || shard.stage().batches() >= self.pace.batches() {
                return shard.set_left_unread(now);
            }
            let Some(token) = self.readable.pop_front() else { return };
            if !shard.takes_bytes(token) {
                self.sockets.pause(token);
                continue;
            }
            let bytes = match self.sockets.read(token, &mut self.buffer[..most]) {
                Read::Bytes(bytes) => {
                    let read = &self.buffer[..bytes];
                    shard.on_bytes(now, token, read, &mut self.worker.sources);
                    bytes
                }
                Read::Layered(bytes) => {
                    self.receive(now, token, bytes);
                    bytes
                }
                Read::Nothing => 0,
                Read::Closed => {
                    shard.on_transport_closed(now, token);
                    self.close(token);
                    continue;
                }
            };
            if bytes == most || bytes > 0 && self.sockets.is_read_closed(token) {
                self.readable.push_back(token);
            } else {
                // A short read empties the socket: the poll says when there is more.
                self.sockets.set_unreadable(token);
            }
        }
    }

    /// Has the passwords that came compared. Who finds the queue full is told so at once.
    fn authenticate(&mut self, now: Timestamp) {
        let worker = &mut self.worker;
        worker.shard.take_asked(&mut self.asked);
        for Asked { token, peer, username, password } in self.asked.drain(..) {
            let inbox = Arc::clone(&worker.inbox);
            let answer = Box::new(move |is_right: bool| {
                let verdict = is_right.then_some(()).ok_or(ReasonCode::BadUserNameOrPassword);
                inbox.push(Inbound::Authenticated(token, verdict));
            });
            let attempt = Attempt { peer: peer.ip(), username, password, answer };
            let refused = match &worker.authenticator {
                Some(authenticator) => authenticator.submit(attempt).err(),
                None => Some(attempt),
            };
            if refused.is_some() {
                let busy = Err(ReasonCode::ServerBusy);
                worker.shard.on_authenticated(now, token, busy, &mut worker.sources);
            }
        }
    }

    /// Passes on what was asked under `$CONTROL`. Whom nobody hears is told so.
    fn ask_server(&mut self, now: Timestamp) {
        let worker = &mut self.worker;
        worker.shard.take_controls(&mut self.controls);
        for Control { token, topic, payload } in self.controls.drain(..) {
            let asker = Asker { worker: worker.producer.id().local, token };
            let response = control::response_topic(&topic);
            let question = Question { asker, topic, payload };
            let is_taken = worker.control.as_ref().is_some_and(|door| door(question));
            if !is_taken {
                let answer = SysValue { topic: response, value: control::UNAVAILABLE.into() };
                worker.shard.on_control_answer(now, Some(token), &answer);
            }
        }
    }

    fn hand_over(&mut self) {
        let Worker { shard, producer, .. } = &mut self.worker;
        let unconfirmed = &mut self.unconfirmed;
        shard.stage().hand_over(|class, batch| match producer.push(class, batch) {
            Ok(pushed) => {
                *unconfirmed = Some(pushed.sequence);
                true
            }
            // The producer is woken when there is room.
            Err(_) => false,
        });
    }

    fn take_committed(&mut self, now: Timestamp) -> Result<(), WorkerError> {
        let worker = &mut self.worker;
        if self.skipping.is_some() {
            return Ok(());
        }
        match worker.tail.take(self.pace.committed_bytes(), &mut self.committed) {
            Err(TailError::Gap { to, .. }) => self.on_gap(to + 1),
            taken => taken?,
        }
        let worker = &mut self.worker;
        for batch in self.committed.drain(..) {
            // Of a second copy nothing counts.
            let is_own = batch.producer == worker.producer.id() && batch.is_admitted();
            if is_own && Some(batch.sequence) == self.unconfirmed {
                self.unconfirmed = None;
            }
            worker.shard.on_committed(now, &batch, &mut worker.sources);
        }
        Ok(())
    }

    /// Writes what waits, one write a connection as long as its socket takes all of it.
    fn write(&mut self, now: Timestamp) {
        let mut tokens = std::mem::take(&mut self.tokens);
        tokens.append(&mut self.unblocked);
        self.worker.shard.take_dirty(&mut tokens);
        for token in tokens.drain(..) {
            self.write_one(now, token);
        }
        self.worker.shard.take_closed(&mut tokens);
        for token in tokens.drain(..) {
            self.close(token);
        }
        self.tokens = tokens;
        for _ in 0..self.lingering.expire(now) {
            self.worker.census.leave();
        }
    }

    fn is_drained(&mut self, now: Timestamp) -> bool {
        let Some(deadline) = self.draining else { return false };
        // Where the node has left the cluster nothing is taken any more.
        let has_left = matches!(self.worker.log.gate(), Gate::Left { .. });
        let shard = &mut self.worker.shard;
        let is_done = self.lingering.is_empty()
            && match has_left {
                true => shard.open_connections() == 0,
                false => {
                    let is_taken = shard.stage().is_empty() && self.unconfirmed.is_none();
                    shard.connections() == 0 && is_taken
                }
            };
        if !is_done && now >= deadline {
            let connections = shard.connections();
            tracing::warn!(connections, "stopping before everything was handed over");
        }
        is_done || now >= deadline
    }
}
