//! Messages to the client: PUBLISH, its acknowledgements, and how far they came.

use std::collections::VecDeque;

use crate::connection::{Connection, Outputs, Resumed, State};
use crate::event::{DeliveryPhase, DeliveryRef, Event, Outstanding};
use crate::identity::PacketId;
use crate::packet::{Ack, ForwardedProperties, Packet, Publish, QoS};
use crate::reason::ReasonCode;

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

/// State of the messages under way to the client.
#[derive(Debug)]
pub(super) struct Deliver {
    window: u16,
    /// Identifier given out last.
    last_id: u16,
    /// Identifiers given out on this connection.
    given: u64,
    /// Entries that an earlier connection gave their identifier.
    resumed: usize,
    /// Entries in [`Step::Resumed`].
    unsent: usize,
    /// Entries in [`Step::Started`].
    started: usize,
    /// QoS 1 and 2 deliveries that hold a place in the window, oldest first.
    inflight: VecDeque<Inflight>,
    /// The last message handed over, in the session's order.
    upto: DeliveryRef,
    /// Settled since progress was last logged.
    settled: u32,
}

#[derive(Clone, Copy, Debug)]
struct Inflight {
    packet_id: PacketId,
    step: Step,
    is_resumed: bool,
    given: u64,
    message: DeliveryRef,
}

/// Steps of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Begun on an earlier connection, not yet sent on this one.
    Resumed,
    /// QoS 2 to a persistent session: `DeliveryStarted` is on its way.
    Starting,
    /// `DeliveryStarted` is committed, PUBLISH not yet sent.
    Started,
    /// QoS 1, waiting for PUBACK.
    AwaitingPubAck,
    /// QoS 2, waiting for PUBREC.
    AwaitingPubRec,
    /// `DeliveryReceived` is on its way.
    Receiving,
    /// PUBREL sent, waiting for PUBCOMP.
    AwaitingPubComp,
}

impl Default for Deliver {
    fn default() -> Self {
        Self {
            window: u16::MAX,
            last_id: 0,
            given: 0,
            resumed: 0,
            unsent: 0,
            started: 0,
            inflight: VecDeque::new(),
            upto: DeliveryRef::default(),
            settled: 0,
        }
    }
}

impl Deliver {
    pub(super) fn set_window(&mut self, window: u16) {
        self.window = window;
    }

    pub(super) fn resume(&mut self, resumed: &Resumed, out: &mut impl Outputs) {
        self.upto = resumed.cursor;
        for entry in &resumed.outstanding {
            let step = match entry.phase {
                DeliveryPhase::Published => Step::Resumed,
                DeliveryPhase::Received => Step::AwaitingPubComp,
            };
            if step == Step::AwaitingPubComp {
                out.send(&Packet::PubRel(Ack::new(entry.packet_id, ReasonCode::Success)));
            } else {
                self.unsent += 1;
            }
            self.inflight.push_back(Inflight {
                packet_id: entry.packet_id,
                step,
                is_resumed: true,
                given: 0,
                message: entry.message,
            });
            self.resumed += 1;
        }
    }

    fn has_room(&self) -> bool {
        self.inflight.len() < usize::from(self.window)
    }

    fn has_room_again(&self) -> bool {
        self.inflight.len() - self.unsent < usize::from(self.window)
    }

    fn move_to(&mut self, at: usize, step: Step) {
        let entry = &mut self.inflight[at];
        self.unsent -= usize::from(entry.step == Step::Resumed);
        self.started -= usize::from(entry.step == Step::Started);
        self.started += usize::from(step == Step::Started);
        entry.step = step;
    }

    /// The next free identifier. There is one: the window is smaller than their number.
    fn next_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.last_id).expect("it starts again at 1");
            // Identifiers go round: only an entry that is 65,534 or more behind, or one of an
            // earlier connection, can hold this one.
            let oldest = self.inflight.front().map_or(self.given, |entry| entry.given);
            let may_collide = self.resumed > 0 || self.given - oldest >= 65_534;
            if !may_collide || self.inflight.iter().all(|entry| entry.packet_id != id) {
                self.given += 1;
                return id;
            }
        }
    }

    fn position(&self, packet_id: PacketId) -> Option<usize> {
        self.inflight.iter().position(|entry| entry.packet_id == packet_id)
    }

    fn settle(&mut self, at: usize) {
        let entry = self.inflight.remove(at).expect("the position was just found");
        self.unsent -= usize::from(entry.step == Step::Resumed);
        self.started -= usize::from(entry.step == Step::Started);
        self.resumed -= usize::from(entry.is_resumed);
        self.settled += 1;
        if self.inflight.is_empty() && self.inflight.capacity() > 64 {
            self.inflight = VecDeque::new();
        }
    }
}

