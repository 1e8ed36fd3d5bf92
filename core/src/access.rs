//! Who may do what: access rules, and the one function that decides by them.
//!
//! [`parse()`] reads the text of an `acl_file` into a [`RuleList`], the canonical form that events
//! carry; [`Rules`] are that list prepared for deciding. [`Rules::may`] is asked at CONNECT (for
//! the will), PUBLISH, SUBSCRIBE and each delivery, by every room, and by nobody in another way.

mod coverage;
mod list;
mod memo;
mod parse;
mod placeholder;

#[cfg(test)]
mod tests;

pub use list::{Access, Group, RuleList, Subject};
pub use memo::Memo;
pub use parse::{AclError, AclFault, FILE_BYTES_MAX, parse};

use std::sync::Arc;

use hashbrown::HashMap;

use crate::topic::tree::FilterTree;
use crate::topic::{self, TopicFilter};

use placeholder::Pattern;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Client Identifier.
    pub client: &'a str,
    /// User Name, if it has one.
    pub username: Option<&'a str>,
}

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To publish to a Topic Name.
    Publish,
    /// To subscribe to a Topic Filter: allowed if a topic that it matches may be received; of a
    /// Shared Subscription only if all that its FILTER matches may be, since what one member may
    /// not receive would be lost to its group.
    Subscribe,
    /// To be delivered a message of a Topic Name.
    Receive,
}

/// Access rules, ready to decide. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Rules(Option<Arc<Acl>>);

#[derive(Debug)]
struct Acl {
    list: RuleList,
    nameless: Table,
    users: HashMap<Box<str>, Table>,
    patterns: Vec<Pattern>,
    /// Levels of the longest filter.
    levels: usize,
    /// Whether anything is denied.
    has_denies: bool,
}

/// The rules of one user.
#[derive(Debug, Default)]
struct Table {
    tree: FilterTree<Access, ()>,
    rules: Vec<(Access, TopicFilter)>,
}

impl Rules {
    /// No rules configured: everything is allowed but `$CONTROL/#` and `$replay/#`.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// The rules of `list`: what none of them grants is denied. Without a list, [`Rules::open`].
    #[must_use]
    pub fn new(list: Option<&RuleList>) -> Self {
        Self(list.map(|list| Arc::new(Acl::new(list))))
    }

    /// Whether no rules are configured.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `other` is a clone of these.
    fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// The list that these rules were made of; none if they are open.
    #[must_use]
    pub fn list(&self) -> Option<&RuleList> {
        self.0.as_ref().map(|acl| &acl.list)
    }

    /// Whether `identity` may do `action` with `topic`, a Topic Name, or for
    /// [`Action::Subscribe`] a valid Topic Filter. A Shared Subscription is judged by its FILTER.
    #[must_use]
    pub fn may(&self, identity: &Identity<'_>, action: Action, topic: &str) -> bool {
        let Some(acl) = &self.0 else {
            return !topic.starts_with('$') || !is_guarded(topic::pattern(topic));
        };
        match action {
            Action::Publish => acl.grants(identity, Access::Write, topic),
            Action::Receive => acl.grants(identity, Access::Read, topic),
            Action::Subscribe => match topic::pattern(topic) {
                shared if shared.len() < topic.len() => acl.receives_all(identity, shared),
                filter => acl.could_receive(identity, filter),
            },
        }
    }
}

impl Acl {
    fn new(list: &RuleList) -> Self {
        let mut acl = Self {
            list: list.clone(),
            nameless: Table::default(),
            users: HashMap::new(),
            patterns: Vec::new(),
            levels: 0,
            has_denies: false,
        };
        for Group { subject, rules } in list.groups() {
            let levels = rules.iter().map(|(_, filter)| topic::levels(filter.as_str())).max();
            acl.levels = acl.levels.max(levels.unwrap_or(0));
            acl.has_denies |= rules.iter().any(|(access, _)| *access == Access::Deny);
            match subject {
                Subject::Nameless => acl.nameless = Table::new(rules),
                Subject::User(name) => {
                    acl.users.insert(name.clone(), Table::new(rules));
                }
                Subject::Everyone => {
                    let patterns = rules.iter().map(|(access, text)| Pattern::new(*access, text));
                    acl.patterns = patterns.collect();
                }
            }
        }
        acl
    }

