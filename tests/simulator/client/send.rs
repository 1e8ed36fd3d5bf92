//! What a client says by itself: messages, subscriptions, answers, signs of life.

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Ack, ForwardedProperties, Packet, ProtocolVersion, Publish, QoS, RetainHandling, Subscribe,
    SubscriptionOptions, Unsubscribe,
};
use ledgermq_core::reason::ReasonCode;

use crate::book::{Message, payload};
use crate::client::{Answer, Client, Link, Outgoing, Request, Surroundings};
use crate::options::{FILTERS, SHARED_FILTERS, SHARED_TOPICS, TOPICS};
use crate::rng::Rng;

/// Messages that wait in a client at most.
const OUTGOING_MAX: usize = 20;

impl Client {
    pub(super) fn publish_one(&mut self, s: &mut Surroundings<'_>) {
        let qos = self.any_qos(s);
        let topic = match s.rng.permille(s.options.habits.share) {
            true => *s.rng.pick(&SHARED_TOPICS),
            false => *s.rng.pick(&TOPICS[..s.options.topics]),
        };
        let retain = s.rng.permille(s.options.habits.retain);
        let expiry = (self.version == ProtocolVersion::V5
            && s.rng.permille(s.options.habits.expiry))
        .then(|| *s.rng.pick(&[1, 5, 3600]));
        if qos > QoS::AtMostOnce && self.outgoing.len() >= OUTGOING_MAX {
            return;
        }
        let bytes = if s.rng.permille(300) { s.rng.size(0, s.options.payload_bytes) } else { 0 };
        let (uid, payload) = if retain && s.rng.permille(200) {
            (None, Vec::new())
        } else {
            let seq = self.sequences.entry((topic, qos)).or_default();
            *seq += 1;
            let message = Message {
                client: self.number,
                topic,
                qos,
                seq: *seq,
                may_expire: expiry.is_some(),
                is_will: false,
            };
            let uid = s.book.add(message);
            (Some(uid), payload(uid, bytes))
        };
        let packet_id = self.next_id();
        s.trace.say(format_args!(
            "{} publishes m{} to {topic} {qos:?} id {packet_id} retain {retain} expiry {expiry:?}",
            self.id,
            uid.unwrap_or_default()
        ));
        let outgoing = Outgoing {
            packet_id,
            uid,
            qos,
            retain,
            topic,
            expiry,
            payload,
            is_received: false,
            sent: None,
            charged: None,
        };
        if qos == QoS::AtMostOnce {
            self.send_publish(s, &outgoing, false);
        } else {
            self.outgoing.push_back(outgoing);
            self.resend(s);
        }
    }

    /// Sends what was not sent by this connection, in order, as far as the node allows it.
    pub(super) fn resend(&mut self, s: &mut Surroundings<'_>) {
        for at in 0..self.outgoing.len() {
            let Some(link) = &mut self.link else { return };
            let message = &mut self.outgoing[at];
            if message.sent == Some(link.conn) {
                continue;
            }
            if message.is_received {
                message.sent = Some(link.conn);
                let release = Ack::new(message.packet_id, ReasonCode::Success);
                self.send(s, &Packet::PubRel(release));
                continue;
            }
            if link.quota == 0 {
                return;
            }
            link.quota -= 1;
            let is_again = message.sent.is_some();
            message.sent = Some(link.conn);
            message.charged = Some(link.conn);
            let message = message.clone();
            self.send_publish(s, &message, is_again);
        }
    }

    fn send_publish(&mut self, s: &mut Surroundings<'_>, message: &Outgoing, dup: bool) {
        let (topic, topic_alias) = match &mut self.link {
            Some(link) => link.write_topic(message.topic, s.rng),
            None => (message.topic, None),
        };
        self.send(
            s,
            &Packet::Publish(Publish {
                dup,
                qos: message.qos,
                retain: message.retain,
                topic,
                packet_id: (message.qos > QoS::AtMostOnce).then_some(message.packet_id),
                message_expiry_interval: message.expiry,
                topic_alias,
                subscription_identifiers: Vec::new(),
                forwarded: ForwardedProperties::default(),
                payload: &message.payload,
            }),
        );
    }

