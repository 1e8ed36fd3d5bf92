//! From a committed message to the bytes that its subscribers get, and their acknowledgements back.
//!
//! Watches "deliver: encode into the connection's write buffer, at most 0.5 us" and "ack: at most
//! 0.1 us", matching through the shard's cache included. The nearest public face is the whole
//! shard: what is timed is its reading of a committed batch, the taking of its outputs and its
//! reading of the PUBACKs. Elements are deliveries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ledgermq_core::access::Rules;
use ledgermq_core::codec::{self, PACKET_BYTES_MAX};
use ledgermq_core::connection::{Authentication, PublishRate, Refusal, Settings};
use ledgermq_core::event::{BatchBuilder, DeliveryRef};
use ledgermq_core::identity::{ClientId, PacketId, ProducerId};
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_core::packet::{
    Ack, Connect, Packet, ProtocolVersion, QoS, Subscribe, SubscriptionOptions,
};
use ledgermq_core::reason::ReasonCode;
use ledgermq_gateway::shard::{Fetched, Interest, Shard, ShardLimits, Sources, Stage, Token};
use ledgermq_log::CommittedBatch;
use ledgermq_log::testing::History;
use ledgermq_projections::notice::Notice;
use ledgermq_projections::views::owed::Owed;
use ledgermq_projections::views::retained::RetainedMessage;
use ledgermq_projections::views::{Limits, Views};

use crate::messages::{TOPIC, fill};

/// Messages of a batch, all within the window of a subscriber.
const MESSAGES: u32 = 400;
const VERSION: ProtocolVersion = ProtocolVersion::V311;
const SHARD: ProducerId = ProducerId { node: 1, start: 1, local: 0 };
/// Of the publishers: another worker of the node.
const OTHER: ProducerId = ProducerId { node: 1, start: 1, local: 1 };

/// All of this subject.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox");
    for (subscribers, qos) in [
        (1, QoS::AtMostOnce),
        (1, QoS::AtLeastOnce),
        (100, QoS::AtMostOnce),
        (100, QoS::AtLeastOnce),
    ] {
        group.throughput(Throughput::Elements(u64::from(MESSAGES * subscribers)));
        let name = format!("qos {} to {subscribers}", qos as u8);
        group.bench_function(name, |bencher| {
            let mut edge = Edge::new(subscribers, qos);
            bencher.iter_custom(|batches| (0..batches).map(|_| edge.batch()).sum::<Duration>());
        });
    }
    group.finish();
}

/// A shard with its subscribers, and the log that it reads.
struct Edge {
    shard: Shard,
    history: History,
    events: BatchBuilder,
    /// Batches of the shard and of the others so far.
    sequences: (u64, u64),
    views: Views,
    now: Timestamp,
    subscribers: Vec<Token>,
    dirty: Vec<Token>,
    acks: Vec<u8>,
    qos: QoS,
}

impl Edge {
    fn new(subscribers: u32, qos: QoS) -> Self {
        let history = History::default();
        let now = Timestamp::from_secs(1_700_000_000);
        let names = Box::new(|| ClientId::from("unnamed"));
        let stage = Stage::new(history.builder(), names);
        let limits = ShardLimits::default();
        let mut edge = Self {
            shard: Shard::new(SHARD, settings(), limits, stage, 1, now),
            events: history.builder(),
            history,
            sequences: (0, 0),
            views: Views::new(Limits::default()),
            now,
            subscribers: Vec::new(),
            dirty: Vec::new(),
            acks: Vec::new(),
            qos,
        };
        for number in 0..subscribers {
            edge.subscribe(&format!("client-{number}"));
        }
        edge
    }

    /// Brings a batch of messages to all subscribers and their acknowledgements back; says how long
    /// the shard took.
    fn batch(&mut self) -> Duration {
        fill(&mut self.events, &[TOPIC.to_owned()], false, MESSAGES);
        self.sequences.1 += 1;
        let batch = self.history.admit(OTHER, self.sequences.1, &mut self.events);
        let start = Instant::now();
        self.shard.on_committed(self.now, &batch, &mut Nothing);
        self.shard.take_dirty(&mut self.dirty);
        let mut spent = start.elapsed();
        assert_eq!(self.dirty.len(), self.subscribers.len());
        for token in std::mem::take(&mut self.dirty) {
            spent += self.write(token);
        }
        // Nobody's session outlives its connection, so nothing of it is logged.
        assert!(self.shard.stage().is_empty());
        spent
    }

