//! What a client hears.

use ledgermq_core::codec;
use ledgermq_core::packet::{Ack, ConnAck, Packet, ProtocolVersion, Publish, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::book::uid_of;
use crate::client::{Answer, Client, Link, Request, Surroundings};
use crate::node::peer;
use crate::seen::{Receipt, Seen};

impl Client {
    pub(super) fn take_packets(&mut self, s: &mut Surroundings<'_>) {
        let Some(link) = &mut self.link else { return };
        let conn = link.conn;
        let input = std::mem::take(&mut link.input);
        let mut at = 0;
        while self.link.as_ref().is_some_and(|link| link.conn == conn) {
            match codec::decode(&input[at..], self.version, u32::MAX) {
                Ok(Some((packet, bytes))) => {
                    at += bytes;
                    self.take(s, &packet);
                }
                Ok(None) => break,
                Err(error) => {
                    return s.seen.push(Seen::Broken(format!(
                        "{} was sent bytes that are no packet: {error}",
                        self.id
                    )));
                }
            }
        }
        if let Some(link) = self.link.as_mut().filter(|link| link.conn == conn) {
            link.input = input[at..].to_vec();
        }
    }

    fn take(&mut self, s: &mut Surroundings<'_>, packet: &Packet<'_>) {
        let Some(link) = &mut self.link else { return };
        if !link.is_open && !matches!(packet, Packet::ConnAck(_)) {
            let is_goodbye = matches!(packet, Packet::Disconnect(_));
            let what = format!("{} was sent {packet:?} before CONNACK", self.id);
            if !is_goodbye {
                s.seen.push(Seen::Broken(what));
            }
            return self.leave(s);
        }
        match packet {
            Packet::ConnAck(connack) => self.on_connack(s, connack),
            Packet::Publish(publish) => self.on_publish(s, publish),
            Packet::PubAck(ack) => self.on_acknowledged(s, ack, QoS::AtLeastOnce),
            Packet::PubRec(ack) => self.on_acknowledged(s, ack, QoS::ExactlyOnce),
            Packet::PubComp(ack) => self.on_pubcomp(s, ack),
            Packet::PubRel(ack) => {
                s.trace
                    .say(format_args!("{} PUBREL id {} {:?}", self.id, ack.packet_id, ack.reason));
                self.incoming.remove(&ack.packet_id);
                link.answers.push_back(Answer::PubComp(ack.packet_id));
            }
            Packet::SubAck(suback) => {
                let Some(Request::Subscribe(filters)) = link.requests.remove(&suback.packet_id)
                else {
                    return s.seen.push(Seen::Broken(format!("{}: SUBACK to nothing", self.id)));
                };
                for (filter, reason) in filters.into_iter().zip(&suback.reasons) {
                    if !reason.is_error() {
                        s.seen.push(Seen::SubAck { client: self.number, filter });
                    }
                }
            }
            Packet::UnsubAck(unsuback) => {
                let Some(Request::Unsubscribe(filters)) = link.requests.remove(&unsuback.packet_id)
                else {
                    return s.seen.push(Seen::Broken(format!("{}: UNSUBACK to nothing", self.id)));
                };
                for filter in filters {
                    s.seen.push(Seen::UnsubAck { client: self.number, filter });
                }
            }
            Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                s.trace.say(format_args!("{} is told {:?}", self.id, disconnect.reason));
                s.seen.push(Seen::Disconnected { client: self.number, reason: disconnect.reason });
                self.leave(s);
            }
            other => s.seen.push(Seen::Broken(format!("{} was sent {other:?}", self.id))),
        }
    }

    fn on_connack(&mut self, s: &mut Surroundings<'_>, connack: &ConnAck<'_>) {
        let Some(link) = &mut self.link else { return };
        s.trace.say(format_args!(
            "{} CONNACK {:?} present {} on {}",
            self.id, connack.reason, connack.session_present, link.conn
        ));
        if connack.reason.is_error() {
            return self.leave(s);
        }
        if link.is_open {
            return s.seen.push(Seen::Broken(format!("{}: a second CONNACK", self.id)));
        }
        link.is_open = true;
        link.is_fresh = !connack.session_present;
        link.quota_max = match self.version {
            ProtocolVersion::V5 => connack.receive_maximum.unwrap_or(u16::MAX),
            ProtocolVersion::V31 | ProtocolVersion::V311 => 15,
        };
        link.quota = link.quota_max;
        link.node_alias_maximum = connack.topic_alias_maximum.unwrap_or(0);
        link.keep_alive = connack.server_keep_alive.unwrap_or(link.keep_alive);
        let conn = link.conn;
        // A client whose CONNACK was lost cannot know that the session it resumes now is a new one:
        // MQTT has no answer to that. These clients are told, for the sake of what is tested here.
        let opened = s.oracle.opened.get(&peer(conn).to_string());
        let life = opened.map(|opened| opened.life);
        if !connack.session_present || self.life != life {
            // What the session held is gone: nobody knows what became of it.
            self.outgoing.clear();
            self.incoming.clear();
            self.unacknowledged.clear();
        }
        self.life = life;
        let session_present = connack.session_present;
        s.seen.push(Seen::ConnAck { client: self.number, conn, session_present });
        self.resend(s);
    }

    fn on_publish(&mut self, s: &mut Surroundings<'_>, publish: &Publish<'_>) {
        let Some(link) = &mut self.link else { return };
        let uid = uid_of(publish.payload);
        if let Err(what) = link.check_topic(publish, uid.map(|uid| s.book.get(uid).topic)) {
            return s.seen.push(Seen::Broken(format!("{}: {what}", self.id)));
        }
        let mut receipt = Receipt {
            client: self.number,
            conn: link.conn,
            uid: uid.unwrap_or_default(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            is_known: false,
            is_repeated: false,
            is_fresh: link.is_fresh,
            in_flight: link.held.len(),
            receive_maximum: link.receive_maximum,
            is_id_taken: false,
        };
        if let Some(id) = publish.packet_id {
            receipt.is_id_taken = link.held.contains_key(&id)
                || self.incoming.get(&id).is_some_and(|held| *held != uid);
            link.held.insert(id, uid);
            match publish.qos {
                QoS::ExactlyOnce => {
                    receipt.is_known = self.incoming.insert(id, uid).is_some();
                    link.answers.push_back(Answer::PubRec(id));
                }
                _ => {
                    let is_new = self.unacknowledged.insert((id, uid, publish.retain));
                    receipt.is_repeated = publish.dup && !is_new;
                    link.answers.push_back(Answer::PubAck(id));
                }
            }
        }
        s.trace.say(format_args!(
            "{} receives m{} {:?} id {:?} dup {} retain {}{}",
            self.id,
            receipt.uid,
            receipt.qos,
            publish.packet_id,
            publish.dup,
            publish.retain,
            if receipt.is_known { " again" } else { "" }
        ));
        s.seen.push(Seen::Received(receipt));
    }

    fn on_acknowledged(&mut self, s: &mut Surroundings<'_>, ack: &Ack<'_>, qos: QoS) {
        let Some(link) = &mut self.link else { return };
        let position = self
            .outgoing
            .iter()
            .position(|message| message.packet_id == ack.packet_id && message.qos == qos);
        let Some(at) = position else {
            if qos == QoS::ExactlyOnce {
                link.answers.push_back(Answer::PubRel(ack.packet_id));
            }
            return;
        };
        s.trace.say(format_args!("{} {qos:?} id {} {:?}", self.id, ack.packet_id, ack.reason));
        if ack.reason.is_error() {
            self.take_out(at);
            return;
        }
        let message = &mut self.outgoing[at];
        if let Some(uid) = message.uid {
            let is_unheard = ack.reason == ReasonCode::NoMatchingSubscribers;
            s.seen.push(Seen::PubAcked { uid, is_unheard });
        }
        if qos == QoS::ExactlyOnce {
            message.is_received = true;
            link.answers.push_back(Answer::PubRel(ack.packet_id));
        } else {
            self.take_out(at);
        }
    }

    /// A message is done; the place that it took is free.
    fn take_out(&mut self, at: usize) {
        let (Some(message), Some(link)) = (self.outgoing.remove(at), &mut self.link) else {
            return;
        };
        link.quota += u16::from(message.charged == Some(link.conn));
        debug_assert!(link.quota <= link.quota_max);
    }

    fn on_pubcomp(&mut self, s: &mut Surroundings<'_>, ack: &Ack<'_>) {
        let Some(link) = &mut self.link else { return };
        let position = self
            .outgoing
            .iter()
            .position(|message| message.packet_id == ack.packet_id && message.is_received);
        if let Some(at) = position {
            let is_found = !ack.reason.is_error();
            if link.is_persistent && is_found {
                s.seen.push(Seen::PubComp { client: self.number });
            }
            self.take_out(at);
        }
    }
}

impl Link {
    /// Whether the message comes under its own topic, by name or by an alias.
    fn check_topic(&mut self, publish: &Publish<'_>, own: Option<&str>) -> Result<(), String> {
        let named = match publish.topic_alias {
            Some(alias) if alias == 0 || alias > self.alias_maximum => {
                return Err(format!("alias {alias} was not allowed"));
            }
            Some(alias) if publish.topic.is_empty() => {
                let meant = self.given.get(&alias);
                meant.ok_or_else(|| format!("alias {alias} means nothing"))?
            }
            Some(alias) => {
                self.given.insert(alias, publish.topic.to_owned());
                publish.topic
            }
            None => publish.topic,
        };
        match own.filter(|own| *own != named) {
            Some(own) => Err(format!("a message of {own} came as one of {named}")),
            None => Ok(()),
        }
    }
}
