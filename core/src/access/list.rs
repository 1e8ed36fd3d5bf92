//! The canonical list of rules, as events carry it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::topic::TopicFilter;

/// What a rule says of the topics that its filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Access {
    /// They may be received.
    Read,
    /// They may be published to.
    Write,
    /// Both.
    ReadWrite,
    /// Neither, whatever other rules say.
    Deny,
}

impl Access {
    /// Whether a rule of this access grants `wanted` (read or write).
    pub(super) fn includes(self, wanted: Self) -> bool {
        self == wanted || self == Self::ReadWrite
    }
}

/// Whom rules are for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// Clients without a User Name.
    Nameless,
    /// Clients of this User Name.
    User(Box<str>),
    /// All clients; `%c` and `%u` in the filters stand for the client's names.
    Everyone,
}

/// The rules of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Whom they are for.
    pub subject: Subject,
    /// The rules: ascending, each once.
    pub rules: Vec<(Access, TopicFilter)>,
}

/// Access rules. Order and repetition mean nothing in an `acl_file`, so lists of the same rules
/// are equal, byte for byte: groups and rules are sorted, and each stands once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Group>")]
pub struct RuleList(Vec<Group>);

impl RuleList {
    /// The rules by subject; no group is empty.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.0
    }

    /// About how many bytes it takes in a batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let filters = self.0.iter().flat_map(|group| &group.rules);
        filters.map(|(_, filter)| filter.as_str().len() + 4).sum()
    }

    /// Number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|group| group.rules.len()).sum()
    }

    /// Whether there is none, so that nothing is granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<(Subject, Access, TopicFilter)> for RuleList {
    fn from_iter<I: IntoIterator<Item = (Subject, Access, TopicFilter)>>(rules: I) -> Self {
        let mut groups = BTreeMap::<Subject, BTreeSet<_>>::new();
        for (subject, access, filter) in rules {
            groups.entry(subject).or_default().insert((access, filter));
        }
        let group = |(subject, rules): (_, BTreeSet<_>)| Group {
            subject,
            rules: rules.into_iter().collect(),
        };
        Self(groups.into_iter().map(group).collect())
    }
}

impl TryFrom<Vec<Group>> for RuleList {
    type Error = &'static str;

    fn try_from(groups: Vec<Group>) -> Result<Self, Self::Error> {
        let is_canonical = groups.is_sorted_by(|a, b| a.subject < b.subject)
            && groups
                .iter()
                .all(|group| !group.rules.is_empty() && group.rules.is_sorted_by(|a, b| a < b));
        is_canonical.then_some(Self(groups)).ok_or("rules that are not in their order")
    }
}
