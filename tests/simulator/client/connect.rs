//! Connecting, and leaving in order.

use std::collections::{BTreeMap, VecDeque};

use ledgermq_core::packet::{
    Connect, Disconnect, ForwardedProperties, Packet, ProtocolVersion, QoS, Will,
};
use ledgermq_core::reason::ReasonCode;

use crate::book::{Message, payload};
use crate::client::{Client, Link, Surroundings};
use crate::options::TOPICS;

impl Client {
    pub(super) fn consider_connecting(&mut self, s: &mut Surroundings<'_>) {
        if s.is_settling || s.rng.permille(150) {
            self.connect(s);
            self.flush(s);
        }
    }

    pub(super) fn connect(&mut self, s: &mut Surroundings<'_>) {
        let is_v5 = self.version == ProtocolVersion::V5;
        let clean_start = if is_v5 {
            !s.is_settling && s.rng.permille(s.options.habits.clean_start)
        } else {
            self.interval == 0
                || (!s.is_settling && s.rng.permille(s.options.habits.clean_start / 10))
        };
        let interval = match (is_v5, clean_start) {
            (false, true) => 0,
            (false, false) => u32::MAX,
            // A session that is about to be looked at must not end by itself.
            (true, _) if s.is_settling && self.interval > 0 => self.interval.max(86_400),
            (true, _) => self.interval,
        };
        let node = s.pick_node();
        let conn = s.network.connect(node);
        let has_will = !s.is_settling && s.rng.permille(s.options.habits.will);
        let will = has_will.then(|| self.will(s));
        s.trace.say(format_args!(
            "{} connects by {conn}: {:?} clean {clean_start} interval {interval} will {:?} holds {}+{}",
            self.id,
            self.version,
            will.as_ref().map(|(text, ..)| String::from_utf8_lossy(text).into_owned()),
            self.outgoing.len(),
            self.incoming.len(),
        ));
        if s.nodes.len() > 1 {
            s.trace.say(format_args!("{conn} is to node {node}"));
        }
        let alias_maximum = if is_v5 { s.rng.small(0, 3) } else { 0 };
        self.link = Some(Link {
            alias_maximum,
            given: BTreeMap::new(),
            node_alias_maximum: 0,
            aliases: Vec::new(),
            conn,
            is_open: false,
            is_fresh: true,
            is_persistent: interval > 0,
            input: Vec::new(),
            output: VecDeque::new(),
            answers: VecDeque::new(),
            held: BTreeMap::new(),
            requests: BTreeMap::new(),
            quota: 0,
            quota_max: 0,
            last_sent: s.now,
            keep_alive: self.keep_alive,
            opened: s.now,
            receive_maximum: self
                .receive_maximum
                .map_or(if is_v5 { 65_535 } else { usize::MAX }, usize::from),
        });
        let id = self.id.clone();
        let connect = Connect {
            version: self.version,
            clean_start,
            keep_alive: self.keep_alive,
            client_id: &id,
            username: self.username(),
            password: self.username().map(str::as_bytes),
            will: will.as_ref().map(|(payload, topic, qos, retain, delay)| Will {
                topic,
                payload,
                qos: *qos,
                retain: *retain,
                delay_interval: if is_v5 { *delay } else { 0 },
                message_expiry_interval: None,
                forwarded: ForwardedProperties::default(),
            }),
            session_expiry_interval: is_v5.then_some(interval),
            receive_maximum: self.receive_maximum,
            maximum_packet_size: None,
            topic_alias_maximum: (alias_maximum > 0).then_some(alias_maximum),
            request_response_information: None,
            request_problem_information: None,
            authentication_method: None,
            authentication_data: None,
            user_properties: Vec::new(),
        };
        self.send(s, &Packet::Connect(Box::new(connect)));
    }

    /// Half of the clients have a name.
    pub(crate) fn username(&self) -> Option<&'static str> {
        (self.number % 2 == 1).then_some("odd")
    }

    fn will(&mut self, s: &mut Surroundings<'_>) -> (Vec<u8>, &'static str, QoS, bool, u32) {
        let topic = *s.rng.pick(&TOPICS[..s.options.topics.min(6)]);
        let qos = *s.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let message =
            Message { client: self.number, topic, qos, seq: 0, may_expire: false, is_will: true };
        let uid = s.book.add(message);
        let delay = *s.rng.pick(&[0, 0, 1, 20]);
        (payload(uid, 0), topic, qos, s.rng.permille(200), delay)
    }

    pub(super) fn disconnect(&mut self, s: &mut Surroundings<'_>) {
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        if self.version == ProtocolVersion::V5 {
            if s.rng.permille(200) {
                disconnect.reason = ReasonCode::DisconnectWithWill;
            }
            let is_persistent = self.link.as_ref().is_some_and(|link| link.is_persistent);
            if s.rng.permille(200) && is_persistent {
                disconnect.session_expiry_interval = Some(*s.rng.pick(&[0, 1, 30, u32::MAX]));
            }
        }
        s.trace.say(format_args!(
            "{} disconnects: {:?} {:?}",
            self.id, disconnect.reason, disconnect.session_expiry_interval
        ));
        self.send(s, &Packet::Disconnect(disconnect));
        self.flush(s);
        self.leave(s);
    }
}