    fn any_qos(&self, s: &mut Surroundings<'_>) -> QoS {
        let weights = s.options.habits.qos;
        let drawn = s.rng.below(weights.iter().map(|weight| u64::from(*weight)).sum());
        match drawn {
            drawn if drawn < u64::from(weights[0]) => QoS::AtMostOnce,
            drawn if drawn < u64::from(weights[0] + weights[1]) => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    pub(super) fn subscribe(&mut self, s: &mut Surroundings<'_>) {
        let is_v5 = self.version == ProtocolVersion::V5;
        let mut filters: Vec<(&'static str, SubscriptionOptions)> = Vec::new();
        for _ in 0..s.rng.size(1, 3) {
            let is_shared = s.rng.permille(s.options.habits.share);
            let filter = any_filter(s.rng, is_shared);
            let is_at_most_once = s.rng.permille(if is_shared { 30 } else { 333 });
            let options = SubscriptionOptions {
                qos: match is_at_most_once {
                    true => QoS::AtMostOnce,
                    false => *s.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]),
                },
                no_local: is_v5 && !is_shared && s.rng.permille(150),
                retain_as_published: is_v5 && s.rng.permille(300),
                retain_handling: match s.rng.below(4) {
                    0 if is_v5 => RetainHandling::SendIfNew,
                    1 if is_v5 => RetainHandling::DoNotSend,
                    _ => RetainHandling::Send,
                },
            };
            if filters.iter().all(|(other, _)| *other != filter) {
                filters.push((filter, options));
            }
        }
        s.trace.say(format_args!("{} subscribes {filters:?}", self.id));
        let packet_id = self.next_id();
        let names = filters.iter().map(|(filter, _)| *filter).collect();
        self.ask(packet_id, Request::Subscribe(names));
        let subscribe = Subscribe {
            packet_id,
            subscription_identifier: (is_v5 && s.rng.permille(300)).then_some(7),
            user_properties: Vec::new(),
            filters,
        };
        self.send(s, &Packet::Subscribe(subscribe));
    }

    pub(super) fn unsubscribe(&mut self, s: &mut Surroundings<'_>) {
        let filters: Vec<_> = (0..s.rng.size(1, 2))
            .map(|_| {
                let is_shared = s.rng.permille(s.options.habits.share);
                any_filter(s.rng, is_shared)
            })
            .collect();
        s.trace.say(format_args!("{} unsubscribes {filters:?}", self.id));
        let packet_id = self.next_id();
        self.ask(packet_id, Request::Unsubscribe(filters.clone()));
        let unsubscribe = Unsubscribe { packet_id, user_properties: Vec::new(), filters };
        self.send(s, &Packet::Unsubscribe(unsubscribe));
    }

    fn ask(&mut self, packet_id: PacketId, request: Request) {
        if let Some(link) = &mut self.link {
            link.requests.insert(packet_id, request);
        }
    }

    /// Sends some of the answers that are owed.
    pub(super) fn answer(&mut self, s: &mut Surroundings<'_>) {
        let Some(link) = &mut self.link else { return };
        let count = match s.rng.below(4) {
            _ if s.is_settling => link.answers.len(),
            0 => 0,
            1 => link.answers.len().min(1),
            2 => s.rng.size(0, link.answers.len()),
            _ => link.answers.len(),
        };
        let answers: Vec<_> = link.answers.drain(..count).collect();
        for answer in answers {
            let ack = |id| Ack::new(id, ReasonCode::Success);
            let packet = match answer {
                Answer::PubAck(id) => Packet::PubAck(ack(id)),
                Answer::PubRec(id) => Packet::PubRec(ack(id)),
                Answer::PubRel(id) => Packet::PubRel(ack(id)),
                Answer::PubComp(id) => Packet::PubComp(ack(id)),
            };
            if let (Answer::PubAck(id) | Answer::PubComp(id), Some(link)) = (answer, &mut self.link)
            {
                link.held.remove(&id);
            }
            if let Answer::PubAck(id) = answer {
                self.unacknowledged.retain(|(held, ..)| *held != id);
            }
            self.send(s, &packet);
        }
    }

    pub(super) fn ping(&mut self, s: &mut Surroundings<'_>) {
        let Some(link) = &self.link else { return };
        let is_due = link.keep_alive > 0
            && s.now.since(link.last_sent).as_millis() > u128::from(link.keep_alive) * 700;
        if is_due {
            self.send(s, &Packet::PingReq);
        }
    }
}

fn any_filter(rng: &mut Rng, is_shared: bool) -> &'static str {
    let filters: &[&'static str] = if is_shared { &SHARED_FILTERS } else { &FILTERS };
    let filter: &&str = rng.pick(filters);
    filter
}

impl Link {
    /// How to name `topic` to the node: sometimes by an alias.
    fn write_topic(&mut self, topic: &'static str, rng: &mut Rng) -> (&'static str, Option<u16>) {
        if self.node_alias_maximum == 0 || rng.permille(400) {
            return (topic, None);
        }
        if let Some(at) = self.aliases.iter().position(|known| *known == topic) {
            let alias = u16::try_from(at + 1).ok();
            return (if rng.permille(900) { "" } else { topic }, alias);
        }
        if self.aliases.len() < usize::from(self.node_alias_maximum) {
            self.aliases.push(topic);
            return (topic, u16::try_from(self.aliases.len()).ok());
        }
        // What an alias means may change.
        let at = rng.size(0, self.aliases.len() - 1);
        self.aliases[at] = topic;
        (topic, u16::try_from(at + 1).ok())
    }
}
