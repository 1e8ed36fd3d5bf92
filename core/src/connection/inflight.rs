//! The window of messages under way to the client: identifiers, steps, how far they came.

use std::collections::VecDeque;

use crate::connection::{Outputs, Resumed};
use crate::event::{DeliveryPhase, DeliveryRef, Outstanding};
use crate::identity::PacketId;
use crate::packet::{Ack, Packet, QoS};
use crate::reason::ReasonCode;

/// Number of Packet Identifiers.
const IDS: usize = 65_535;
/// Entries for which the memory of an emptied window is kept.
const KEPT_ENTRIES: usize = 64;

/// State of the messages under way to the client.
#[derive(Debug)]
pub(super) struct Deliver {
    window: u16,
    /// Identifier given out last.
    last_id: u16,
    /// Identifiers passed on this connection, given out or jumped over.
    passed: u64,
    /// Entries that an earlier connection gave their identifier.
    resumed: usize,
    /// Entries in [`Step::Resumed`].
    unsent: usize,
    /// Entries in [`Step::Started`].
    started: usize,
    /// QoS 1 and 2 deliveries that hold an identifier, oldest first.
    inflight: VecDeque<Inflight>,
    /// The last message handed over, in the session's order.
    pub(super) upto: DeliveryRef,
    /// Settled since progress was last logged.
    pub(super) settled: u32,
    /// Of these, the messages of groups, whose settlement is logged for itself.
    pub(super) settled_shared: Vec<DeliveryRef>,
    /// Whether anything was handed over or settled since progress was last logged.
    pub(super) is_unlogged: bool,
    /// Whether an identifier is free again that the log still holds for its last message: one of
    /// an earlier connection. (Our own come round only after many logged settlements.)
    pub(super) has_reusable: bool,
}

/// One delivery that holds an identifier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inflight {
    pub(super) packet_id: PacketId,
    pub(super) step: Step,
    is_resumed: bool,
    /// [`Deliver::passed`] when it got its identifier.
    passed: u64,
    pub(super) message: DeliveryRef,
}

/// Steps of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
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

impl Step {
    /// What comes after a PUBLISH of `qos`.
    pub(super) fn after_publish(qos: QoS) -> Self {
        if qos == QoS::ExactlyOnce { Self::AwaitingPubRec } else { Self::AwaitingPubAck }
    }

    /// Whether the message holds an identifier, but no PUBLISH was sent on this connection.
    pub(super) fn is_before_publish(self) -> bool {
        matches!(self, Self::Resumed | Self::Started)
    }
}

impl Default for Deliver {
    fn default() -> Self {
        Self {
            window: u16::MAX,
            last_id: 0,
            passed: 0,
            resumed: 0,
            unsent: 0,
            started: 0,
            inflight: VecDeque::new(),
            upto: DeliveryRef::default(),
            settled: 0,
            settled_shared: Vec::new(),
            is_unlogged: false,
            has_reusable: false,
        }
    }
}

impl Deliver {
    pub(super) fn set_window(&mut self, window: u16) {
        self.window = window;
    }

    /// Takes up what an earlier connection began. `[MQTT-4.4.0-1]`
    pub(super) fn resume(&mut self, resumed: &Resumed, out: &mut impl Outputs) {
        self.upto = resumed.cursor;
        for entry in &resumed.outstanding {
            let step = match entry.phase {
                DeliveryPhase::Published => Step::Resumed,
                DeliveryPhase::Received => Step::AwaitingPubComp,
            };
            if step == Step::AwaitingPubComp {
                out.send(&Packet::PubRel(Ack::new(entry.packet_id, ReasonCode::Success)));
            }
            self.unsent += usize::from(step == Step::Resumed);
            self.resumed += 1;
            self.inflight.push_back(Inflight {
                packet_id: entry.packet_id,
                step,
                is_resumed: true,
                passed: 0,
                message: entry.message,
            });
        }
    }

    /// Whether the client takes one more PUBLISH. What waits to be sent again takes no place until
    /// it is: a message that comes before it in the session's order would wait for ever.
    pub(super) fn has_place(&self) -> bool {
        self.inflight.len() - self.unsent < usize::from(self.window)
    }

    /// Whether a new message may be begun: there is a place and an identifier for it.
    pub(super) fn has_room(&self) -> bool {
        self.has_place() && self.inflight.len() < IDS
    }

