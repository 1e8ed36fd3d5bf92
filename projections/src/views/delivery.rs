//! How far deliveries to a session came.

use ledgermq_core::event::{DeliveryPhase, DeliveryRef, DropReason, Outstanding};
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::QoS;

use crate::views::Views;
use crate::views::dirty::Row;
use crate::views::sessions::Slot;

impl Views {
    pub(super) fn message_released(&mut self, slot: Slot, packet_ids: &[PacketId]) {
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        session.head.inbound.retain(|held| !packet_ids.contains(held));
        self.dirty.touch(Row::Session(slot));
    }

    /// An identifier that begins a delivery was free: whatever held it before is settled, even if
    /// the progress that says so is not logged yet. Kept, it would have the client release the new
    /// message, and take it for another one when it is sent again.
    pub(super) fn delivery_started(&mut self, slot: Slot, deliveries: &[(PacketId, DeliveryRef)]) {
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        let is_persistent = session.is_persistent();
        let outstanding = &mut session.head.outstanding;
        for &(packet_id, message) in deliveries {
            let is_bound = self.groups.start(slot, message, &mut self.dirty);
            if !is_persistent {
                continue;
            }
            // An identifier that is given out again was free: that its former message is settled
            // may not be logged yet.
            outstanding.retain(|held| held.message != message && held.packet_id != packet_id);
            // It may have been given up while this was on its way. There is nothing to send again
            // then; a later connection releases the identifier, which the client may hold.
            let phase = if is_bound || session.owed.get(message).is_some() {
                DeliveryPhase::Published
            } else {
                DeliveryPhase::Received
            };
            outstanding.push(Outstanding { message, packet_id, phase });
        }
        if is_persistent {
            self.dirty.touch(Row::Session(slot));
        }
    }

    /// What the client has received is no longer owed; only its identifier is still held.
    pub(super) fn delivery_received(&mut self, slot: Slot, packet_ids: &[PacketId]) {
        self.dirty.touch(Row::Session(slot));
        for message in self.receive_own(slot, packet_ids) {
            self.settle_shared(slot, message);
        }
    }

    /// Answers which of the messages are of groups.
    fn receive_own(&mut self, slot: Slot, packet_ids: &[PacketId]) -> Vec<DeliveryRef> {
        let mut shared = Vec::new();
        let touched = &mut self.dirty.owed(slot);
        let Some(session) = self.sessions.by_slot_mut(slot) else { return shared };
        for held in &mut session.head.outstanding {
            if packet_ids.contains(&held.packet_id) {
                held.phase = DeliveryPhase::Received;
                if held.message.group().is_some() {
                    shared.push(held.message);
                } else {
                    let count = session.owed.remove(held.message, held.message, |_| false, touched);
                    self.hints.settled(count);
                }
            }
        }
        shared
    }

    pub(super) fn delivery_progressed(
        &mut self,
        slot: Slot,
        upto: DeliveryRef,
        mut outstanding: Vec<Outstanding>,
    ) {
        self.dirty.touch(Row::Session(slot));
        let touched = &mut self.dirty.owed(slot);
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        if !session.is_persistent() {
            return;
        }
        // What was given up meanwhile is not sent again: a QoS 1 delivery is forgotten, of a QoS 2
        // delivery (whose start is logged) the identifier is released by a later connection.
        let before = &session.head.outstanding;
        let groups = &self.groups;
        outstanding.retain_mut(|held| {
            let is_owed = match held.message.group() {
                Some(_) => groups.held(slot, held.message).is_some(),
                None => session.owed.get(held.message).is_some(),
            };
            if held.phase == DeliveryPhase::Published && !is_owed {
                held.phase = DeliveryPhase::Received;
                return before.contains(held);
            }
            true
        });
        let unsettled = published(&outstanding);
        let first = DeliveryRef::default();
        let count = session.owed.remove_but(first, upto, &unsettled, touched);
        self.hints.settled(count);
        session.head.cursor = session.head.cursor.max(upto);
        session.head.outstanding = outstanding;
    }

    /// Messages were given up. What waits in the queue is: a delivery under way is spared, unless
    /// it is the very reason.
    pub(super) fn message_dropped(
        &mut self,
        slot: Slot,
        from: DeliveryRef,
        upto: DeliveryRef,
        reason: DropReason,
    ) {
        if from.group().is_some() {
            return self.shared_given_up(slot, from, reason);
        }
        self.dirty.touch(Row::Session(slot));
        let touched = &mut self.dirty.owed(slot);
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        let spared = match reason {
            DropReason::QueueFull | DropReason::Expired => published(&session.head.outstanding),
            DropReason::TooLarge | DropReason::Purged | DropReason::NotAuthorized => {
                let owed = &session.owed;
                session.head.outstanding.retain_mut(|held| {
                    let is_own = held.message.group().is_none();
                    let is_dropped = is_own && from <= held.message && held.message <= upto;
                    if held.phase == DeliveryPhase::Received || !is_dropped {
                        return true;
                    }
                    // The client may hold a QoS 2 message of an earlier connection: its identifier
                    // is released like one that was answered.
                    held.phase = DeliveryPhase::Received;
                    let entry = owed.get(held.message);
                    entry.is_some_and(|entry| entry.qos() == QoS::ExactlyOnce)
                });
                Vec::new()
            }
        };
        let count = session.owed.remove_but(from, upto, &spared, touched);
        self.hints.settled(count);
        self.counters.drop_messages(reason, count);
    }
}

/// The messages whose content may have to be sent again, ascending.
pub(super) fn published(outstanding: &[Outstanding]) -> Vec<DeliveryRef> {
    let is_published = |held: &&Outstanding| held.phase == DeliveryPhase::Published;
    let mut messages: Vec<_> =
        outstanding.iter().filter(is_published).map(|held| held.message).collect();
    messages.sort_unstable();
    messages.dedup();
    messages
}
