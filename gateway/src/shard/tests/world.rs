//! Shards, the log and the views, each moved on by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::access::Rules;
use ledgermq_core::connection::{Authentication, PublishRate, Refusal, Settings};
use ledgermq_core::event::{BatchBuilder, DeliveryRef, Event, EventRef};
use ledgermq_core::identity::{ClientId, ProducerId};
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_core::packet::{Connect, Packet, ProtocolVersion};
use ledgermq_log::CommittedBatch;
use ledgermq_log::testing::History;
use ledgermq_projections::notice::Notice;
use ledgermq_projections::views::owed::Owed;
use ledgermq_projections::views::retained::RetainedMessage;
use ledgermq_projections::views::{Limits, Views};

use crate::shard::{Fetched, Interest, Shard, ShardLimits, Sources, Stage, Token};

use super::client::{self, V5};

/// Everything around the shards.
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) shards: Vec<Seat>,
    pub(super) rest: Rest,
}

/// A shard with what its driver keeps of it.
pub(super) struct Seat {
    pub(super) shard: Shard,
    pub(super) producer: ProducerId,
    sequence: u64,
    /// What was received at the other ends, and in which version.
    received: BTreeMap<Token, (ProtocolVersion, Vec<u8>)>,
    /// Connections whose other end does not read.
    blocked: BTreeSet<Token>,
    /// Of these, those that have something to write: their socket tells when it can be.
    unwritten: BTreeSet<Token>,
    /// Connections whose transport is closed.
    pub(super) closed: BTreeSet<Token>,
    /// Bytes that are not read, since the shard takes none.
    unread: BTreeMap<Token, Vec<u8>>,
}

/// The log, the views, and notices on their way.
pub(super) struct Rest {
    history: History,
    batches: Vec<Arc<CommittedBatch>>,
    pub(super) views: Views,
    pub(super) notices: Vec<Notice>,
    /// Batches that have to be read from the disk first.
    pub(super) is_loading: bool,
    /// Batches below are gone.
    pub(super) purged_below: Index,
    /// Messages that were kept before that; none if they cannot be read at the moment.
    pub(super) kept: Option<BTreeMap<Offset, Arc<RetainedMessage>>>,
    /// Kept messages that were asked for, now or ahead.
    pub(super) asked: BTreeSet<Offset>,
}

/// A connection of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) seat: usize,
    pub(super) token: Token,
}

impl Default for World {
    fn default() -> Self {
        Self::with_limits(ShardLimits::default())
    }
}

impl World {
    pub(super) fn with_limits(limits: ShardLimits) -> Self {
        let history = History::default();
        let mut world = Self {
            now: Timestamp::from_secs(1_700_000_000),
            shards: Vec::new(),
            rest: Rest {
                history,
                batches: Vec::new(),
                views: Views::new(Limits::default()),
                notices: Vec::new(),
                is_loading: false,
                purged_below: 0,
                kept: Some(BTreeMap::new()),
                asked: BTreeSet::new(),
            },
        };
        world.add_shard(1, limits);
        world
    }

    /// A further shard, which begins behind what is committed.
    pub(super) fn add_shard(&mut self, start: u64, limits: ShardLimits) -> usize {
        let local = u16::try_from(self.shards.len()).unwrap();
        let producer = ProducerId { node: 1, start, local };
        let mut names = 0;
        let names = Box::new(move || {
            names += 1;
            ClientId::from(format!("auto-{local}-{names}").as_str())
        });
        let stage = Stage::new(self.rest.history.builder(), names);
        let position = self.rest.history.last_index() + 1;
        let shard = Shard::new(producer, settings(), limits, stage, position, self.now);
        self.shards.push(Seat {
            shard,
            producer,
            sequence: 0,
            received: BTreeMap::new(),
            blocked: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            closed: BTreeSet::new(),
            unread: BTreeMap::new(),
        });
        usize::from(local)
    }

    pub(super) fn shard(&mut self) -> &mut Shard {
        &mut self.shards[0].shard
    }

    pub(super) fn open_gate(&mut self, now: Timestamp) {
        self.shards[0].shard.on_gate_opened(now, &mut self.rest);
    }

    /// The first shard goes on behind all that is committed, without having read it.
    pub(super) fn skip(&mut self) {
        let to = self.rest.history.last_index() + 1;
        let now = self.now;
        self.shard().jump(now, to, Rules::open());
    }

    /// The node begins anew with this start, as far as the first shard and the log go.
    pub(super) fn renew(&mut self, start: u64) {
        let seat = &mut self.shards[0];
        seat.producer.start = start;
        seat.sequence = 0;
        seat.shard.on_incarnation(self.now, seat.producer);
        let own = ProducerId { local: 99, ..seat.producer };
        self.commit_from(own, |events| {
            events.push(None, None, &Event::NodeStarted { node: 1, start });
        });
    }

