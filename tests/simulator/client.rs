//! A client: a state machine that keeps the protocol, with habits and moods.

mod connect;
mod displaced;
mod receive;
mod send;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ledgermq_core::codec;
use ledgermq_core::identity::PacketId;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::{Packet, ProtocolVersion, QoS};

use crate::book::{Book, Uid};
use crate::network::{ConnId, Network, Read};
use crate::options::Options;
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::seen::Seen;
use crate::trace::Trace;

use displaced::Displaced;

/// Bytes that a client's socket takes.
const SOCKET_BYTES: usize = 16 << 10;

/// What a client may touch in its turn.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Timestamp,
    pub(crate) rng: &'a mut Rng,
    pub(crate) network: &'a mut Network,
    pub(crate) book: &'a mut Book,
    pub(crate) trace: &'a mut Trace,
    pub(crate) seen: &'a mut Vec<Seen>,
    pub(crate) oracle: &'a Oracle,
    pub(crate) options: &'a Options,
    /// The nodes that can be reached; all, if none can.
    pub(crate) nodes: &'a [u64],
    /// No new trouble is made: connect, answer, receive.
    pub(crate) is_settling: bool,
}

impl Surroundings<'_> {
    /// The node to connect to: any, if there are several.
    fn pick_node(&mut self) -> u64 {
        match self.nodes {
            [only] => *only,
            several => *self.rng.pick(several),
        }
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) id: String,
    pub(crate) version: ProtocolVersion,
    /// Session Expiry Interval that it likes; 0 ends sessions with their connections.
    interval: u32,
    receive_maximum: Option<u16>,
    keep_alive: u16,
    pub(crate) link: Option<Link>,
    displaced: Vec<Displaced>,
    /// What the session holds on this side.
    pub(crate) outgoing: VecDeque<Outgoing>,
    /// QoS 2 messages received and not released, by identifier.
    incoming: BTreeMap<PacketId, Option<Uid>>,
    /// QoS 1 messages received and not acknowledged, with their RETAIN flags.
    unacknowledged: BTreeSet<(PacketId, Option<Uid>, bool)>,
    /// The session that all this belongs to.
    life: Option<usize>,
    last_id: u16,
    sequences: BTreeMap<(&'static str, QoS), u32>,
    /// It answers nothing and reads nothing until then.
    mute_until: Timestamp,
}

/// A message on its way to the node.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) packet_id: PacketId,
    /// None for an empty payload.
    uid: Option<Uid>,
    qos: QoS,
    retain: bool,
    topic: &'static str,
    expiry: Option<u32>,
    payload: Vec<u8>,
    /// PUBREC came.
    is_received: bool,
    /// It was sent at all; then by which connection last.
    sent: Option<ConnId>,
    /// The connection whose quota its PUBLISH took a place of.
    charged: Option<ConnId>,
}

/// The connection in use.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: ConnId,
    pub(crate) is_open: bool,
    is_fresh: bool,
    /// The session outlives the connection.
    is_persistent: bool,
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// Answers owed to the node, in order.
    answers: VecDeque<Answer>,
    /// QoS 1 and 2 identifiers of messages that came and are not settled from our side.
    held: BTreeMap<PacketId, Option<Uid>>,
    requests: BTreeMap<PacketId, Request>,
    /// Messages that may still be sent before one is acknowledged.
    quota: u16,
    quota_max: u16,
    last_sent: Timestamp,
    keep_alive: u16,
    opened: Timestamp,
    receive_maximum: usize,
    /// Topic Aliases that we take, and what those mean that we were given.
    alias_maximum: u16,
    given: BTreeMap<u16, String>,
    /// Topic Aliases that the node takes, and what those mean that we gave.
    node_alias_maximum: u16,
    aliases: Vec<&'static str>,
}

/// An answer that the client owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the packets are called so")]
enum Answer {
    PubAck(PacketId),
    PubRec(PacketId),
    PubRel(PacketId),
    PubComp(PacketId),
}

