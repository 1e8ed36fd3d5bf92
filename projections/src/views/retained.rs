//! Retained messages.

mod order;
mod seek;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use ledgermq_core::offset::{Offset, Timestamp};

pub use crate::views::message::RetainedMessage;

use order::{ByTopic, InLevels, compare};
use seek::{Seek, seek};

/// Most messages that one batch may expire: the fold's work per batch is bounded.
const EXPIRED_PER_BATCH_MAX: usize = 256;

/// The retained messages by topic.
///
/// Sorted so that a topic stands directly before everything below it: a filter is answered by
/// range, not by looking at all.
#[derive(Debug, Default)]
pub struct Retained {
    by_topic: BTreeMap<ByTopic, ()>,
    expiring: BTreeMap<(Timestamp, Offset), Arc<RetainedMessage>>,
    bytes: u64,
}

impl Retained {
    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.by_topic.len() as u64
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Bytes of topics, properties and payloads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The message of a topic, expired or not.
    #[must_use]
    pub fn get(&self, topic: &str) -> Option<&Arc<RetainedMessage>> {
        let (found, ()) = self.by_topic.get_key_value(&topic as &dyn InLevels)?;
        Some(&found.0)
    }

    /// All messages in the order of their topics (a topic before what is below it), from the one
    /// behind `after` on. Expired ones are among them until a later batch takes them away.
    pub fn iter(&self, after: Option<&str>) -> impl Iterator<Item = &Arc<RetainedMessage>> {
        let from = after
            .as_ref()
            .map_or(Bound::Unbounded, |topic| Bound::Excluded(topic as &dyn InLevels));
        self.by_topic.range::<dyn InLevels, _>((from, Bound::Unbounded)).map(|(found, ())| &found.0)
    }

    /// Calls `found` with each message that `filter` matches, in the order of the topics.
    pub fn for_each_match<'t>(
        &'t self,
        filter: &str,
        found: &mut impl FnMut(&'t Arc<RetainedMessage>),
    ) {
        let start = filter.find(['+', '#']).map_or(filter, |at| &filter[..at]);
        // What '#' stands behind matches, too. [MQTT-4.7.1-2]
        let start = start.strip_suffix('/').unwrap_or(start);
        let mut messages = self.from(start);
        let mut next = messages.next();
        while let Some(message) = next {
            let on = match seek(filter, &message.topic) {
                Seek::Found => {
                    found(message);
                    next = messages.next();
                    continue;
                }
                Seek::FoundWithAllBelow(bytes) => {
                    let begin = &message.topic[..bytes];
                    // [MQTT-4.7.2-1]
                    let is_below = |next: &&Arc<RetainedMessage>| {
                        next.topic.starts_with(begin)
                            && !(bytes == 0 && next.topic.starts_with('$'))
                    };
                    found(message);
                    next = messages.next();
                    while let Some(below) = next.filter(is_below) {
                        found(below);
                        next = messages.next();
                    }
                    continue;
                }
                Seek::FoundAndOn(on) => {
                    found(message);
                    on
                }
                Seek::On(on) => on,
            };
            let Some(on) = on else { return };
            // Mostly that is the very next one.
            next = messages.next();
            if next.is_some_and(|next| compare(&next.topic, &on).is_lt()) {
                messages = self.from(&on);
                next = messages.next();
            }
        }
    }

    /// Stores `message`, or removes what is there if its payload is empty. Returns whether
    /// anything changed.
    pub(crate) fn apply(&mut self, message: RetainedMessage) -> bool {
        if message.payload.is_empty() {
            return self.take(&message.topic);
        }
        self.put(Arc::new(message));
        true
    }

    /// Stores `message` in the place of what its topic has.
    pub(crate) fn put(&mut self, message: Arc<RetainedMessage>) {
        self.bytes += message.bytes();
        if let Some(deadline) = message.expires() {
            self.expiring.insert((deadline, message.offset), Arc::clone(&message));
        }
        match self.by_topic.entry(ByTopic(Arc::clone(&message))) {
            Entry::Vacant(place) => {
                place.insert(());
            }
            Entry::Occupied(place) => {
                // A map keeps the key that it has, so it has to go.
                let (old, ()) = place.remove_entry();
                self.let_go(&old.0);
                self.by_topic.insert(ByTopic(message), ());
            }
        }
    }

    /// Takes messages away whose expiry is past at the time of a batch; says which.
    pub(crate) fn expire(&mut self, time: Timestamp, mut gone: impl FnMut(&str)) {
        for _ in 0..EXPIRED_PER_BATCH_MAX {
            let Some(first) = self.expiring.first_entry().filter(|first| first.key().0 <= time)
            else {
                return;
            };
            let message = Arc::clone(first.get());
            self.take(&message.topic);
            gone(&message.topic);
        }
    }

    fn take(&mut self, topic: &str) -> bool {
        let Some((old, ())) = self.by_topic.remove_entry(&topic as &dyn InLevels) else {
            return false;
        };
        self.let_go(&old.0);
        true
    }

    /// Forgets what else is known of a message that is out of the map.
    fn let_go(&mut self, old: &RetainedMessage) {
        self.bytes -= old.bytes();
        if let Some(deadline) = old.expires() {
            self.expiring.remove(&(deadline, old.offset));
        }
    }

    /// The messages from the topic `from` on.
    fn from<'t>(&'t self, from: &str) -> impl Iterator<Item = &'t Arc<RetainedMessage>> + use<'t> {
        let from = Bound::Included(&from as &dyn InLevels);
        self.by_topic.range::<dyn InLevels, _>((from, Bound::Unbounded)).map(|(found, ())| &found.0)
    }
}