    /// Time passes, and the shards tick as their driver has them do.
    pub(super) fn wait(&mut self, duration: Duration) {
        let end = self.now.plus(duration);
        while self.now < end {
            self.now = self.now.plus(Duration::from_secs(1)).min(end);
            self.tick();
        }
    }

    /// Time passes while the process does not run.
    pub(super) fn stall(&mut self, duration: Duration) {
        self.now = self.now.plus(duration);
        self.tick();
    }

    fn tick(&mut self) {
        self.rest.history.set_time(self.now);
        for seat in &mut self.shards {
            seat.shard.set_log_time(self.now);
            seat.shard.tick(self.now, &mut self.rest);
        }
        self.write();
    }

    // ---- connections

    pub(super) fn accept(&mut self, seat: usize) -> Peer {
        let token = self.shards[seat].shard.accept(self.now, "127.0.0.1:1".parse().unwrap());
        self.shards[seat].received.insert(token, (V5, Vec::new()));
        Peer { seat, token }
    }

    /// A connection on which CONNECT was sent.
    pub(super) fn begin(&mut self, seat: usize, connect: Connect<'_>) -> Peer {
        let peer = self.accept(seat);
        let version = connect.version;
        self.shards[seat].received.get_mut(&peer.token).unwrap().0 = version;
        self.send(peer, &Packet::Connect(Box::new(connect)));
        peer
    }

    /// A connection whose session is open; its CONNACK is the next thing to receive.
    pub(super) fn open(&mut self, connect: Connect<'_>) -> Peer {
        let peer = self.begin(0, connect);
        self.settle();
        peer
    }

    /// As `open`, with a subscription; nothing is left to receive.
    pub(super) fn subscriber(&mut self, connect: Connect<'_>, filter: &str, qos: u8) -> Peer {
        let peer = self.open(connect);
        self.send(peer, &client::subscribe(1, filter, qos));
        self.settle();
        self.read(peer);
        peer
    }

    /// The client sends a packet. Its bytes wait if the shard does not take them.
    pub(super) fn send(&mut self, peer: Peer, packet: &Packet<'_>) {
        let version = self.shards[peer.seat].received[&peer.token].0;
        self.send_bytes(peer, &client::bytes_of(packet, version));
    }

    pub(super) fn publish(&mut self, peer: Peer, qos: u8, id: u16, topic: &str, payload: &str) {
        self.send(peer, &Packet::Publish(client::publish(qos, id, topic, payload)));
    }

    pub(super) fn send_bytes(&mut self, peer: Peer, bytes: &[u8]) {
        let seat = &mut self.shards[peer.seat];
        seat.unread.entry(peer.token).or_default().extend_from_slice(bytes);
        self.receive(peer);
    }

    fn receive(&mut self, peer: Peer) {
        let seat = &mut self.shards[peer.seat];
        if seat.shard.takes_bytes(peer.token)
            && let Some(bytes) = seat.unread.remove(&peer.token)
        {
            seat.shard.on_bytes(self.now, peer.token, &bytes, &mut self.rest);
        }
    }

    /// The client reads no more, or again.
    pub(super) fn block(&mut self, peer: Peer, is_blocked: bool) {
        let blocked = &mut self.shards[peer.seat].blocked;
        match is_blocked {
            true => blocked.insert(peer.token),
            false => blocked.remove(&peer.token),
        };
    }

    /// The transport is lost.
    pub(super) fn lose(&mut self, peer: Peer) {
        let seat = &mut self.shards[peer.seat];
        seat.shard.on_transport_closed(self.now, peer.token);
        seat.closed.insert(peer.token);
        seat.unread.remove(&peer.token);
    }

    /// What the client received since it was last asked; nothing is moved on.
    pub(super) fn received(&mut self, peer: Peer) -> Vec<String> {
        let (version, bytes) = self.shards[peer.seat].received.get_mut(&peer.token).unwrap();
        client::lines(bytes, *version)
    }

    /// Writes what waits, and says what the client received.
    pub(super) fn read(&mut self, peer: Peer) -> Vec<String> {
        self.write();
        self.received(peer)
    }

    /// What came at the other end, as bytes.
    pub(super) fn take_bytes(&mut self, peer: Peer) -> Vec<u8> {
        self.write();
        let received = self.shards[peer.seat].received.get_mut(&peer.token);
        received.map(|(_, bytes)| std::mem::take(bytes)).unwrap_or_default()
    }

    pub(super) fn is_closed(&self, peer: Peer) -> bool {
        self.shards[peer.seat].closed.contains(&peer.token)
    }

    // ---- the parts, one step each