    fn table(&self, identity: &Identity<'_>) -> Option<&Table> {
        match identity.username {
            None => Some(&self.nameless),
            Some(name) => self.users.get(name),
        }
    }

    /// Whether a rule grants `wanted` on the Topic Name `topic`, and none denies it.
    fn grants(&self, identity: &Identity<'_>, wanted: Access, topic: &str) -> bool {
        let (mut is_granted, mut is_denied) = (false, false);
        if let Some(table) = self.table(identity) {
            table.tree.for_each_match(topic, |access, ()| {
                is_denied |= *access == Access::Deny;
                is_granted |= access.includes(wanted);
            });
        }
        for pattern in &self.patterns {
            if is_denied {
                return false;
            }
            let tells =
                pattern.access == Access::Deny || (!is_granted && pattern.access.includes(wanted));
            if tells && pattern.matches(identity, topic) {
                is_denied = pattern.access == Access::Deny;
                is_granted |= !is_denied;
            }
        }
        is_granted && !is_denied
    }

    /// Whether there can be a topic that `filter` matches and that `identity` may receive.
    fn could_receive(&self, identity: &Identity<'_>, filter: &str) -> bool {
        let reaches = |granted: &str| {
            let common = coverage::intersection(filter, granted);
            common.is_some_and(|common| self.leaves_any(identity, &common))
        };
        let own = self.table(identity).map_or(&[][..], |table| &table.rules);
        let own = own.iter().filter(|(access, _)| access.includes(Access::Read));
        let patterns = self.patterns.iter().filter(|pattern| pattern.access.includes(Access::Read));
        own.map(|(_, granted)| granted).any(|granted| reaches(granted.as_str()))
            || patterns.filter_map(|pattern| pattern.filled(identity)).any(|text| reaches(&text))
    }

    /// Whether there is a topic that `filter` matches and that is not denied to `identity`.
    fn leaves_any(&self, identity: &Identity<'_>, filter: &str) -> bool {
        !self.has_denies
            || coverage::samples(filter, self.levels).any(|topic| !self.denies(identity, &topic))
    }

    /// Whether `identity` may receive every topic that `filter` matches.
    fn receives_all(&self, identity: &Identity<'_>, filter: &str) -> bool {
        let touches = |denied: &str| coverage::intersection(filter, denied).is_some();
        let own = self.table(identity).map_or(&[][..], |table| &table.rules);
        let mut own = own.iter().filter(|(access, _)| *access == Access::Deny);
        let denying = self.patterns.iter().filter(|pattern| pattern.access == Access::Deny);
        let mut denying = denying.filter_map(|pattern| pattern.filled(identity));
        !own.any(|(_, denied)| touches(denied.as_str()))
            && !denying.any(|denied| touches(&denied))
            && coverage::samples(filter, self.levels)
                .all(|topic| self.grants(identity, Access::Read, &topic))
    }

    fn denies(&self, identity: &Identity<'_>, topic: &str) -> bool {
        let mut is_denied = false;
        if let Some(table) = self.table(identity) {
            table.tree.for_each_match(topic, |access, ()| is_denied |= *access == Access::Deny);
        }
        let mut denying = self.patterns.iter().filter(|pattern| pattern.access == Access::Deny);
        is_denied || denying.any(|pattern| pattern.matches(identity, topic))
    }
}

impl Table {
    fn new(rules: &[(Access, TopicFilter)]) -> Self {
        let mut tree = FilterTree::default();
        for (access, filter) in rules {
            tree.insert(filter, *access, ());
        }
        Self { tree, rules: rules.to_vec() }
    }
}

/// Whether a topic, or what a filter matches, is denied unless a rule names it.
fn is_guarded(topic: &str) -> bool {
    ["$CONTROL", "$replay"].contains(&topic.split('/').next().unwrap_or_default())
}
