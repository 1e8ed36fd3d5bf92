//! The pure part of a worker: many connections, their subscriptions and what they are owed.
//!
//! A shard knows no socket, thread or clock. The worker (`worker.rs`), or the simulator, gives it
//! bytes, committed batches, notices and `now`; it leaves bytes in the connections' outputs and
//! events in its [`Stage`]. Follow a PUBLISH: [`Shard::on_bytes`] -> `core::connection` -> stage
//! -> log -> [`Shard::on_committed`] -> `matching` -> `delivery` -> output of each subscriber.

mod access;
mod backlog;
mod client;
mod committed;
mod control;
mod copying;
mod counts;
mod cursor;
mod delivery;
mod draining;
mod held;
mod input;
mod jump;
mod lifecycle;
mod limits;
mod matching;
mod notices;
mod reserving;
mod shared;
mod sources;
mod spare;
mod stage;
mod stats;
mod sys;
mod table;
mod volume;
mod waiting;
mod wheel;

#[cfg(test)]
mod tests;

pub use access::Asked;
pub use control::Control;
pub use counts::ConnectionCounts;
pub use held::Held;
pub use limits::ShardLimits;
pub use sources::{Fetched, Interest, Sources};
pub use stage::{Names, Stage};
pub use stats::ShardStats;
pub use sys::SysValue;
pub use table::Token;
pub use volume::Volume;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use ledgermq_core::connection::{Connection, Refusal, Settings};
use ledgermq_core::identity::{ClientId, ProducerId};
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_projections::notice::{RetainedDelivery, SessionState};

use backlog::Pins;
use client::{Client, Pause, Sink};
use cursor::Cursor;
use matching::Subscriptions;
use spare::SpareBuffers;
use table::Table;
use wheel::Wheel;

/// How long deliveries' progress may stay unlogged.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Settled deliveries of one session after which progress is logged at once.
pub const PROGRESS_MESSAGES_MAX: u32 = 1000;

/// The connections of one worker.
pub struct Shard {
    producer: ProducerId,
    /// Configuration and the moment's permissions; the worker keeps it up to date.
    pub settings: Settings,
    /// Whether connections are read at all just now; the worker keeps it up to date.
    pub is_reading: bool,
    /// Retained messages of the node; the worker keeps it up to date.
    pub retained_messages: u64,
    /// What the node's limits leave beside what the views hold, without what is under way from here;
    /// the worker keeps it up to date.
    pub room: Volume,
    /// Whether the topic of the packet at hand has a retained message.
    is_retained: bool,
    /// Whether the client of the CONNECT at hand has a session that outlives its connection.
    has_session: bool,
    limits: ShardLimits,
    table: Table<Client>,
    by_epoch: HashMap<Offset, Token>,
    by_client: HashMap<ClientId, Token>,
    subscriptions: Subscriptions,
    stage: Stage,
    /// The record to come next: all before it was routed.
    reached: Offset,
    /// The last batch of the log that made a subscription, of any session.
    subscribed: Index,
    /// Notices of what is still to come, at most those of the events under way.
    early_sessions: BTreeMap<Offset, Box<SessionState>>,
    early_retained: BTreeMap<Offset, Vec<RetainedDelivery>>,
    early_shared: shared::Early,
    recent: shared::Recent,
    /// The record of the log that was read last.
    read: Cursor,
    /// Passwords that are to be compared.
    asked: Vec<Asked>,
    /// What is asked of the server, of one turn.
    controls: Vec<Control>,
    spare: SpareBuffers,
    copies: copying::Copies,
    waiting: waiting::Waiting,
    dirty: Vec<Token>,
    resumed: Vec<Token>,
    closed: Vec<Token>,
    withheld: BTreeSet<Token>,
    /// Connections that are read on at an instant.
    throttled: BTreeSet<(Timestamp, Token)>,
    starving: Vec<Token>,
    unlogged: Vec<Token>,
    progress_due: Timestamp,
    /// When the log was last behind, or this process was, so that no connection was read.
    congested: Timestamp,
    last_tick: Timestamp,
    wheel: Wheel,
    log_time: Timestamp,
    unfinished_bytes: usize,
    /// What all connections hold.
    held: Held,
    /// Output that may go beyond its bound.
    overdraft_bytes: usize,
    /// The batches that they hold.
    pins: Pins,
    reserved: reserving::Reserved,
    stats: ShardStats,
    sys: Arc<[SysValue]>,
}

