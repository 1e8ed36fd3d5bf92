//! Messages of one publisher that are not acknowledged.

use ledgermq_core::identity::PacketId;

use super::clock::Instant;

/// Packet Identifiers in use, each with the instant at which its message was due.
pub(super) struct Window {
    due: Vec<Option<Instant>>,
    free: Vec<u16>,
}

impl Window {
    /// A window of at most `size` messages.
    pub(super) fn new(size: u16) -> Self {
        Self { due: vec![None; usize::from(size)], free: (1..=size).rev().collect() }
    }

    /// Makes it smaller, before it is used: the broker's Receive Maximum.
    pub(super) fn limit(&mut self, size: u16) {
        if usize::from(size) < self.due.len() {
            *self = Self::new(size);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.due.len()
    }

    /// An identifier for the message that was due at that instant; `None` if it is full.
    pub(super) fn take(&mut self, at: Instant) -> Option<PacketId> {
        let id = self.free.pop()?;
        self.due[usize::from(id) - 1] = Some(at);
        PacketId::new(id)
    }

    /// Settles a message and says when it was due; `None` if there is none of that identifier.
    pub(super) fn settle(&mut self, id: PacketId) -> Option<Instant> {
        let at = self.due.get_mut(usize::from(id.get()) - 1)?.take()?;
        self.free.push(id.get());
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_in_use_until_it_is_settled() {
        let mut window = Window::new(2);
        let first = window.take(Instant(5)).expect("room");
        let second = window.take(Instant(6)).expect("room");
        assert!(first != second && window.is_full());
        assert_eq!(window.take(Instant(7)), None);
        assert_eq!(window.settle(first), Some(Instant(5)));
        assert_eq!(window.settle(first), None, "settled before");
        assert!(!window.is_full() && !window.is_empty());
        assert_eq!(window.settle(PacketId::MAX), None, "beyond the window");
        window.settle(second);
        assert!(window.is_empty());
    }
}
