//! How far deliveries to a session came.

use ledgermq_core::event::{DeliveryPhase, DeliveryRef, DropReason, Outstanding};
use ledgermq_core::identity::PacketId;

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
        if !session.is_persistent() {
            return;
        }
        let outstanding = &mut session.head.outstanding;
        for &(packet_id, message) in deliveries {
            outstanding.retain(|held| held.message != message && held.packet_id != packet_id);
            let phase = DeliveryPhase::Published;
            outstanding.push(Outstanding { message, packet_id, phase });
        }
        self.dirty.touch(Row::Session(slot));
    }

    /// What the client has received is no longer owed; only its identifier is still held.
    pub(super) fn delivery_received(&mut self, slot: Slot, packet_ids: &[PacketId]) {
        self.dirty.touch(Row::Session(slot));
        let touched = &mut self.dirty.owed(slot);
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        for held in &mut session.head.outstanding {
            if packet_ids.contains(&held.packet_id) {
                held.phase = DeliveryPhase::Received;
                session.owed.remove(held.message, held.message, |_| false, touched);
            }
        }
    }

    pub(super) fn delivery_progressed(
        &mut self,
        slot: Slot,
        upto: DeliveryRef,
        outstanding: Vec<Outstanding>,
    ) {
        self.dirty.touch(Row::Session(slot));
        let touched = &mut self.dirty.owed(slot);
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        if !session.is_persistent() {
            return;
        }
        let unsettled = published(&outstanding);
        session.owed.remove(
            DeliveryRef::default(),
            upto,
            |message| unsettled.binary_search(&message).is_ok(),
            touched,
        );
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
        self.dirty.touch(Row::Session(slot));
        let touched = &mut self.dirty.owed(slot);
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        let spared = match reason {
            DropReason::QueueFull | DropReason::Expired => published(&session.head.outstanding),
            DropReason::TooLarge | DropReason::Purged => {
                session.head.outstanding.retain(|held| {
                    let is_dropped = from <= held.message && held.message <= upto;
                    held.phase == DeliveryPhase::Received || !is_dropped
                });
                Vec::new()
            }
        };
        let keeps = |message: DeliveryRef| spared.binary_search(&message).is_ok();
        let count = session.owed.remove(from, upto, keeps, touched);
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
