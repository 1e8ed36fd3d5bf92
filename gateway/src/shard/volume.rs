//! What the node's limits of sessions and retained messages count.
//!
//! The limits are kept by what the views hold, which is a moment behind. What this shard has given
//! to the log and the views do not show yet is charged as well, so that a flood does not pass them by
//! all that is under way.

use std::collections::VecDeque;

use ledgermq_core::event::{MessagePublished, SessionOpened};
use ledgermq_core::offset::Index;

/// Sessions that outlive their connections, and retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Sessions that outlive their connections.
    pub sessions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Bytes of their topics, properties and payloads.
    pub retained_bytes: u64,
}

impl Volume {
    /// Room without end.
    pub const MAX: Self =
        Self { sessions: u64::MAX, retained_messages: u64::MAX, retained_bytes: u64::MAX };

    /// What `message` may add; one that replaces another adds less.
    pub(crate) fn of_message(message: &MessagePublished<'_>) -> Self {
        if !message.retain || message.payload.is_empty() {
            return Self::default();
        }
        let bytes = message.topic.len() + message.properties.len() + message.payload.len();
        Self { retained_messages: 1, retained_bytes: bytes as u64, ..Self::default() }
    }

    /// What `opened` may add; one that resumes a session adds nothing.
    pub(crate) fn of_session(opened: &SessionOpened) -> Self {
        Self { sessions: u64::from(opened.session_expiry_interval > 0), ..Self::default() }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// What is left of it without `other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    fn each(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            sessions: of(self.sessions, other.sessions),
            retained_messages: of(self.retained_messages, other.retained_messages),
            retained_bytes: of(self.retained_bytes, other.retained_bytes),
        }
    }
}

/// What a shard has given to the log and the views do not show.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    volume: Volume,
    /// Of this, what is committed, by index.
    committed: VecDeque<(Index, Volume)>,
}

impl UnderWay {
    pub(crate) fn volume(&self) -> Volume {
        self.volume
    }

    pub(crate) fn add(&mut self, volume: Volume) {
        self.volume = self.volume.plus(volume);
    }

    /// That much of it was committed at `index`.
    pub(crate) fn commit(&mut self, index: Index, volume: Volume) {
        if volume != Volume::default() {
            self.committed.push_back((index, volume));
        }
    }

    /// The views hold everything up to `index`.
    pub(crate) fn apply(&mut self, index: Index) {
        while let Some((_, volume)) = self.committed.pop_front_if(|(at, _)| *at <= index) {
            self.volume = self.volume.minus(volume);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_charged_until_the_views_show_it() {
        let some = |sessions| Volume { sessions, ..Volume::default() };
        let mut under_way = UnderWay::default();
        under_way.add(some(2));
        under_way.apply(100);
        assert_eq!(under_way.volume(), some(2), "it is not committed yet");
        under_way.commit(101, some(1));
        under_way.commit(103, some(1));
        under_way.apply(102);
        assert_eq!(under_way.volume(), some(1));
        under_way.apply(103);
        assert_eq!(under_way.volume(), some(0));
    }
}
