//! Who among the persistent sessions is owed a message of a topic.

use std::sync::Arc;

use ledgermq_core::event::Subscription;
use ledgermq_core::packet::{QoS, SubscriptionOptions};
use ledgermq_core::topic::TopicFilter;
use ledgermq_core::topic::memory::{Limits, TopicMemory};
use ledgermq_core::topic::tree::FilterTree;

use crate::views::sessions::Slot;
use crate::views::shared::Number;

/// Topics whose matches are remembered, and bytes of them.
const REMEMBERED: Limits = Limits { topics: 1 << 18, bytes: 32 << 20 };

/// The filters of persistent sessions, and a bounded memory of what they match.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    tree: FilterTree<Slot, SubscriptionOptions>,
    groups: FilterTree<Number, ()>,
    version: u64,
    remembered: TopicMemory<Remembered>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            tree: FilterTree::default(),
            groups: FilterTree::default(),
            version: 0,
            remembered: TopicMemory::new(REMEMBERED),
        }
    }
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
    version: u64,
    /// The topic's node in the topic tree, with the version of that tree.
    pub(crate) node: (u64, Option<u32>),
    pub(crate) matches: Arc<[Match]>,
    /// Whether it makes a difference for one of the matches who published.
    pub(crate) depends_on_publisher: bool,
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
        let (place, node) = match self.remembered.find(topic) {
            Ok(place) => {
                let known = self.remembered.at(place);
                if known.version == self.version {
                    return self.remembered.at(place);
                }
                (place, known.node)
            }
            Err(place) => (place, (0, None)),
        };
        let groups = groups(&self.groups, topic);
        let matches = matches(&self.tree, topic, may_receive);
        let depends_on_publisher = matches.iter().any(Match::depends_on_publisher);
        let version = self.version;
        let found = Remembered { version, node, matches, depends_on_publisher, groups };
        let bytes = found.bytes();
        let place = self.remembered.put(place, topic, found, bytes);
        self.remembered.at(place)
    }
}

impl Remembered {
    /// Beside itself.
    fn bytes(&self) -> usize {
        size_of_val(&*self.matches) + size_of_val(&*self.groups)
    }
}

impl Match {
    /// What is granted for a message, `is_own` if the session's client published it; none if only
    /// No Local subscriptions match it. `[MQTT-3.8.3-3]`
    pub(crate) fn granted(&self, is_own: bool) -> Option<Granted> {
        if is_own { self.own } else { Some(self.others) }
    }

    /// Whether it makes a difference who published.
    pub(super) fn depends_on_publisher(&self) -> bool {
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
) -> Arc<[Match]> {
    if tree.is_empty() {
        return Arc::default();
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