impl Shard {
    /// An empty shard whose batches are those of `producer`, and whose first committed batch will
    /// be that of `position`.
    #[must_use]
    pub fn new(
        producer: ProducerId,
        settings: Settings,
        limits: ShardLimits,
        stage: Stage,
        position: Index,
        now: Timestamp,
    ) -> Self {
        Self {
            producer,
            settings,
            is_reading: true,
            retained_messages: 0,
            room: Volume::MAX,
            is_retained: false,
            has_session: false,
            limits,
            table: Table::default(),
            by_epoch: HashMap::new(),
            by_client: HashMap::new(),
            subscriptions: Subscriptions::default(),
            stage,
            reached: Offset::new(position, 0),
            subscribed: 0,
            early_sessions: BTreeMap::new(),
            early_retained: BTreeMap::new(),
            early_shared: shared::Early::default(),
            recent: shared::Recent::default(),
            read: Cursor::default(),
            asked: Vec::new(),
            controls: Vec::new(),
            spare: SpareBuffers::new(limits.output_bytes_all_max),
            copies: copying::Copies::default(),
            waiting: waiting::Waiting::default(),
            dirty: Vec::new(),
            resumed: Vec::new(),
            closed: Vec::new(),
            withheld: BTreeSet::new(),
            throttled: BTreeSet::new(),
            starving: Vec::new(),
            unlogged: Vec::new(),
            progress_due: now.plus(PROGRESS_INTERVAL),
            congested: Timestamp::default(),
            last_tick: now,
            wheel: Wheel::new(now),
            log_time: Timestamp::default(),
            unfinished_bytes: 0,
            held: Held::default(),
            overdraft_bytes: 0,
            pins: Pins::default(),
            reserved: reserving::Reserved::default(),
            stats: ShardStats::default(),
            sys: Arc::default(),
        }
    }

    /// Brings the shard's idea of the log's time up to the moment. Messages expire by it: their
    /// batches are stamped with it, and it may be far from the shard's own clock.
    pub fn set_log_time(&mut self, time: Timestamp) {
        self.log_time = self.log_time.max(time);
    }

    /// The views hold everything up to `index`; answers what this shard has given to the log and they
    /// do not show.
    pub fn set_applied(&mut self, index: Index) -> Volume {
        self.stage.under_way.apply(index);
        self.stage.under_way.volume()
    }

    /// Takes a new Network Connection, as soon as the transport has it: handshakes below MQTT count
    /// in the time that it has for its CONNECT.
    pub fn accept(&mut self, now: Timestamp, peer: SocketAddr) -> Token {
        let token = self.table.insert(Client::new(now, peer));
        self.stats.accepted += 1;
        self.schedule(token);
        token
    }

    /// The CONNECT of a connection will be answered by `refusal`: it is one too many.
    pub fn set_refusal(&mut self, token: Token, refusal: Refusal) {
        if let Some(client) = self.table.get_mut(token) {
            client.machine.set_refusal(refusal);
        }
    }

    /// The client of a connection has this address, as a proxy says.
    pub fn set_peer(&mut self, token: Token, peer: SocketAddr) {
        if let Some(client) = self.table.get_mut(token) {
            client.link.peer = peer;
        }
    }

    /// The client of a connection has proved to be `identity` before its CONNECT: that is its user
    /// name, whatever CONNECT says.
    pub fn set_identity(&mut self, token: Token, identity: Box<str>) {
        if let Some(client) = self.table.get_mut(token) {
            client.link.identity = Some(identity);
        }
    }