    /// The client takes its messages and answers.
    fn write(&mut self, token: Token) -> Duration {
        self.acks.clear();
        let bytes = self.shard.output(token).len();
        let messages = answer(self.shard.output(token), &mut self.acks);
        assert_eq!(messages, MESSAGES);
        let start = Instant::now();
        self.shard.written(self.now, token, bytes, &mut Nothing);
        if self.qos > QoS::AtMostOnce {
            self.shard.on_bytes(self.now, token, &self.acks, &mut Nothing);
        }
        start.elapsed()
    }

    fn subscribe(&mut self, client: &str) {
        let token = self.shard.accept(self.now, "192.0.2.17:51234".parse().unwrap());
        let connect = Connect::new(VERSION, client, true);
        self.send(token, &Packet::Connect(Box::new(connect)));
        let options = SubscriptionOptions { qos: self.qos, ..SubscriptionOptions::default() };
        self.send(
            token,
            &Packet::Subscribe(Subscribe {
                packet_id: PacketId::MIN,
                subscription_identifier: None,
                user_properties: Vec::new(),
                filters: vec![(TOPIC, options)],
            }),
        );
        let bytes = self.shard.output(token).len();
        assert_eq!(bytes, 9, "CONNACK and SUBACK");
        self.shard.written(self.now, token, bytes, &mut Nothing);
        self.shard.take_dirty(&mut self.dirty);
        self.dirty.clear();
        self.subscribers.push(token);
    }

    /// A client sends a packet; what comes of it goes through log and views.
    fn send(&mut self, token: Token, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        codec::encode(packet, VERSION, &mut bytes).unwrap();
        self.shard.on_bytes(self.now, token, &bytes, &mut Nothing);
        let mut batches: Vec<Arc<CommittedBatch>> = Vec::new();
        let Self { history, sequences, .. } = self;
        self.shard.stage().hand_over(|_, events| {
            sequences.0 += 1;
            batches.push(history.admit(SHARD, sequences.0, events));
            true
        });
        let mut notices: Vec<Notice> = Vec::new();
        for batch in &batches {
            self.shard.on_committed(self.now, batch, &mut Nothing);
            self.views.apply(batch, &mut notices).unwrap();
        }
        for notice in notices {
            self.shard.on_notice(self.now, notice, &mut Nothing);
        }
    }
}

/// Appends a PUBACK for each message at QoS 1 of `output`; says how many messages there are.
fn answer(output: &[u8], acks: &mut Vec<u8>) -> u32 {
    let (mut at, mut messages) = (0, 0);
    while let Some((packet, length)) =
        codec::decode(&output[at..], VERSION, PACKET_BYTES_MAX).unwrap()
    {
        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
        if let Some(id) = publish.packet_id {
            let ack = Packet::PubAck(Ack::new(id, ReasonCode::Success));
            codec::encode(&ack, VERSION, acks).unwrap();
        }
        at += length;
        messages += 1;
    }
    messages
}

/// Nothing is retained, queued or read again, and everybody is listened to.
struct Nothing;

impl Sources for Nothing {
    fn batch(&mut self, _: Index) -> Fetched<Arc<CommittedBatch>> {
        Fetched::Gone
    }

    fn kept(
        &mut self,
        _: Offset,
        _: impl Iterator<Item = Offset>,
    ) -> Fetched<Arc<RetainedMessage>> {
        Fetched::Gone
    }

    fn owed(&mut self, _: &str, _: DeliveryRef, _: usize, _: &mut Vec<Owed>) -> Index {
        Index::MAX
    }

    fn interest(&mut self, _: &str) -> Interest {
        Interest { is_any: true, since: 0, upto: Index::MAX }
    }

    fn is_retained(&mut self, _: &str) -> bool {
        false
    }

    fn has_session(&mut self, _: &str) -> bool {
        false
    }
}

fn settings() -> Settings {
    Settings {
        node: 1,
        connect_timeout: Duration::from_secs(10),
        server_keep_alive: 0,
        packet_bytes_max: 1 << 20,
        topic_levels_max: 200,
        receive_maximum: 20,
        inflight_out: 1_000,
        topic_aliases: 0,
        subscriptions_max: 10,
        shared_subscriptions_max: 0,
        subscription_bytes_max: 1 << 20,
        publish_rate: PublishRate::default(),
        user_properties_max: 0,
        response_information: "".into(),
        conceals_rules: false,
        authentication: Authentication { has_passwords: false, takes_anonymous: true },
        rules: Rules::open(),
        elsewhere: None,
        takes_publishes: true,
        takes_sessions: true,
        shortage: Refusal::Storage,
        takes_persistent: true,
        takes_retained: true,
    }
}