    /// Writes all that waits to the clients that read, and closes what is to be closed.
    pub(super) fn write(&mut self) {
        for seat in &mut self.shards {
            let mut tokens: Vec<_> = std::mem::take(&mut seat.unwritten).into_iter().collect();
            seat.shard.take_dirty(&mut tokens);
            for token in tokens {
                seat.write_some(self.now, token, usize::MAX, &mut self.rest);
            }
            seat.close();
        }
    }

    /// Hands the shards' events over and commits them, a batch each.
    pub(super) fn commit(&mut self) {
        for seat in 0..self.shards.len() {
            self.commit_of(seat);
        }
    }

    pub(super) fn commit_of(&mut self, seat: usize) {
        let Seat { shard, producer, sequence, .. } = &mut self.shards[seat];
        let rest = &mut self.rest;
        shard.stage().hand_over(|_, events| {
            *sequence += 1;
            rest.batches.push(rest.history.admit(*producer, *sequence, events));
            true
        });
    }

    /// As `commit_of`, of a batch that waited too long.
    pub(super) fn commit_late(&mut self, seat: usize) {
        self.rest.history.set_late(true);
        self.commit_of(seat);
        self.rest.history.set_late(false);
    }

    /// Commits events of a producer that is none of the shards.
    pub(super) fn commit_from(
        &mut self,
        producer: ProducerId,
        build: impl FnOnce(&mut BatchBuilder),
    ) {
        let mut events = self.rest.history.builder();
        build(&mut events);
        let batches = self.rest.batches.iter();
        let sequence = batches.filter(|batch| batch.producer == producer).count() as u64 + 1;
        self.rest.batches.push(self.rest.history.admit(producer, sequence, &mut events));
    }

    /// Commits the last batch once more, as a producer in doubt sends it.
    pub(super) fn commit_again(&mut self) {
        let last = Arc::clone(self.rest.batches.last().unwrap());
        let mut events = self.rest.history.builder();
        for record in last.batch().records() {
            match record.unwrap().event().unwrap() {
                EventRef::Other(event) => events.push(None, None, &event),
                EventRef::MessagePublished(message) => events.publish(None, None, &message),
            };
        }
        let again = self.rest.history.admit(last.producer, last.sequence, &mut events);
        assert!(!again.is_admitted());
        self.rest.batches.push(again);
    }

    /// The shards take one committed batch each, if there is one. Says whether any did.
    pub(super) fn feed(&mut self) -> bool {
        let mut is_any = false;
        for seat in 0..self.shards.len() {
            is_any |= self.feed_one(seat);
        }
        is_any
    }

    pub(super) fn feed_one(&mut self, seat: usize) -> bool {
        let Seat { shard, .. } = &mut self.shards[seat];
        let next = usize::try_from(shard.position() - 1).unwrap();
        let Some(batch) = self.rest.batches.get(next).cloned() else { return false };
        shard.on_committed(self.now, &batch, &mut self.rest);
        true
    }

    /// The views apply one committed batch, if there is one; notices wait. Says whether they did.
    pub(super) fn fold(&mut self) -> bool {
        let Rest { batches, views, notices, .. } = &mut self.rest;
        let next = usize::try_from(views.applied()).unwrap();
        let Some(batch) = batches.get(next) else { return false };
        views.apply(batch, notices).unwrap();
        true
    }

    /// The shards get the notices.
    pub(super) fn notify(&mut self) {
        for notice in std::mem::take(&mut self.rest.notices) {
            let producer = notice.producer();
            if let Some(seat) = self.shards.iter_mut().find(|seat| seat.producer == producer) {
                seat.shard.on_notice(self.now, notice, &mut self.rest);
            }
        }
    }

    /// Connections that waited for a batch or a view look again; paused ones are read on.
    pub(super) fn retry(&mut self) {
        for seat in 0..self.shards.len() {
            let Seat { shard, .. } = &mut self.shards[seat];
            shard.retry(self.now, &mut self.rest);
            let mut tokens = Vec::new();
            shard.take_resumed(&mut tokens);
            tokens.into_iter().for_each(|token| self.receive(Peer { seat, token }));
        }
    }

