//! Messages from the client: PUBLISH and the first half of QoS 2.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::access::Action;
use crate::connection::refusal::{Refusal, Request};
use crate::connection::{Connection, Outputs, Settings, State};
use crate::event::{Event, MessagePublished};
use crate::identity::PacketId;
use crate::offset::Timestamp;
use crate::packet::{Ack, Packet, ProtocolVersion, Publish, QoS};
use crate::reason::ReasonCode;
use crate::topic;

/// Answers of a 3.1.1 client that wait for earlier ones: as many as there are identifiers.
const HELD_MAX: usize = 65_535;

/// State of the messages under way from the client.
#[derive(Debug, Default)]
pub(super) struct Receive {
    /// QoS 2 identifiers between PUBLISH and PUBCOMP.
    exactly_once: HashMap<PacketId, Exchange>,
    /// Messages of this connection without PUBACK or PUBCOMP: those of an earlier one do not count
    /// towards the Receive Maximum (MQTT 5 section 4.9).
    under_way: u32,
    /// Messages of this connection that will be answered when they are committed, and those that
    /// were.
    appended: u64,
    committed: u64,
    /// Refusals behind messages whose commit is awaited, with the number of these. At most the
    /// Receive Maximum, and [`HELD_MAX`] in 3.1.1, which has none.
    held: VecDeque<(u64, QoS, Ack<'static>)>,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    stage: Stage,
    is_resumed: bool,
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
        let exchange = Exchange { stage: Stage::Committed, is_resumed: true };
        self.exactly_once.extend(inbound.iter().map(|id| (*id, exchange)));
    }

    /// Ends the exchange of `packet_id`; says whether there was one.
    fn complete(&mut self, packet_id: PacketId) -> bool {
        let Some(exchange) = self.exactly_once.remove(&packet_id) else { return false };
        self.under_way -= u32::from(!exchange.is_resumed);
        true
    }
}

impl Connection {
    pub(super) fn on_publish(
        &mut self,
        publish: &Publish<'_>,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        let (topic, resolved);
        let publish = match publish.topic_alias {
            None => publish,
            Some(alias) => {
                let aliases = self.aliases.get_or_insert_default();
                topic = match aliases.resolve(publish.topic, alias, settings.topic_aliases) {
                    Ok(topic) => topic,
                    Err(reason) => return self.fail(reason, out),
                };
                resolved = Publish { topic: &topic, ..publish.clone() };
                &resolved
            }
        };
        if let Err(reason) = check(publish, settings) {
            return self.fail(reason, out);
        }
        if let Some(packet_id) = publish.packet_id {
            if publish.qos == QoS::ExactlyOnce
                && let Some(exchange) = self.receive.exactly_once.get(&packet_id)
            {
                // [MQTT-4.3.3-10]: the same identifier before PUBREL is the same message. If its
                // event is still on the way, PUBREC follows the commit.
                if exchange.stage != Stage::Appended {
                    out.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
                }
                return;
            }
            // [MQTT-3.3.4-7]: in 3.1.1 there is no such limit; the log's own bound holds then.
            if self.version == ProtocolVersion::V5
                && self.receive.under_way >= u32::from(settings.receive_maximum)
            {
                return self.fail(ReasonCode::ReceiveMaximumExceeded, out);
            }
        }
        if let Some(refusal) = self.refusal(publish, settings, out) {
            return self.refuse_publish(publish, refusal, settings, out);
        }
        self.count_published(publish, settings);
        if topic::is_control(publish.topic) {
            return self.take_control(publish, out);
        }
        self.receive.under_way += u32::from(publish.packet_id.is_some());
        self.receive.appended += u64::from(publish.packet_id.is_some());
        if let (QoS::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) {
            let exchange = Exchange { stage: Stage::Appended, is_resumed: false };
            self.receive.exactly_once.insert(packet_id, exchange);
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

    /// What is asked of the server is acknowledged in its turn, whatever the answer will be.
    fn take_control(&mut self, publish: &Publish<'_>, out: &mut impl Outputs) {
        if self.receive.held.len() >= HELD_MAX {
            return self.drop_connection(ReasonCode::QuotaExceeded, out);
        }
        if let Some(packet_id) = publish.packet_id {
            self.acknowledge(publish.qos, Ack::new(packet_id, ReasonCode::Success), out);
        }
        out.control(publish.topic, publish.payload);
    }

    /// The message with this identifier was committed: the one place where PUBACK and PUBREC of
    /// an accepted message are born. Unless `is_heard`, nobody at all subscribes to its topic.
    pub fn on_publish_committed(
        &mut self,
        qos: QoS,
        packet_id: PacketId,
        is_heard: bool,
        out: &mut impl Outputs,
    ) {
        if self.state != State::Open {
            return;
        }
        self.receive.committed += u64::from(qos != QoS::AtMostOnce);
        // MQTT 5 sections 3.4.2.1 and 3.5.2.1.
        let reason = match is_heard || self.version != ProtocolVersion::V5 {
            true => ReasonCode::Success,
            false => ReasonCode::NoMatchingSubscribers,
        };
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.receive.under_way = self.receive.under_way.saturating_sub(1);
                out.send(&Packet::PubAck(Ack::new(packet_id, reason)));
            }
            QoS::ExactlyOnce => {
                if let Some(exchange) = self.receive.exactly_once.get_mut(&packet_id) {
                    exchange.stage = Stage::Committed;
                    out.send(&Packet::PubRec(Ack::new(packet_id, reason)));
                }
            }
        }
        while let Some((_, qos, ack)) =
            self.receive.held.pop_front_if(|(behind, ..)| *behind <= self.receive.committed)
        {
            self.receive.under_way = self.receive.under_way.saturating_sub(1);
            if let Some(exchange) = self.receive.exactly_once.get_mut(&ack.packet_id)
                && qos == QoS::ExactlyOnce
                && !ack.reason.is_error()
            {
                exchange.stage = Stage::Committed;
            }
            out.send(&answer(qos, ack));
        }
    }

