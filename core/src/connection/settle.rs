//! The client's answers to messages, and how far deliveries came.

use crate::connection::inflight::Step;
use crate::connection::{Connection, Outputs, State};
use crate::event::Event;
use crate::identity::PacketId;
use crate::packet::{Ack, Packet};
use crate::reason::ReasonCode;

impl Connection {
    /// A PUBACK, whatever its reason, settles the message. `[MQTT-4.4.0-2]`
    pub(super) fn on_puback(&mut self, packet_id: PacketId, out: &mut impl Outputs) {
        let Some(at) = self.deliver.position(packet_id) else {
            // A late answer to an identifier that is settled does no harm.
            return;
        };
        match self.deliver.entry(at).step {
            Step::AwaitingPubAck => self.settle(at),
            // The answer to what an earlier connection sent. The message is sent again all the
            // same, and answered again.
            Step::Resumed => {}
            Step::Starting
            | Step::Started
            | Step::AwaitingPubRec
            | Step::Receiving
            | Step::AwaitingPubComp => self.fail(ReasonCode::ProtocolError, out),
        }
    }

    pub(super) fn on_pubrec(
        &mut self,
        packet_id: PacketId,
        reason: ReasonCode,
        out: &mut impl Outputs,
    ) {
        let Some(at) = self.deliver.position(packet_id) else {
            // [MQTT-4.3.3-4]: an error ends the exchange, there is nothing to release.
            if !reason.is_error() {
                let answer = Ack::new(packet_id, ReasonCode::PacketIdentifierNotFound);
                out.send(&Packet::PubRel(answer));
            }
            return;
        };
        match self.deliver.entry(at).step {
            // [MQTT-4.3.3-4] [MQTT-4.4.0-2]
            Step::AwaitingPubRec if reason.is_error() => self.settle(at),
            Step::AwaitingPubRec => self.receive_or_release(at, out),
            Step::AwaitingPubComp => self.release(at, out),
            // PUBREL follows the commit; or see PUBACK.
            Step::Receiving | Step::Resumed => {}
            Step::Starting | Step::Started | Step::AwaitingPubAck => {
                self.fail(ReasonCode::ProtocolError, out);
            }
        }
    }

    /// The receipt of these QoS 2 messages is logged: sends PUBREL.
    pub fn on_received_committed(&mut self, packet_ids: &[PacketId], out: &mut impl Outputs) {
        if self.state != State::Open {
            return;
        }
        for packet_id in packet_ids {
            if let Some(at) = self.deliver.position(*packet_id)
                && self.deliver.entry(at).step == Step::Receiving
            {
                self.release(at, out);
            }
        }
    }

    pub(super) fn on_pubcomp(&mut self, packet_id: PacketId, out: &mut impl Outputs) {
        let Some(at) = self.deliver.position(packet_id) else { return };
        match self.deliver.entry(at).step {
            Step::AwaitingPubComp => self.settle(at),
            // See PUBACK.
            Step::Resumed => {}
            Step::Starting
            | Step::Started
            | Step::AwaitingPubAck
            | Step::AwaitingPubRec
            | Step::Receiving => self.fail(ReasonCode::ProtocolError, out),
        }
    }

    /// The client is done with a delivery. One of a group is settled when its receipt is told.
    fn settle(&mut self, at: usize) {
        if self.deliver.entry(at).step != Step::AwaitingPubComp {
            self.deliver.note_shared(at);
        }
        self.deliver.settle(at);
    }

    /// Number of deliveries settled since progress was last logged, as far as it is to be.
    #[must_use]
    pub fn unlogged_progress(&self) -> u32 {
        if self.is_persistent() { self.deliver.settled } else { self.unlogged_shared() }
    }

    /// Of these, messages of groups: until they are logged, the group counts them as under way.
    #[must_use]
    pub fn unlogged_shared(&self) -> u32 {
        u32::try_from(self.deliver.settled_shared.len()).unwrap_or(u32::MAX)
    }

    /// Logs how far deliveries came, if anything was handed over or settled since it was last
    /// logged.
    pub fn flush_progress(&mut self, out: &mut impl Outputs) {
        if self.state != State::Open {
            return;
        }
        // Before the progress: it no longer names what is settled here.
        if !self.deliver.settled_shared.is_empty() {
            let deliveries = std::mem::take(&mut self.deliver.settled_shared);
            out.append(Event::SharedSettled { deliveries });
        }
        if !self.is_persistent() || !self.deliver.is_unlogged {
            return;
        }
        self.deliver.settled = 0;
        self.deliver.is_unlogged = false;
        self.deliver.has_reusable = false;
        out.append(Event::DeliveryProgressed {
            upto: self.deliver.upto,
            outstanding: self.deliver.outstanding(),
        });
    }

    /// The client has the message: logs that first, if the session outlives the connection.
    pub(super) fn receive_or_release(&mut self, at: usize, out: &mut impl Outputs) {
        if !self.is_persistent() {
            self.deliver.note_shared(at);
            return self.release(at, out);
        }
        self.deliver.move_to(at, Step::Receiving);
        let packet_id = self.deliver.entry(at).packet_id;
        out.append(Event::DeliveryReceived { packet_ids: vec![packet_id] });
    }

    fn release(&mut self, at: usize, out: &mut impl Outputs) {
        self.deliver.move_to(at, Step::AwaitingPubComp);
        let packet_id = self.deliver.entry(at).packet_id;
        out.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
    }
}
