//! The Packet Identifiers of one direction that are in use.

/// A set of the numbers 1 to 65,535; without memory until the first is used.
#[derive(Default)]
pub(super) struct PacketIds {
    bits: Vec<u64>,
    used: u16,
    last: u16,
}

impl PacketIds {
    /// Takes a free one, `None` if all are in use.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u16> {
        if self.used == u16::MAX {
            return None;
        }
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.insert(self.last) {
                return Some(self.last);
            }
        }
    }

    /// Adds `id`; `false` if it was in use.
    #[inline]
    pub(super) fn insert(&mut self, id: u16) -> bool {
        if self.bits.is_empty() {
            self.bits = vec![0; 1024];
        }
        let (word, bit) = place(id);
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.used += u16::from(is_new);
        is_new
    }

    /// Whether `id` is in use.
    pub(super) fn contains(&self, id: u16) -> bool {
        let (word, bit) = place(id);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Takes `id` out; `false` if it was not in use.
    #[inline]
    pub(super) fn remove(&mut self, id: u16) -> bool {
        if !self.contains(id) {
            return false;
        }
        let (word, bit) = place(id);
        self.bits[word] &= !bit;
        self.used -= 1;
        true
    }
}

#[inline]
fn place(id: u16) -> (usize, u64) {
    (usize::from(id >> 6), 1 << (id & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identifier_is_given_once_until_it_comes_back() {
        let mut ids = PacketIds::default();
        for id in 1..=u16::MAX {
            assert_eq!(ids.take(), Some(id));
        }
        assert_eq!(ids.take(), None);
        assert!(ids.remove(7) && !ids.remove(7));
        assert_eq!(ids.take(), Some(7));
    }
}