    /// Gives a new delivery its identifier and its place.
    pub(super) fn begin(&mut self, message: DeliveryRef, step: Step) -> PacketId {
        let packet_id = self.next_id();
        let passed = self.passed;
        self.inflight.push_back(Inflight { packet_id, step, is_resumed: false, passed, message });
        packet_id
    }

    /// The next free identifier. There is one, since there is room.
    fn next_id(&mut self) -> PacketId {
        debug_assert!(self.inflight.len() < IDS, "there is room for one more identifier");
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            self.passed += 1;
            let id = PacketId::new(self.last_id).expect("it starts again at 1");
            // Identifiers go round: only an entry of a whole round ago, or one of an earlier
            // connection, can hold this one.
            let oldest = self.inflight.front().map_or(self.passed, |entry| entry.passed);
            let may_collide = self.resumed > 0 || self.passed - oldest >= IDS as u64;
            if !may_collide || self.inflight.iter().all(|entry| entry.packet_id != id) {
                return id;
            }
        }
    }

    pub(super) fn entry(&self, at: usize) -> Inflight {
        self.inflight[at]
    }

    pub(super) fn move_to(&mut self, at: usize, step: Step) {
        let before = std::mem::replace(&mut self.inflight[at].step, step);
        self.unsent -= usize::from(before == Step::Resumed);
        self.started -= usize::from(before == Step::Started);
        self.started += usize::from(step == Step::Started);
    }

    pub(super) fn position(&self, packet_id: PacketId) -> Option<usize> {
        self.inflight.iter().position(|entry| entry.packet_id == packet_id)
    }

    /// Place of a message that holds an identifier but was not sent on this connection.
    pub(super) fn waiting(&self, message: DeliveryRef) -> Option<usize> {
        if self.unsent + self.started == 0 {
            return None;
        }
        self.inflight
            .iter()
            .position(|entry| entry.message == message && entry.step.is_before_publish())
    }

    /// Whether an earlier connection began the delivery of `message`, and this one need not send
    /// it again.
    pub(super) fn is_answered(&self, message: DeliveryRef) -> bool {
        let is_meant = |entry: &Inflight| entry.message == message;
        self.resumed > 0
            && self.inflight.iter().any(|entry| is_meant(entry) && !entry.step.is_before_publish())
    }

    pub(super) fn settle(&mut self, at: usize) {
        let entry = self.inflight.remove(at).expect("the position was just found");
        self.unsent -= usize::from(entry.step == Step::Resumed);
        self.started -= usize::from(entry.step == Step::Started);
        self.resumed -= usize::from(entry.is_resumed);
        self.has_reusable |= entry.is_resumed;
        self.note_settled();
        if self.inflight.is_empty() && self.inflight.capacity() > KEPT_ENTRIES {
            self.inflight = VecDeque::new();
        }
    }

    pub(super) fn note_settled(&mut self) {
        self.settled = self.settled.saturating_add(1);
        self.is_unlogged = true;
    }

    /// The client has the message at this place; if it is one of a group, that is to be logged.
    pub(super) fn note_shared(&mut self, at: usize) {
        let message = self.inflight[at].message;
        if message.group().is_some() {
            self.settled_shared.push(message);
        }
    }

    /// Place of the first of the session's own that is still to be sent again.
    pub(super) fn unsent(&self) -> Option<usize> {
        let is_unsent =
            |entry: &Inflight| entry.step == Step::Resumed && entry.message.group().is_none();
        (self.unsent > 0).then(|| self.inflight.iter().position(is_unsent)).flatten()
    }

    /// Messages of groups have no place in the session's order.
    pub(super) fn note_handed(&mut self, message: DeliveryRef) {
        if message.group().is_none() {
            self.upto = self.upto.max(message);
        }
        self.is_unlogged = true;
    }

    pub(super) fn outstanding(&self) -> Vec<Outstanding> {
        let outstanding = self.inflight.iter().map(|entry| Outstanding {
            message: entry.message,
            packet_id: entry.packet_id,
            phase: match entry.step {
                Step::Receiving | Step::AwaitingPubComp => DeliveryPhase::Received,
                Step::Resumed
                | Step::Starting
                | Step::Started
                | Step::AwaitingPubAck
                | Step::AwaitingPubRec => DeliveryPhase::Published,
            },
        });
        outstanding.collect()
    }
}
