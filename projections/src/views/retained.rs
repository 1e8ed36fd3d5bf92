//! Retained messages.

mod order;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use ledgermq_core::offset::{Offset, Timestamp};

pub use crate::views::message::RetainedMessage;

use order::{ByTopic, InLevels};

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
        self.walk(None, filter, found);
    }

    /// Stores `message`, or removes what is there if its payload is empty. Returns whether
    /// anything changed.
    pub(crate) fn apply(&mut self, message: RetainedMessage) -> bool {
        let had = self.take(&message.topic);
        if message.payload.is_empty() {
            return had;
        }
        self.put(Arc::new(message));
        true
    }

    pub(crate) fn put(&mut self, message: Arc<RetainedMessage>) {
        self.bytes += message.bytes();
        if let Some(deadline) = message.expires() {
            self.expiring.insert((deadline, message.offset), Arc::clone(&message));
        }
        self.by_topic.insert(ByTopic(message), ());
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
        self.bytes -= old.0.bytes();
        if let Some(deadline) = old.0.expires() {
            self.expiring.remove(&(deadline, old.0.offset));
        }
        true
    }

    /// Answers `rest` of a filter below the topic `above`; at the top `above` is none.
    fn walk<'t>(
        &'t self,
        above: Option<&str>,
        rest: &str,
        found: &mut impl FnMut(&'t Arc<RetainedMessage>),
    ) {
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        match level {
            "#" => self.below(above, found),
            "+" => self.each_child(above, &mut |child| self.go_on(child, rest, found)),
            literal => self.go_on(&join(above, literal), rest, found),
        }
    }

    fn go_on<'t>(
        &'t self,
        topic: &str,
        rest: Option<&str>,
        found: &mut impl FnMut(&'t Arc<RetainedMessage>),
    ) {
        match rest {
            Some(rest) => self.walk(Some(topic), rest, found),
            None => self.get(topic).into_iter().for_each(found),
        }
    }

    /// What `above/#` matches: `above` itself and all below. `[MQTT-4.7.1-2]`
    fn below<'t>(&'t self, above: Option<&str>, found: &mut impl FnMut(&'t Arc<RetainedMessage>)) {
        let Some(above) = above else {
            // [MQTT-4.7.2-1]: a wildcard in front matches no topic that begins with '$'.
            self.between(Bound::Unbounded, Bound::Excluded("$")).for_each(&mut *found);
            self.between(Bound::Included("%"), Bound::Unbounded).for_each(found);
            return;
        };
        self.get(above).into_iter().for_each(&mut *found);
        let (from, upto) = (join(Some(above), ""), behind(above));
        self.between(Bound::Included(&from), Bound::Excluded(&upto)).for_each(found);
    }

    /// Calls `child` with each topic one level below `above` at or under which a message stands:
    /// one look-up each, however many there are below.
    fn each_child(&self, above: Option<&str>, child: &mut dyn FnMut(&str)) {
        let start = above.map_or(0, |above| above.len() + 1);
        let end = above.map(behind);
        let upto = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut from = above.map_or_else(String::new, |above| join(Some(above), ""));
        while let Some(next) = self.between(Bound::Included(&from), upto).next() {
            let topic = &*next.topic;
            let level = topic[start..].find('/').map_or(topic.len(), |at| start + at);
            if above.is_some() || !topic.starts_with('$') {
                child(&topic[..level]);
            }
            from = behind(&topic[..level]);
        }
    }

    fn between<'t>(
        &'t self,
        from: Bound<&str>,
        upto: Bound<&str>,
    ) -> impl Iterator<Item = &'t Arc<RetainedMessage>> + use<'t> {
        let from = from.as_ref().map(|topic| topic as &dyn InLevels);
        let upto = upto.as_ref().map(|topic| topic as &dyn InLevels);
        self.by_topic.range::<dyn InLevels, _>((from, upto)).map(|(found, ())| &found.0)
    }
}

fn join(above: Option<&str>, level: &str) -> String {
    above.map_or_else(|| level.to_owned(), |above| format!("{above}/{level}"))
}

/// The first text, in the order of the topics, behind `topic` and everything below it.
fn behind(topic: &str) -> String {
    format!("{topic}\u{1}")
}
