//! Messages from the client: PUBLISH and the first half of QoS 2.

use hashbrown::HashMap;

use crate::connection::{Connection, Outputs, Settings};
use crate::event::{Event, MessagePublished};
use crate::identity::PacketId;
use crate::packet::{Ack, Packet, ProtocolVersion, Publish, QoS};
use crate::reason::ReasonCode;
use crate::topic;

/// State of the messages under way from the client.
#[derive(Debug, Default)]
pub(super) struct Receive {
    /// QoS 2 identifiers between PUBLISH and PUBCOMP.
    exactly_once: HashMap<PacketId, Stage>,
    /// QoS 1 messages whose PUBACK waits for the commit.
    awaiting_puback: u32,
}

/// How far a QoS 2 message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Appended,
    Committed,
    Releasing,
}

impl Receive {
    pub(super) fn resume(&mut self, inbound: &[PacketId]) {
        self.exactly_once.extend(inbound.iter().map(|id| (*id, Stage::Committed)));
    }

    fn under_way(&self) -> usize {
        self.exactly_once.len() + self.awaiting_puback as usize
    }
}

impl Connection {
    pub(super) fn on_publish(
        &mut self,
        publish: &Publish<'_>,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        if let Err(reason) = check(publish, settings) {
            return self.fail(reason, out);
        }
        if let Some(packet_id) = publish.packet_id {
            if publish.qos == QoS::ExactlyOnce
                && let Some(stage) = self.receive.exactly_once.get(&packet_id)
            {
                // [MQTT-4.3.3-10]: the same identifier before PUBREL is the same message. If its
                // event is still on the way, PUBREC follows the commit.
                if *stage != Stage::Appended {
                    out.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
                }
                return;
            }
            // [MQTT-3.3.4-9]: in 3.1.1 there is no such limit; the log's own bound holds then.
            if self.version == ProtocolVersion::V5
                && self.receive.under_way() >= usize::from(settings.receive_maximum)
            {
                return self.fail(ReasonCode::ReceiveMaximumExceeded, out);
            }
        }
        if let Some(reason) = refusal(publish, settings) {
            return self.refuse_publish(publish, reason, out);
        }
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(_)) => self.receive.awaiting_puback += 1,
            (QoS::ExactlyOnce, Some(id)) => {
                self.receive.exactly_once.insert(id, Stage::Appended);
            }
            _ => {}
        }
        out.publish(&MessagePublished {
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
            topic: publish.topic,
            message_expiry_interval: publish.message_expiry_interval,
            properties: &publish.forwarded.0,
            payload: publish.payload,
        });
    }

    /// The message with this identifier was committed: the one place where PUBACK and PUBREC of
    /// an accepted message are born.
    pub fn on_publish_committed(&mut self, qos: QoS, packet_id: PacketId, out: &mut impl Outputs) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.receive.awaiting_puback = self.receive.awaiting_puback.saturating_sub(1);
                out.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
            }
            QoS::ExactlyOnce => {
                if let Some(stage) = self.receive.exactly_once.get_mut(&packet_id) {
                    *stage = Stage::Committed;
                    out.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
                }
            }
        }
    }

    pub(super) fn on_pubrel(&mut self, packet_id: PacketId, out: &mut impl Outputs) {
        let is_persistent = self.is_persistent();
        match self.receive.exactly_once.get_mut(&packet_id) {
            None => {
                let answer = Ack::new(packet_id, ReasonCode::PacketIdentifierNotFound);
                out.send(&Packet::PubComp(answer));
            }
            // A PUBREL ahead of our PUBREC breaks the exchange. [MQTT-4.3.3-4]
            Some(Stage::Appended) => self.fail(ReasonCode::ProtocolError, out),
            Some(Stage::Releasing) => {}
            Some(stage) if is_persistent => {
                *stage = Stage::Releasing;
                out.append(Event::MessageReleased { packet_ids: vec![packet_id] });
            }
            Some(_) => {
                self.receive.exactly_once.remove(&packet_id);
                out.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
            }
        }
    }

    /// The release of these messages was committed: sends PUBCOMP.
    pub fn on_release_committed(&mut self, packet_ids: &[PacketId], out: &mut impl Outputs) {
        for packet_id in packet_ids {
            if self.receive.exactly_once.remove(packet_id).is_some() {
                out.send(&Packet::PubComp(Ack::new(*packet_id, ReasonCode::Success)));
            }
        }
    }

    fn refuse_publish(
        &mut self,
        publish: &Publish<'_>,
        reason: ReasonCode,
        out: &mut impl Outputs,
    ) {
        // QoS 0 and 3.1.1 know no refusal. The worker does not read a 3.1.1 client while the log
        // takes no messages, so only QoS 0 and messages read in the same turn come here.
        let Some(packet_id) = publish.packet_id else {
            return;
        };
        if self.version == ProtocolVersion::V311 {
            return self.drop_connection(out);
        }
        let answer = Ack::new(packet_id, reason);
        out.send(&match publish.qos {
            QoS::ExactlyOnce => Packet::PubRec(answer),
            _ => Packet::PubAck(answer),
        });
    }
}

fn check(publish: &Publish<'_>, settings: &Settings) -> Result<(), ReasonCode> {
    // [MQTT-3.2.2-17], [MQTT-3.3.2-9]: CONNACK allowed no alias.
    if publish.topic_alias.is_some() {
        return Err(ReasonCode::TopicAliasInvalid);
    }
    // [MQTT-3.3.4-6]: only a server sends subscription identifiers.
    if !publish.subscription_identifiers.is_empty() {
        return Err(ReasonCode::ProtocolError);
    }
    if topic::levels(publish.topic) > settings.topic_levels_max {
        return Err(ReasonCode::TopicNameInvalid);
    }
    Ok(())
}

fn refusal(publish: &Publish<'_>, settings: &Settings) -> Option<ReasonCode> {
    if is_reserved(publish.topic) {
        return Some(ReasonCode::NotAuthorized);
    }
    let is_addition = publish.retain && !publish.payload.is_empty();
    (!settings.takes_publishes || (is_addition && !settings.takes_retained))
        .then_some(ReasonCode::QuotaExceeded)
}

/// Topics in which only the server speaks.
fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
        && ["$SYS", "$CONTROL", "$replay"].contains(&topic.split('/').next().unwrap_or_default())
}