#[derive(Debug)]
enum Request {
    Subscribe(Vec<&'static str>),
    Unsubscribe(Vec<&'static str>),
}

impl Client {
    pub(crate) fn new(number: usize, options: &Options, rng: &mut Rng) -> Self {
        let version = *rng.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
        let is_persistent = rng.permille(options.habits.persistent);
        let interval = match (is_persistent, version) {
            (false, _) => 0,
            (true, ProtocolVersion::V31 | ProtocolVersion::V311) => u32::MAX,
            (true, ProtocolVersion::V5) => *rng.pick(&[1, 10, 600, 86_400, u32::MAX, u32::MAX]),
        };
        let is_v5 = version == ProtocolVersion::V5;
        let receive_maximum =
            (is_v5 && rng.permille(600)).then(|| *rng.pick(&[1, 1, 2, 3, 10, 100]));
        Self {
            number,
            id: format!("c{number}"),
            version,
            interval,
            receive_maximum,
            keep_alive: *rng.pick(&[0, 0, 5, 30, 120]),
            link: None,
            displaced: Vec::new(),
            outgoing: VecDeque::new(),
            incoming: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
            life: None,
            last_id: 0,
            sequences: BTreeMap::new(),
            mute_until: Timestamp(0),
        }
    }

    /// Does something, or nothing.
    pub(crate) fn turn(&mut self, s: &mut Surroundings<'_>) {
        self.watch_displaced(s);
        if !s.is_settling && self.mute_until > s.now {
            return;
        }
        self.read(s);
        let Some(link) = &self.link else { return self.consider_connecting(s) };
        if link.is_open {
            self.answer(s);
            self.resend(s);
            if !s.is_settling {
                self.act(s);
            }
            self.ping(s);
        } else if s.now.since(link.opened).as_secs() > 20 {
            // No CONNACK: it tries again.
            self.leave(s);
        }
        self.flush(s);
    }

    /// The path is closed, or the client gives it up.
    pub(crate) fn leave(&mut self, s: &mut Surroundings<'_>) {
        let Some(link) = self.link.take() else { return };
        s.trace.say(format_args!("{} leaves connection {}", self.id, link.conn));
        if let Some(connection) = s.network.get_mut(link.conn) {
            connection.client_left = true;
            connection.up.close();
        }
    }

    /// Whether it has nothing left to say or to hear of.
    pub(crate) fn is_settled(&self) -> bool {
        self.outgoing.is_empty()
            && self.incoming.is_empty()
            && self.link.as_ref().is_some_and(|link| {
                link.is_open
                    && link.answers.is_empty()
                    && link.output.is_empty()
                    && link.requests.is_empty()
            })
    }

    fn act(&mut self, s: &mut Surroundings<'_>) {
        let habits = &s.options.habits;
        if s.rng.permille(habits.publish) {
            self.publish_one(s);
        }
        let is_patient = self.link.as_ref().is_some_and(|link| link.requests.len() < 8);
        if is_patient && s.rng.permille(habits.subscribe) {
            self.subscribe(s);
        }
        if is_patient && s.rng.permille(habits.unsubscribe) {
            self.unsubscribe(s);
        }
        if s.rng.permille(habits.mute) {
            let seconds = *s.rng.pick(&[1, 5, 60]);
            self.mute_until = s.now.plus(std::time::Duration::from_millis(seconds * 100));
        }
        if s.rng.permille(habits.disconnect) {
            self.disconnect(s);
        } else if s.rng.permille(habits.close) {
            self.flush(s);
            self.leave(s);
        } else if s.rng.permille(habits.take_over) {
            self.abandon(s);
            self.connect(s);
        }
    }

    fn send(&mut self, s: &mut Surroundings<'_>, packet: &Packet<'_>) {
        let Some(link) = &mut self.link else { return };
        let mut bytes = Vec::new();
        codec::encode(packet, self.version, &mut bytes).expect("clients send what can be said");
        link.output.extend(&bytes);
        link.last_sent = s.now;
    }

    fn flush(&mut self, s: &mut Surroundings<'_>) {
        let Some(link) = &mut self.link else { return };
        let Some(connection) = s.network.get_mut(link.conn) else { return };
        let bytes = link.output.make_contiguous();
        if let Some(taken) = connection.up.send(bytes, SOCKET_BYTES) {
            link.output.drain(..taken);
        }
    }

    fn read(&mut self, s: &mut Surroundings<'_>) {
        loop {
            let Some(link) = &mut self.link else { return };
            let max = s.rng.size(1, 2000);
            let read = match s.network.get_mut(link.conn) {
                Some(connection) => connection.down.read(max),
                None => Read::Closed,
            };
            match read {
                Read::Nothing => return,
                Read::Closed => return self.leave(s),
                Read::Bytes(bytes) => {
                    link.input.extend_from_slice(&bytes);
                    self.take_packets(s);
                }
            }
            if !s.is_settling && s.rng.permille(300) {
                return;
            }
        }
    }

    fn next_id(&mut self) -> PacketId {
        loop {
            // Few identifiers, so that they are used again soon.
            self.last_id = self.last_id % 40 + 1;
            let id = PacketId::new(self.last_id).expect("from 1 on");
            let is_taken = self.outgoing.iter().any(|message| message.packet_id == id)
                || self.link.as_ref().is_some_and(|link| link.requests.contains_key(&id));
            if !is_taken {
                return id;
            }
        }
    }
}