    /// Everything goes on until nothing is left to do; time stands still.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.commit();
            let is_any = self.feed() | self.fold() | !self.rest.notices.is_empty();
            self.notify();
            self.retry();
            self.write();
            let is_idle = self.shards.iter().all(|seat| seat.shard.is_idle());
            let is_starving = self.shards.iter().any(|seat| seat.shard.is_starving());
            let is_waiting = self.rest.is_loading || self.rest.kept.is_none();
            if !is_any && is_idle && (!is_starving || is_waiting) {
                return;
            }
        }
        panic!("it does not settle");
    }

    /// The log is purged below `index`; what is owed was kept before.
    pub(super) fn purge(&mut self, index: Index) {
        let owed = self.rest.views.owed_between(0, index - 1);
        let mut copies = Vec::new();
        for offset in owed {
            let batch = &self.rest.batches[usize::try_from(offset.index - 1).unwrap()];
            RetainedMessage::copy(batch, &[offset], &mut copies);
        }
        let kept = copies.into_iter().map(|message| (message.offset, Arc::new(message)));
        self.rest.kept.get_or_insert_default().extend(kept);
        self.rest.views.set_kept(index - 1);
        self.rest.purged_below = index;
    }

    // ---- what happened

    /// Index of the last committed batch.
    pub(super) fn last_index(&self) -> Index {
        self.rest.history.last_index()
    }

    /// Every event of the log that is none of a message, with a mark if it is void.
    pub(super) fn events(&self) -> Vec<(Event, bool)> {
        let mut events = Vec::new();
        for batch in &self.rest.batches {
            for record in batch.batch().records() {
                let record = record.unwrap();
                if let EventRef::Other(event) = record.event().unwrap() {
                    events.push((event, batch.is_void(&record)));
                }
            }
        }
        events
    }

    /// The last event that counts.
    pub(super) fn last_event(&self) -> Event {
        let events = self.events();
        events.into_iter().rfind(|(_, is_void)| !is_void).unwrap().0
    }
}

impl Seat {
    /// Writes at most `max` bytes of the output to a client that reads.
    pub(super) fn write_some(&mut self, now: Timestamp, token: Token, max: usize, rest: &mut Rest) {
        let mut left = max;
        loop {
            let output = self.shard.output(token);
            let bytes = output.len().min(left);
            if bytes == 0 || self.blocked.contains(&token) {
                if !output.is_empty() {
                    self.unwritten.insert(token);
                }
                break;
            }
            if let Some((_, received)) = self.received.get_mut(&token) {
                received.extend_from_slice(&output[..bytes]);
            }
            left -= bytes;
            self.shard.written(now, token, bytes, rest);
        }
        if self.shard.is_ending(token)
            && self.shard.output(token).is_empty()
            && self.closed.insert(token)
        {
            self.shard.forget(token);
        }
    }

    fn close(&mut self) {
        let mut tokens = Vec::new();
        self.shard.take_closed(&mut tokens);
        self.closed.extend(tokens);
    }
}

impl Sources for Rest {
    fn batch(&mut self, index: Index) -> Fetched<Arc<CommittedBatch>> {
        match index {
            index if index < self.purged_below => Fetched::Gone,
            _ if self.is_loading => Fetched::Loading,
            index => {
                let at = usize::try_from(index - 1).unwrap();
                Fetched::Ready(Arc::clone(&self.batches[at]))
            }
        }
    }

    fn kept(
        &mut self,
        at: Offset,
        ahead: impl Iterator<Item = Offset>,
    ) -> Fetched<Arc<RetainedMessage>> {
        self.asked.insert(at);
        self.asked.extend(ahead);
        match &self.kept {
            Some(kept) => kept.get(&at).cloned().map_or(Fetched::Gone, Fetched::Ready),
            None => Fetched::Loading,
        }
    }

    fn owed(&mut self, client: &str, after: DeliveryRef, max: usize, out: &mut Vec<Owed>) -> Index {
        self.views.owed(client, after, max, out);
        self.views.applied()
    }

    fn interest(&mut self, topic: &str) -> Interest {
        Interest {
            is_any: self.views.is_wanted(topic),
            since: self.views.interest_changed(),
            upto: self.views.applied(),
        }
    }

    fn has_session(&mut self, client: &str) -> bool {
        let session = self.views.sessions().get(client);
        session.is_some_and(|session| session.outlives_connection())
    }

    fn is_retained(&mut self, topic: &str) -> bool {
        self.views.retained().get(topic).is_some()
    }
}

fn settings() -> Settings {
    Settings {
        node: 1,
        connect_timeout: Duration::from_secs(10),
        server_keep_alive: 0,
        packet_bytes_max: 1 << 20,
        topic_levels_max: 20,
        receive_maximum: 1000,
        inflight_out: 1000,
        authentication: Authentication { has_passwords: false, takes_anonymous: true },
        rules: Rules::open(),
        elsewhere: None,
        takes_publishes: true,
        takes_sessions: true,
        shortage: Refusal::Storage,
        topic_aliases: 16,
        subscriptions_max: 1000,
        shared_subscriptions_max: 100,
        subscription_bytes_max: 10_000,
        publish_rate: PublishRate::default(),
        user_properties_max: 100,
        response_information: "".into(),
        conceals_rules: false,
        takes_persistent: true,
        takes_retained: true,
    }
}