impl Connection {
    /// Whether a QoS 1 or 2 delivery may begin: the client's Receive Maximum is not reached.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.state == State::Open && self.deliver.has_room()
    }

    /// Whether `message`, of QoS 1 or 2, may be delivered now. One that holds an identifier from
    /// an earlier connection needs no new place in the window.
    #[must_use]
    pub fn has_room_for(&self, message: DeliveryRef) -> bool {
        self.state == State::Open
            && match self.known(message).map(|at| self.deliver.inflight[at].step) {
                // It holds its place already.
                Some(Step::Started) => true,
                Some(_) => self.deliver.has_room_again(),
                None => self.deliver.has_room(),
            }
    }

    /// Whether the client holds `message` from an earlier connection and answered a part of it,
    /// so that it is not sent again.
    #[must_use]
    pub fn is_under_way(&self, message: DeliveryRef) -> bool {
        self.deliver.resumed > 0
            && self.deliver.inflight.iter().any(|entry| {
                entry.message == message && !matches!(entry.step, Step::Resumed | Step::Started)
            })
    }

    /// The last message handed over, in the session's order; meaningful for persistent sessions.
    #[must_use]
    pub fn delivered_upto(&self) -> DeliveryRef {
        self.deliver.upto
    }

    /// Sends a message, or begins to. A QoS above 0 needs [`Connection::has_room_for`] it.
    pub fn deliver(&mut self, delivery: &Delivery<'_>, out: &mut impl Outputs) -> Handed {
        if self.is_too_large(delivery) {
            self.deliver.upto = self.deliver.upto.max(delivery.message);
            return Handed::TooLarge;
        }
        if delivery.qos == QoS::AtMostOnce {
            send(delivery, None, false, out);
            return Handed::Sent;
        }
        let known = self.known(delivery.message);
        self.deliver.upto = self.deliver.upto.max(delivery.message);
        if let Some(at) = known {
            let Inflight { packet_id, step, .. } = self.deliver.inflight[at];
            let is_again = step == Step::Resumed;
            self.deliver.move_to(at, awaiting(delivery.qos));
            send(delivery, Some(packet_id), is_again, out);
            return Handed::Sent;
        }
        let packet_id = self.deliver.next_id();
        let is_logged_first = delivery.qos == QoS::ExactlyOnce && self.is_persistent();
        self.deliver.inflight.push_back(Inflight {
            packet_id,
            step: if is_logged_first { Step::Starting } else { awaiting(delivery.qos) },
            is_resumed: false,
            given: self.deliver.given,
            message: delivery.message,
        });
        if is_logged_first {
            out.append(Event::DeliveryStarted { deliveries: vec![(packet_id, delivery.message)] });
            return Handed::Starting(packet_id);
        }
        send(delivery, Some(packet_id), false, out);
        Handed::Sent
    }

    /// The identifier of this QoS 2 delivery is logged: it may be handed to
    /// [`Connection::deliver`] again, which sends it.
    pub fn on_started_committed(&mut self, packet_id: PacketId) {
        if let Some(at) = self.deliver.position(packet_id)
            && self.deliver.inflight[at].step == Step::Starting
        {
            self.deliver.move_to(at, Step::Started);
        }
    }

    /// A message of this session cannot be sent any more (it expired, or is gone): settles it.
    pub fn skip(&mut self, message: DeliveryRef) {
        self.deliver.upto = self.deliver.upto.max(message);
        if let Some(at) = self.known(message) {
            self.deliver.settle(at);
        } else {
            self.deliver.settled += 1;
        }
    }

    pub(super) fn on_puback(&mut self, packet_id: PacketId, out: &mut impl Outputs) {
        match self.deliver.position(packet_id) {
            Some(at) if self.deliver.inflight[at].step == Step::AwaitingPubAck => {
                self.deliver.settle(at);
            }
            // A late answer to an identifier that is settled does no harm.
            None => {}
            Some(_) => self.fail(ReasonCode::ProtocolError, out),
        }
    }

    pub(super) fn on_pubrec(
        &mut self,
        packet_id: PacketId,
        reason: ReasonCode,
        out: &mut impl Outputs,
    ) {
        let is_persistent = self.is_persistent();
        let Some(at) = self.deliver.position(packet_id) else {
            let answer = Ack::new(packet_id, ReasonCode::PacketIdentifierNotFound);
            return out.send(&Packet::PubRel(answer));
        };
        match self.deliver.inflight[at].step {
            // [MQTT-4.3.3-3]: an error ends the exchange.
            Step::AwaitingPubRec if reason.is_error() => self.deliver.settle(at),
            Step::AwaitingPubRec if is_persistent => {
                self.deliver.inflight[at].step = Step::Receiving;
                out.append(Event::DeliveryReceived { packet_ids: vec![packet_id] });
            }
            Step::AwaitingPubRec => self.release(at, out),
            Step::AwaitingPubComp => {
                out.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
            }
            Step::Receiving => {}
            Step::Resumed | Step::Starting | Step::Started | Step::AwaitingPubAck => {
                self.fail(ReasonCode::ProtocolError, out);
            }
        }
    }

    /// The receipt of these QoS 2 messages is logged: sends PUBREL.
    pub fn on_received_committed(&mut self, packet_ids: &[PacketId], out: &mut impl Outputs) {
        for packet_id in packet_ids {
            if let Some(at) = self.deliver.position(*packet_id) {
                self.release(at, out);
            }
        }
    }

    pub(super) fn on_pubcomp(&mut self, packet_id: PacketId) {
        if let Some(at) = self.deliver.position(packet_id)
            && self.deliver.inflight[at].step == Step::AwaitingPubComp
        {
            self.deliver.settle(at);
        }
    }

    /// Number of deliveries settled since progress was last logged.
    #[must_use]
    pub fn unlogged_progress(&self) -> u32 {
        if self.is_persistent() { self.deliver.settled } else { 0 }
    }

    /// Logs how far deliveries came, if anything was settled since it was last logged.
    pub fn flush_progress(&mut self, out: &mut impl Outputs) {
        if !self.is_persistent() || self.deliver.upto == DeliveryRef::default() {
            return;
        }
        self.deliver.settled = 0;
        let outstanding = self.deliver.inflight.iter().map(|entry| Outstanding {
            message: entry.message,
            packet_id: entry.packet_id,
            phase: match entry.step {
                Step::Receiving | Step::AwaitingPubComp => DeliveryPhase::Received,
                _ => DeliveryPhase::Published,
            },
        });
        let outstanding = outstanding.collect();
        out.append(Event::DeliveryProgressed { upto: self.deliver.upto, outstanding });
    }

    fn release(&mut self, at: usize, out: &mut impl Outputs) {
        let entry = &mut self.deliver.inflight[at];
        entry.step = Step::AwaitingPubComp;
        out.send(&Packet::PubRel(Ack::new(entry.packet_id, ReasonCode::Success)));
    }

    /// Place of a message that holds an identifier but was not sent on this connection.
    fn known(&self, message: DeliveryRef) -> Option<usize> {
        if self.deliver.unsent + self.deliver.started == 0 {
            return None;
        }
        self.deliver.inflight.iter().position(|entry| {
            entry.message == message && matches!(entry.step, Step::Resumed | Step::Started)
        })
    }

    /// The length is estimated from above; only a message near the limit is encoded to be sure.
    fn is_too_large(&self, delivery: &Delivery<'_>) -> bool {
        if self.packet_bytes_max == u32::MAX {
            return false;
        }
        let fixed = 5 + 2 + 2 + 4 + 5 + delivery.identifiers.len() * 5;
        let parts = delivery.topic.len() + delivery.properties.len() + delivery.payload.len();
        let max = self.packet_bytes_max as usize;
        if fixed + parts <= max {
            return false;
        }
        let packet = Packet::Publish(publish(delivery, PacketId::new(1), false));
        let mut bytes = Vec::new();
        crate::codec::encode(&packet, self.version, &mut bytes).is_err() || bytes.len() > max
    }
}

fn awaiting(qos: QoS) -> Step {
    if qos == QoS::ExactlyOnce { Step::AwaitingPubRec } else { Step::AwaitingPubAck }
}

fn send(delivery: &Delivery<'_>, packet_id: Option<PacketId>, dup: bool, out: &mut impl Outputs) {
    out.send(&Packet::Publish(publish(delivery, packet_id, dup)));
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
        forwarded: ForwardedProperties(std::borrow::Cow::Borrowed(delivery.properties)),
        payload: delivery.payload,
    }
}