    /// Address of the client of a connection.
    #[must_use]
    pub fn peer(&self, token: Token) -> Option<SocketAddr> {
        self.table.get(token).map(|client| client.link.peer)
    }

    /// Number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Connections whose transport is open. Of the others it is not committed yet that they begin.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let is_open = |token: &Token| self.table.get(*token).is_some_and(|one| !one.link.is_gone);
        self.table.tokens().iter().filter(|token| is_open(token)).count()
    }

    /// The next index that [`Shard::on_committed`] expects.
    #[must_use]
    pub fn position(&self) -> Index {
        self.reached.index
    }

    /// The last index of which records were routed.
    fn routed_index(&self) -> Index {
        self.reached.index - Index::from(self.reached.ordinal == 0)
    }

    /// Counts since the shard was made.
    #[must_use]
    pub fn stats(&self) -> &ShardStats {
        &self.stats
    }

    /// The events that wait to be handed to the log.
    pub fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    /// Moves the connections that have something to write into `out`.
    pub fn take_dirty(&mut self, out: &mut Vec<Token>) {
        for token in self.dirty.drain(..) {
            if let Some(client) = self.table.get_mut(token) {
                client.link.is_dirty = false;
                out.push(token);
            }
        }
    }

    /// Moves the connections whose input was paused and may go on into `out`.
    pub fn take_resumed(&mut self, out: &mut Vec<Token>) {
        out.append(&mut self.resumed);
    }

    /// Moves the connections that were given up, whose transport is to be closed, into `out`.
    pub fn take_closed(&mut self, out: &mut Vec<Token>) {
        out.append(&mut self.closed);
    }

    /// What is to be written to `token`.
    #[must_use]
    pub fn output(&self, token: Token) -> &[u8] {
        self.table.get(token).map_or(&[], |client| client.link.unwritten())
    }

    /// Whether the transport of `token` is to be closed once its output is written.
    #[must_use]
    pub fn is_ending(&self, token: Token) -> bool {
        self.table.get(token).is_none_or(|client| client.link.is_ending)
    }

    /// The first `bytes` of the output were written. Goes on with what waited for room.
    pub fn written(
        &mut self,
        now: Timestamp,
        token: Token,
        bytes: usize,
        sources: &mut impl Sources,
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        client.link.written(bytes, &mut self.spare);
        client.link.counts.get_or_insert_default().bytes_sent += bytes as u64;
        self.stats.bytes_sent += bytes as u64;
        self.weigh_held(token);
        let Some(client) = self.table.get(token) else { return };
        if client.link.unwritten().len() > self.output_max(&client.link) / 2 {
            return;
        }
        self.resume_input(now, token, Pause::Answers, sources);
        if self.table.get(token).is_some_and(|client| client.backlog.is_some()) {
            self.drain(now, token, sources);
        }
    }

    /// Goes on with connections that waited for a batch to be read or for a view to catch up.
    pub fn retry(&mut self, now: Timestamp, sources: &mut impl Sources) {
        self.renew_overdraft();
        self.resume_waiting(now, sources);
        for token in std::mem::take(&mut self.starving) {
            if let Some(client) = self.table.get_mut(token) {
                client.link.is_starving = false;
                self.drain(now, token, sources);
            }
        }
    }

    /// Whether a connection waits for [`Shard::retry`].
    #[must_use]
    pub fn is_starving(&self) -> bool {
        !self.starving.is_empty()
    }

    /// Whether a connection waits until another lets memory go ([`Shard::retry`]).
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.reserved.is_waited_for()
    }

    /// Whether a connection waits for [`Shard::on_gate_opened`].
    #[must_use]
    pub fn is_withholding(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// Whether nothing waits for its driver: no events, no passwords to compare, no output of connections, none to be
    /// closed or to be read on.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stage.is_empty()
            && self.dirty.is_empty()
            && self.asked.is_empty()
            && self.controls.is_empty()
            && self.closed.is_empty()
            && self.resumed.is_empty()
    }

    /// Does what is due: connections that were too fast, keep-alive, lingering connections, progress of deliveries.
    pub fn tick(&mut self, now: Timestamp, sources: &mut impl Sources) {
        self.resume_throttled(now, sources);
        if now >= self.progress_due {
            self.progress_due = now.plus(PROGRESS_INTERVAL);
            self.log_progress(now);
        }
        self.end_stalled(now);
        let last = std::mem::replace(&mut self.last_tick, now);
        // Whoever sleeps is woken by the wheel once a second as long as there are connections.
        let is_unread = !self.is_reading || self.stage.is_congested();
        if is_unread || now.since(last) > lifecycle::STALLED {
            self.congested = now;
        }
        let mut due = Vec::new();
        self.wheel.advance(now, &mut due);
        for token in due {
            self.on_silence(now, token);
        }
    }

    /// Connections with something to read were left unread in this turn: their silence is ours.
    pub fn set_left_unread(&mut self, now: Timestamp) {
        self.congested = now;
    }

    /// When [`Shard::tick`] has something to do, at the latest.
    #[must_use]
    pub fn next_tick(&self) -> Option<Timestamp> {
        let progress = (!self.unlogged.is_empty()).then_some(self.progress_due);
        let throttled = self.throttled.first().map(|(until, _)| *until);
        [progress, throttled, self.wheel.next()].into_iter().flatten().min()
    }

    fn log_progress(&mut self, now: Timestamp) {
        for token in std::mem::take(&mut self.unlogged) {
            if let Some(client) = self.table.get_mut(token) {
                client.is_unlogged = false;
            }
            self.turn(now, token, |machine, sink, _| {
                if machine.unlogged_progress() > 0 {
                    machine.flush_progress(sink);
                }
            });
        }
    }

    /// Whether as much waits for a client as may, so that it is to read before it asks for more.
    fn leaves_unread(&self, client: &Client) -> bool {
        let Some(backlog) = &client.backlog else { return false };
        let is_short = !self.has_reference_room(client.held.references_bytes);
        backlog.len() >= self.limits.unread_messages_max || is_short && !backlog.is_empty()
    }

    /// Turns one connection's machine and looks after what came of it.
    fn turn(
        &mut self,
        now: Timestamp,
        token: Token,
        turn: impl FnOnce(&mut Connection, &mut Sink<'_>, &Settings),
    ) {
        let Some(client) = self.table.get(token) else { return };
        let is_unread = self.leaves_unread(client);
        let Some(client) = self.table.get_mut(token) else { return };
        let (subscription_bytes, shared_subscriptions) =
            (client.subscription_bytes, client.shared_subscriptions);
        let Client { machine, link, subscriptions, .. } = client;
        let (has_session, is_retained) = (self.has_session, self.is_retained);
        let Self { stage, stats, asked, controls, spare, .. } = self;
        let mut sink = Sink {
            link,
            subscriptions,
            subscription_bytes,
            shared_subscriptions,
            is_unread,
            has_session,
            is_retained,
            stage,
            stats,
            asked,
            controls,
            spare,
            token,
        };
        turn(machine, &mut sink, &self.settings);
        self.after(now, token);
    }

    /// Looks after a connection whose machine was turned: writes, progress, its end.
    fn after(&mut self, now: Timestamp, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        if !client.link.is_dirty && (client.link.is_ending || !client.link.unwritten().is_empty()) {
            client.link.is_dirty = true;
            self.dirty.push(token);
        }
        if client.machine.unlogged_progress() > 0 && !client.is_unlogged {
            client.is_unlogged = true;
            self.unlogged.push(token);
        }
        let is_ending = client.link.is_ending && !client.is_detached;
        self.weigh_held(token);
        if is_ending {
            self.linger(now, token);
        }
    }
}
