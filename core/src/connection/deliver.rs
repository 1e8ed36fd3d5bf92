//! Messages to the client: PUBLISH.

use std::borrow::Cow;

use crate::connection::aliases::Written;
use crate::connection::inflight::Step;
use crate::connection::{Connection, Outputs, State};
use crate::event::{DeliveryRef, Event};
use crate::identity::PacketId;
use crate::packet::{ForwardedProperties, Packet, Publish, QoS};

/// A message for this client.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Which one; its place in the order of the session.
    pub message: DeliveryRef,
    /// QoS of the delivery: the lower of the publisher's and the granted one.
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Topic Name.
    pub topic: &'a str,
    /// What is left of the Message Expiry Interval, in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Identifiers of the matching subscriptions.
    pub identifiers: &'a [u32],
    /// Encoded properties passed on.
    pub properties: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// What became of a [`Delivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// It was sent.
    Sent,
    /// Its identifier is being logged; deliver it again when [`Connection::on_started_committed`]
    /// was called for it.
    Starting(PacketId),
    /// It is larger than the client takes: not sent, and not to be sent. `[MQTT-3.1.2-24]`
    TooLarge,
}

impl Connection {
    /// Whether a QoS 1 or 2 delivery may begin: the client's Receive Maximum is not reached.
    /// `[MQTT-3.3.4-9]`
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.state == State::Open && self.deliver.has_room()
    }

    /// Whether `message`, of QoS 1 or 2, may be delivered now. One that was begun holds its
    /// identifier already, and one that was started its place, too.
    #[must_use]
    pub fn has_room_for(&self, message: DeliveryRef) -> bool {
        self.state == State::Open
            && match self.step_of(message) {
                Some(Step::Started) => true,
                Some(_) => self.deliver.has_place(),
                None => self.deliver.has_room(),
            }
    }

    /// Whether the client holds `message` from an earlier connection and answered a part of it,
    /// so that it is not sent again.
    #[must_use]
    pub fn is_under_way(&self, message: DeliveryRef) -> bool {
        self.deliver.is_answered(message)
    }

    /// Whether PUBLISH of `message` was, or may have been, sent on an earlier connection: it is
    /// sent again even if it expired meanwhile. `[MQTT-4.3.3-7]` `[MQTT-4.4.0-1]`
    #[must_use]
    pub fn is_resumed(&self, message: DeliveryRef) -> bool {
        self.step_of(message) == Some(Step::Resumed)
    }

    /// Whether the client may hold `message` though it was not sent on this connection, or the log
    /// has its identifier: it is bound to the session.
    #[must_use]
    pub fn is_begun(&self, message: DeliveryRef) -> bool {
        self.step_of(message).is_some()
    }

    /// The last message handed over, in the session's order; meaningful for persistent sessions.
    #[must_use]
    pub fn delivered_upto(&self) -> DeliveryRef {
        self.deliver.upto
    }

    /// Whether a PUBLISH of QoS 0 with so many bytes can be sent as it is: the client takes packets of
    /// that size, and its topics are written by their names. Nothing is to be noted here then.
    #[must_use]
    pub fn takes_unchanged(&self, packet_bytes: usize) -> bool {
        self.state == State::Open
            && self.aliases.as_ref().is_none_or(|aliases| !aliases.writes_aliases())
            && (self.packet_bytes_max == u32::MAX || packet_bytes <= self.packet_bytes_max as usize)
    }

    /// Sends a message, or begins to. A QoS above 0 needs [`Connection::has_room_for`] it.
    pub fn deliver(&mut self, delivery: &Delivery<'_>, out: &mut impl Outputs) -> Handed {
        if self.is_too_large(delivery) {
            return Handed::TooLarge;
        }
        if delivery.qos == QoS::AtMostOnce {
            self.send(delivery, None, false, out);
            return Handed::Sent;
        }
        if let Some(at) = self.deliver.waiting(delivery.message) {
            self.deliver.note_handed(delivery.message);
            let entry = self.deliver.entry(at);
            self.deliver.move_to(at, Step::after_publish(delivery.qos));
            // [MQTT-3.3.1-1]
            self.send(delivery, Some(entry.packet_id), entry.step == Step::Resumed, out);
            return Handed::Sent;
        }
        let is_shared = delivery.message.group().is_some();
        // A message of a group is never sent to two members: the log says first who has it.
        let is_logged_first =
            delivery.qos == QoS::ExactlyOnce && (is_shared || self.is_persistent());
        if is_logged_first && self.deliver.has_reusable {
            // Else the log would hold one identifier for two messages.
            self.flush_progress(out);
        }
        self.deliver.note_handed(delivery.message);
        if is_logged_first {
            let packet_id = self.deliver.begin(delivery.message, Step::Starting);
            out.append(Event::DeliveryStarted { deliveries: vec![(packet_id, delivery.message)] });
            return Handed::Starting(packet_id);
        }
        let packet_id = self.deliver.begin(delivery.message, Step::after_publish(delivery.qos));
        self.send(delivery, Some(packet_id), false, out);
        Handed::Sent
    }

    /// The identifier of this QoS 2 delivery is logged: it may be handed to
    /// [`Connection::deliver`] again, which sends it.
    pub fn on_started_committed(&mut self, packet_id: PacketId) {
        if let Some(at) = self.deliver.position(packet_id)
            && self.deliver.entry(at).step == Step::Starting
        {
            self.deliver.move_to(at, Step::Started);
        }
    }

    /// A message of this session, of QoS 1 or 2, cannot be sent any more (it expired, is too large
    /// or gone): settles it. `[MQTT-3.1.2-25]`
    ///
    /// One of QoS 2 that an earlier connection may have sent may stand half received at the
    /// client: its identifier is released before another message gets it.
    pub fn skip(&mut self, message: DeliveryRef, qos: QoS, out: &mut impl Outputs) {
        self.deliver.note_handed(message);
        let Some(at) = self.deliver.waiting(message) else {
            // The event that gave it up settles a message of a group.
            if message.group().is_none() {
                self.deliver.note_settled();
            }
            return;
        };
        if self.deliver.entry(at).step == Step::Resumed && qos == QoS::ExactlyOnce {
            self.receive_or_release(at, out);
        } else {
            self.deliver.settle(at);
        }
    }

    /// All that the session was owed when it was resumed was handed over: what still waits to be
    /// sent again is owed no more. Its identifier is released, as the client may hold it.
    ///
    /// Messages of groups are not meant: those that wait to be sent again were named one by one
    /// when the session was resumed.
    pub fn on_caught_up(&mut self, out: &mut impl Outputs) {
        while let Some(at) = self.deliver.unsent() {
            self.receive_or_release(at, out);
        }
    }

    /// Step of a message that waits for its PUBLISH on this connection.
    fn step_of(&self, message: DeliveryRef) -> Option<Step> {
        self.deliver.waiting(message).map(|at| self.deliver.entry(at).step)
    }

    fn send(
        &mut self,
        delivery: &Delivery<'_>,
        packet_id: Option<PacketId>,
        dup: bool,
        out: &mut impl Outputs,
    ) {
        let mut publish = publish(delivery, packet_id, dup);
        // A new alias is three bytes more, which a client may not take.
        let may_give = self.is_surely_taken(delivery);
        let written = self.aliases.as_mut().map(|aliases| aliases.write(delivery.topic, may_give));
        match written.unwrap_or(Written::Name) {
            Written::Name => {}
            Written::NameFor(alias) => publish.topic_alias = Some(alias),
            Written::Alias(alias) => (publish.topic, publish.topic_alias) = ("", Some(alias)),
        }
        out.send(&Packet::Publish(publish));
    }

    /// Whether the client takes the delivery by an estimate of its length from above.
    fn is_surely_taken(&self, delivery: &Delivery<'_>) -> bool {
        if self.packet_bytes_max == u32::MAX {
            return true;
        }
        let fixed = 5 + 2 + 2 + 4 + 5 + 3 + delivery.identifiers.len() * 5;
        let parts = delivery.topic.len() + delivery.properties.len() + delivery.payload.len();
        fixed + parts <= self.packet_bytes_max as usize
    }

    /// Only a message near the limit is encoded to be sure.
    fn is_too_large(&self, delivery: &Delivery<'_>) -> bool {
        if self.is_surely_taken(delivery) {
            return false;
        }
        let packet_id = (delivery.qos != QoS::AtMostOnce).then_some(PacketId::MIN);
        !self.is_taken(&Packet::Publish(publish(delivery, packet_id, false)))
    }
}

fn publish<'a>(delivery: &Delivery<'a>, packet_id: Option<PacketId>, dup: bool) -> Publish<'a> {
    Publish {
        dup,
        qos: delivery.qos,
        retain: delivery.retain,
        topic: delivery.topic,
        packet_id,
        message_expiry_interval: delivery.message_expiry_interval,
        topic_alias: None,
        subscription_identifiers: delivery.identifiers.to_vec(),
        forwarded: ForwardedProperties(Cow::Borrowed(delivery.properties)),
        payload: delivery.payload,
    }
}