    pub(super) fn on_pubrel(&mut self, packet_id: PacketId, out: &mut impl Outputs) {
        let is_persistent = self.is_persistent();
        let exchange = self.receive.exactly_once.get_mut(&packet_id);
        match exchange.as_ref().map(|exchange| exchange.stage) {
            None => {
                let answer = Ack::new(packet_id, ReasonCode::PacketIdentifierNotFound);
                out.send(&Packet::PubComp(answer));
            }
            // A PUBREL ahead of our PUBREC breaks the exchange. [MQTT-4.3.3-4]
            Some(Stage::Appended) => self.fail(ReasonCode::ProtocolError, out),
            Some(Stage::Releasing) => {}
            Some(Stage::Committed) if is_persistent => {
                if let Some(exchange) = exchange {
                    exchange.stage = Stage::Releasing;
                }
                out.append(Event::MessageReleased { packet_ids: vec![packet_id] });
            }
            Some(Stage::Committed) => self.complete(packet_id, out),
        }
    }

    /// The release of these messages was committed: sends PUBCOMP.
    pub fn on_release_committed(&mut self, packet_ids: &[PacketId], out: &mut impl Outputs) {
        if self.state != State::Open {
            return;
        }
        for packet_id in packet_ids {
            self.complete(*packet_id, out);
        }
    }

    /// `[MQTT-4.3.3-11]`
    fn complete(&mut self, packet_id: PacketId, out: &mut impl Outputs) {
        if self.receive.complete(packet_id) {
            out.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
        }
    }

