//! Nodes start, or are lost: their connections go with the process.

use ledgermq_core::reason::ReasonCode;

use crate::views::Views;
use crate::views::dirty::Row;
use crate::views::fold::Place;
use crate::views::sessions::Slot;

impl Views {
    /// A process of the node started: the connections of earlier ones are gone.
    pub(super) fn node_started(&mut self, place: &Place, node: u64, start: u64) {
        self.counters.node_starts += 1;
        self.nodes.insert(node, start);
        self.dirty.touch(Row::Node(node));
        self.connections_lost(place, node, |of| of != start);
    }

    /// The others gave the process up that has this number, and with it earlier ones. What a later
    /// one holds stays: it is not the one that was lost.
    pub(super) fn node_lost(&mut self, place: &Place, node: u64, start: u64) {
        self.connections_lost(place, node, |of| of <= start);
    }

    /// Ends the connections to a node that a process of an `is_gone` start held, as if each had
    /// broken: their wills are armed.
    fn connections_lost(&mut self, place: &Place, node: u64, is_gone: impl Fn(u64) -> bool) {
        let lost: Vec<(Slot, u32)> = self
            .sessions
            .slots()
            .filter(|(_, session)| session.presence().is_online() && session.node() == node)
            .filter(|(_, session)| is_gone(session.head.producer.start))
            .map(|(slot, session)| (slot, session.session_expiry_interval()))
            .collect();
        for (slot, interval) in lost {
            self.session_closed(place, slot, ReasonCode::ServerUnavailable, true, interval);
        }
    }
}
