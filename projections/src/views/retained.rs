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
        // No recursion: a filter may have more levels than a thread's stack has room for.
        let mut path = Path::default();
        let mut open: Vec<Plus<'_>> = Vec::new();
        let mut rest = Some(filter);
        loop {
            match rest.map(first_level) {
                None => self.get(&path.text).into_iter().for_each(&mut *found),
                Some(("#", _)) => self.below(path.above(), found),
                Some(("+", below)) => open.push(Plus::new(&path, below)),
                Some((literal, below)) => {
                    path.push(literal);
                    rest = below;
                    continue;
                }
            }
            rest = loop {
                let Some(plus) = open.last_mut() else { return };
                if self.next_child(plus, &mut path) {
                    break plus.rest;
                }
                open.pop();
            };
        }
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

    /// Sets `path` to the next topic one level below that of `plus` at or under which a message
    /// stands: one look-up each, however many there are below. False if there is none.
    fn next_child(&self, plus: &mut Plus<'_>, path: &mut Path) -> bool {
        let above = &path.text[..plus.above];
        let mut from = match plus.child {
            Some(child) => behind(&path.text[..child]),
            None if plus.levels == 0 => String::new(),
            None => join(Some(above), ""),
        };
        loop {
            let next = self.between(Bound::Included(&from), Bound::Unbounded).next();
            let Some(topic) = next.map(|message| &*message.topic) else { return false };
            let start = if plus.levels == 0 { 0 } else { plus.above + 1 };
            let is_below = topic.starts_with(above)
                && (plus.levels == 0 || topic.as_bytes().get(plus.above) == Some(&b'/'));
            if !is_below {
                return false;
            }
            let end = topic[start..].find('/').map_or(topic.len(), |at| start + at);
            // [MQTT-4.7.2-1]: a wildcard in front matches no topic that begins with '$'.
            if plus.levels == 0 && topic.starts_with('$') {
                from = behind(&topic[..end]);
                continue;
            }
            path.text.truncate(plus.above);
            path.text.push_str(&topic[plus.above..end]);
            path.levels = plus.levels + 1;
            plus.child = Some(end);
            return true;
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

/// A topic that is being looked at, or nothing yet.
#[derive(Default)]
struct Path {
    text: String,
    levels: usize,
}

impl Path {
    fn push(&mut self, level: &str) {
        if self.levels > 0 {
            self.text.push('/');
        }
        self.text.push_str(level);
        self.levels += 1;
    }

    fn above(&self) -> Option<&str> {
        (self.levels > 0).then_some(&*self.text)
    }
}

/// A `+` whose topics are being visited.
struct Plus<'f> {
    /// Bytes and levels of the topic above it; without levels there is none.
    above: usize,
    levels: usize,
    /// Bytes of the topic that was visited last.
    child: Option<usize>,
    /// What the filter says below.
    rest: Option<&'f str>,
}

impl<'f> Plus<'f> {
    fn new(path: &Path, rest: Option<&'f str>) -> Self {
        Self { above: path.text.len(), levels: path.levels, child: None, rest }
    }
}

/// The first level of a filter, and what comes behind it.
fn first_level(filter: &str) -> (&str, Option<&str>) {
    match filter.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (filter, None),
    }
}

fn join(above: Option<&str>, level: &str) -> String {
    above.map_or_else(|| level.to_owned(), |above| format!("{above}/{level}"))
}

/// The first text, in the order of the topics, behind `topic` and everything below it.
fn behind(topic: &str) -> String {
    format!("{topic}\u{1}")
}