    fn refusal(
        &mut self,
        publish: &Publish<'_>,
        settings: &Settings,
        out: &impl Outputs,
    ) -> Option<Refusal> {
        let is_control = topic::is_control(publish.topic);
        if topic::is_reserved(publish.topic) && !is_control
            || !self.may(settings, Action::Publish, publish.topic)
        {
            return Some(Refusal::NotAuthorized);
        }
        if publish.forwarded.has_more_user_properties_than(settings.user_properties_max) {
            return Some(Refusal::UserProperties);
        }
        if is_control {
            // Nothing of it is kept.
            return self.publishes_again(self.last_input).map(|_| Refusal::PublishRate);
        }
        let is_addition = publish.retain
            && !publish.payload.is_empty()
            && !settings.takes_retained
            && !out.is_retained(publish.topic);
        if !settings.takes_publishes {
            return Some(settings.shortage);
        }
        if is_addition {
            return Some(Refusal::Retained);
        }
        self.publishes_again(self.last_input).map(|_| Refusal::PublishRate)
    }

    /// When the client may publish again, if it may not at `now`: it was faster than
    /// [`Settings::publish_rate`]. What a client of MQTT 5 sends before is refused; of another, which
    /// cannot be told, it is to be left unread.
    #[must_use]
    pub fn publishes_again(&self, now: Timestamp) -> Option<Timestamp> {
        self.published.as_ref()?.full_until(now)
    }

    fn count_published(&mut self, publish: &Publish<'_>, settings: &Settings) {
        if settings.publish_rate.is_limited() {
            let bytes = publish.topic.len() + publish.payload.len();
            let published = self.published.get_or_insert_default();
            published.count(self.last_input, settings.publish_rate, bytes);
        }
    }

    fn refuse_publish(
        &mut self,
        publish: &Publish<'_>,
        refusal: Refusal,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        out.refused(Request::Publish, refusal);
        // QoS 0 and 3.1.1 know no refusal. The worker does not read a 3.1.1 client while the log
        // takes no messages, so only QoS 0 and messages read in the same turn come here.
        let reason = refusal.reason(Request::Publish);
        let Some(packet_id) = publish.packet_id else {
            if refusal == Refusal::PublishRate {
                self.fail(ReasonCode::MessageRateTooHigh, out);
            }
            return;
        };
        let (told, text) = refusal.told(Request::Publish, settings);
        let reason = match (self.version, reason) {
            (ProtocolVersion::V5, _) => told,
            // [MQTT311-3.3.5-2], and 3.1: what may not be published is acknowledged like any other
            // message, and goes nowhere: a client that is cut off comes back and sends it again.
            (_, ReasonCode::NotAuthorized) if self.receive.held.len() < HELD_MAX => {
                ReasonCode::Success
            }
            (_, reason) => return self.drop_connection(reason, out),
        };
        let mut ack = Ack::new(packet_id, reason);
        ack.reason_string = self.reason_string(text);
        self.acknowledge(publish.qos, ack, out);
    }

    /// Answers a message that becomes no event.
    fn acknowledge(&mut self, qos: QoS, ack: Ack<'static>, out: &mut impl Outputs) {
        let Receive { appended, committed, held, under_way, exactly_once } = &mut self.receive;
        if qos == QoS::ExactlyOnce && !ack.reason.is_error() {
            // The client will release it. It is counted apart while it waits.
            let is_held = committed < appended;
            let stage = if is_held { Stage::Appended } else { Stage::Committed };
            exactly_once.insert(ack.packet_id, Exchange { stage, is_resumed: true });
        }
        // [MQTT-4.6.0-2] [MQTT-4.6.0-3]: acknowledgements keep the order of the messages.
        if committed < appended {
            *under_way += 1;
            return held.push_back((*appended, qos, ack));
        }
        out.send(&answer(qos, ack));
    }
}

fn answer(qos: QoS, ack: Ack<'static>) -> Packet<'static> {
    match qos {
        QoS::ExactlyOnce => Packet::PubRec(ack),
        _ => Packet::PubAck(ack),
    }
}

fn check(publish: &Publish<'_>, settings: &Settings) -> Result<(), ReasonCode> {
    // [MQTT-3.3.4-6]: only a server sends subscription identifiers.
    if !publish.subscription_identifiers.is_empty() {
        return Err(ReasonCode::ProtocolError);
    }
    if topic::levels(publish.topic) > settings.topic_levels_max {
        return Err(ReasonCode::TopicNameInvalid);
    }
    Ok(())
}
