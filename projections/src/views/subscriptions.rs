//! Who among the persistent sessions is owed a message of a topic.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use ledgermq_core::event::Subscription;
use ledgermq_core::packet::{QoS, SubscriptionOptions};
use ledgermq_core::topic::TopicFilter;
use ledgermq_core::topic::tree::FilterTree;

use crate::views::sessions::Slot;
use crate::views::shared::Number;

/// Topics whose matches are remembered; a power of two.
const CACHE_TOPICS: usize = 1 << 15;
/// Bytes of the topics and matches that are remembered; beyond it all are forgotten.
const CACHE_BYTES_MAX: usize = 32 << 20;
/// Places in which a topic may be remembered.
const WAYS: usize = 2;

/// The filters of persistent sessions, and a bounded memory of what they match.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    tree: FilterTree<Slot, SubscriptionOptions>,
    groups: FilterTree<Number, ()>,
    version: u64,
    cache: Vec<Option<Box<Remembered>>>,
    cached_bytes: usize,
    hasher: DefaultHashBuilder,
}

/// A session that matches a topic, over all its matching subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) slot: Slot,
    /// For messages of other clients.
    others: Granted,
    /// For messages of the client itself: without its No Local subscriptions.
    own: Option<Granted>,
}

/// The highest granted QoS and whether a subscription wants RETAIN as published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
}

/// What is remembered of a topic.
#[derive(Debug)]
pub(crate) struct Remembered {
    topic: Box<str>,
    version: u64,
    /// The topic's node in the topic tree, with the version of that tree.
    pub(crate) node: (u64, Option<u32>),
    pub(crate) matches: Box<[Match]>,
    /// The groups that it is for, ascending.
    pub(crate) groups: Box<[Number]>,
}

impl Subscriptions {
    /// Puts a subscription of a persistent session in; none that is shared.
    pub(crate) fn insert(&mut self, slot: Slot, subscription: &Subscription) {
        debug_assert!(!subscription.filter.is_shared(), "a group is owed its messages");
        self.version += 1;
        self.tree.insert(&subscription.filter, slot, subscription.options);
    }

    /// Takes a subscription of a persistent session out.
    pub(crate) fn remove(&mut self, slot: Slot, subscription: &Subscription) {
        if !subscription.filter.is_shared() {
            self.version += 1;
            self.tree.remove(&subscription.filter, &slot);
        }
    }

    /// Puts the group of a Shared Subscription in.
    pub(crate) fn insert_group(&mut self, filter: &TopicFilter, number: Number) {
        self.version += 1;
        self.groups.insert(filter, number, ());
    }

    /// Takes the group of a Shared Subscription out.
    pub(crate) fn remove_group(&mut self, filter: &TopicFilter, number: Number) {
        self.version += 1;
        self.groups.remove(filter, &number);
    }

    /// Number of subscriptions.
    pub(crate) fn len(&self) -> usize {
        self.tree.len()
    }

    /// Forgets who may receive what.
    pub(crate) fn forget(&mut self) {
        self.version += 1;
    }

    /// The matches of `topic` that may receive it, from memory where that is up to date.
    pub(crate) fn look_up(
        &mut self,
        topic: &str,
        may_receive: impl Fn(Slot) -> bool,
    ) -> &mut Remembered {
        if self.cache.is_empty() {
            self.cache.resize_with(CACHE_TOPICS, || None);
        }
        let at = self.place(topic);
        let known = self.cache[at].as_ref().filter(|known| *known.topic == *topic);
        if known.is_none_or(|known| known.version != self.version) {
            let node = known.map_or((0, None), |known| known.node);
            let groups = groups(&self.groups, topic);
            let matches = matches(&self.tree, topic, may_receive);
            let version = self.version;
            self.remember(at, Remembered { topic: topic.into(), version, node, matches, groups });
        }
        self.cache[at].as_mut().expect("it is there now")
    }

    /// Puts `found` into its place. What is larger than all that may be remembered is alone.
    fn remember(&mut self, at: usize, found: Remembered) {
        let bytes = found.bytes();
        self.cached_bytes -= self.cache[at].take().map_or(0, |old| old.bytes());
        if self.cached_bytes + bytes > CACHE_BYTES_MAX {
            self.cache.fill_with(|| None);
            self.cached_bytes = 0;
        }
        self.cached_bytes += bytes;
        self.cache[at] = Some(Box::new(found));
    }

    /// The place of `topic` if it is known, or the one that it may take: the free one, else the
    /// one that its hash chooses.
    fn place(&self, topic: &str) -> usize {
        let hash = self.hasher.hash_one(topic);
        let low = usize::try_from(hash & (CACHE_TOPICS as u64 - 1)).expect("masked");
        let base = low & !(WAYS - 1);
        let mut free = None;
        for at in base..base + WAYS {
            match &self.cache[at] {
                Some(known) if *known.topic == *topic => return at,
                Some(_) => {}
                None => free = free.or(Some(at)),
            }
        }
        free.unwrap_or(low)
    }
}

impl Remembered {
    fn bytes(&self) -> usize {
        let found = size_of_val(&*self.matches) + size_of_val(&*self.groups);
        size_of::<Self>() + self.topic.len() + found
    }
}

impl Match {
    /// What is granted for a message, `is_own` if the session's client published it; none if only
    /// No Local subscriptions match it. `[MQTT-3.8.3-3]`
    pub(crate) fn granted(&self, is_own: bool) -> Option<Granted> {
        if is_own { self.own } else { Some(self.others) }
    }

    /// Whether it makes a difference who published.
    pub(crate) fn depends_on_publisher(&self) -> bool {
        self.own != Some(self.others)
    }
}

impl Granted {
    fn add(&mut self, options: SubscriptionOptions) {
        self.qos = self.qos.max(options.qos);
        self.retain_as_published |= options.retain_as_published;
    }
}

fn matches(
    tree: &FilterTree<Slot, SubscriptionOptions>,
    topic: &str,
    may_receive: impl Fn(Slot) -> bool,
) -> Box<[Match]> {
    if tree.is_empty() {
        return Box::default();
    }
    let mut targets = Vec::new();
    tree.for_each_match(topic, |slot, options| targets.push((*slot, *options)));
    targets.sort_unstable_by_key(|(slot, _)| *slot);
    let mut found = Vec::<Match>::new();
    for (slot, options) in targets {
        if found.last().is_none_or(|last| last.slot != slot) {
            found.push(Match { slot, others: Granted::default(), own: None });
        }
        let last = found.last_mut().expect("it was just pushed");
        last.others.add(options);
        if !options.no_local {
            last.own.get_or_insert_default().add(options);
        }
    }
    found.retain(|found| found.others.qos > QoS::AtMostOnce && may_receive(found.slot));
    found.into()
}

fn groups(tree: &FilterTree<Number, ()>, topic: &str) -> Box<[Number]> {
    if tree.is_empty() {
        return Box::default();
    }
    let mut found = Vec::new();
    tree.for_each_match(topic, |number, ()| found.push(*number));
    found.sort_unstable();
    found.into()
}

#[cfg(test)]
mod tests;
