//! Which connections of a shard a message is for.

use std::sync::Arc;

use ledgermq_core::event::Subscription;
use ledgermq_core::packet::{QoS, SubscriptionOptions};
use ledgermq_core::topic::TopicFilter;
use ledgermq_core::topic::memory::{Limits, TopicMemory};
use ledgermq_core::topic::tree::FilterTree;

use crate::shard::table::Token;

/// Topics whose matches are remembered, and bytes of them.
const REMEMBERED: Limits = Limits { topics: 1 << 18, bytes: 32 << 20 };

/// The subscriptions of a shard's connections, with the answers given lately. Not the shared ones:
/// the fold says what comes of these.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    tree: FilterTree<Token, Subscriber>,
    /// Counts up when answers given before mean nothing any more.
    version: u64,
    remembered: TopicMemory<(u64, Matches)>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        let remembered = TopicMemory::new(REMEMBERED);
        Self { tree: FilterTree::default(), version: 0, remembered }
    }
}

#[derive(Clone, Copy, Debug)]
struct Subscriber {
    options: SubscriptionOptions,
    identifier: Option<u32>,
}

/// The connections that a topic is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matches {
    pub(crate) found: Arc<[Match]>,
    /// So many more have a matching subscription, but may not receive the topic.
    pub(crate) forbidden: u32,
}

/// A connection that a topic is for.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) token: Token,
    grant: Grant,
    /// What holds for a message of its own, if a No Local subscription makes that differ.
    own: Option<Option<Grant>>,
}

/// What the matching subscriptions of one connection grant together: one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifiers: Vec<u32>,
}

impl Subscriptions {
    /// Makes or replaces the subscription of `token` to the filter, if it is not shared; says whether
    /// it is new here.
    pub(crate) fn insert(&mut self, token: Token, subscription: &Subscription) -> bool {
        let Subscription { filter, options, identifier } = subscription;
        if filter.is_shared() {
            return false;
        }
        self.forget();
        let subscriber = Subscriber { options: *options, identifier: *identifier };
        self.tree.insert(filter, token, subscriber).is_none()
    }

    /// Ends the subscription of `token` to `filter`.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, token: Token) {
        if filter.is_shared() {
            return;
        }
        self.forget();
        self.tree.remove(filter, &token);
    }

    /// The connections that a message to `topic` is for: of those with a matching subscription
    /// those that `may_receive` it.
    pub(crate) fn matches(&mut self, topic: &str, may_receive: impl Fn(Token) -> bool) -> Matches {
        let place = match self.remembered.find(topic) {
            Ok(place) => match self.remembered.at(place) {
                (version, matches) if *version == self.version => return matches.clone(),
                _ => place,
            },
            Err(place) => place,
        };
        let matches = self.find(topic, may_receive);
        let bytes = matches.bytes();
        self.remembered.put(place, topic, (self.version, matches.clone()), bytes);
        matches
    }

    fn find(&self, topic: &str, may_receive: impl Fn(Token) -> bool) -> Matches {
        let mut found = Vec::new();
        self.tree.for_each_match(topic, |token, subscriber| found.push((*token, *subscriber)));
        found.sort_by_key(|(token, _)| *token);
        let mut forbidden = 0;
        let found = found.chunk_by(|(a, _), (b, _)| a == b).filter(|subscribers| {
            let may = may_receive(subscribers[0].0);
            forbidden += u32::from(!may);
            may
        });
        let found: Arc<[Match]> = found.map(match_of).collect();
        Matches { found, forbidden }
    }

    /// Forgets the answers given.
    pub(crate) fn forget(&mut self) {
        self.version += 1;
    }
}

impl Matches {
    /// Whether no connection has a matching subscription.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.forbidden == 0
    }

    fn bytes(&self) -> usize {
        self.found.iter().map(Match::bytes).sum()
    }
}

impl Match {
    fn bytes(&self) -> usize {
        let grants = std::iter::once(&self.grant).chain(self.own.iter().flatten());
        size_of::<Self>() + grants.map(|grant| size_of_val(&*grant.identifiers)).sum::<usize>()
    }

    /// What holds for every message, if it does not depend on the publisher.
    pub(crate) fn grant_for_all(&self) -> Option<&Grant> {
        self.own.is_none().then_some(&self.grant)
    }

    /// What holds for a message of `publisher`.
    pub(crate) fn grant(&self, publisher: Option<Token>) -> Option<&Grant> {
        match &self.own {
            Some(own) if publisher == Some(self.token) => own.as_ref(),
            _ => Some(&self.grant),
        }
    }
}

fn match_of(subscribers: &[(Token, Subscriber)]) -> Match {
    let token = subscribers[0].0;
    let all = subscribers.iter().map(|(_, subscriber)| *subscriber);
    let has_no_local = all.clone().any(|subscriber| subscriber.options.no_local);
    let own = has_no_local
        .then(|| grant_of(all.clone().filter(|subscriber| !subscriber.options.no_local)));
    let grant = grant_of(all).expect("a match has at least one subscriber");
    Match { token, grant, own }
}

fn grant_of(subscribers: impl Iterator<Item = Subscriber>) -> Option<Grant> {
    let mut grant: Option<Grant> = None;
    for subscriber in subscribers {
        let grant = grant.get_or_insert(Grant {
            qos: QoS::AtMostOnce,
            retain_as_published: false,
            identifiers: Vec::new(),
        });
        grant.qos = grant.qos.max(subscriber.options.qos);
        grant.retain_as_published |= subscriber.options.retain_as_published;
        grant.identifiers.extend(subscriber.identifier);
    }
    grant
}
