//! Who may do what, decided without the broker's tables, from the lines of the rules.

use ledgermq_core::access::{Access as Kind, RuleList, Subject};
use ledgermq_core::offset::{Index, Offset};

use crate::oracle::owing::matches;

/// The rules that were ever in force, the last last.
#[derive(Debug, Default)]
pub(crate) struct Access {
    history: Vec<(Offset, Option<RuleList>)>,
}

impl Access {
    pub(crate) fn replace(&mut self, at: Offset, rules: Option<RuleList>) {
        self.history.push((at, rules));
    }

    /// Whether there were ever others.
    pub(crate) fn has_changed(&self) -> bool {
        !self.history.is_empty()
    }

    /// The rules after so many changes; none if everything is allowed.
    pub(crate) fn at(&self, changes: usize) -> Option<&RuleList> {
        self.history[..changes].last().and_then(|(_, rules)| rules.as_ref())
    }

    /// How many changes stand before index `position`.
    pub(crate) fn before(&self, position: Index) -> usize {
        self.history.partition_point(|(at, _)| at.index < position)
    }

    /// How many changes there were.
    pub(crate) fn count(&self) -> usize {
        self.history.len()
    }

    /// Whether the rules in force allow `kind` ("read" or "write") of `topic`.
    pub(crate) fn may(&self, client: &str, user: Option<&str>, kind: &str, topic: &str) -> bool {
        allows(self.at(self.count()), client, user, kind, topic)
    }

    /// Whether rules that were in force after `changes` changes, or later, allow it.
    pub(crate) fn may_since(
        &self,
        changes: usize,
        (client, user): (&str, Option<&str>),
        kind: &str,
        topic: &str,
    ) -> bool {
        (changes..=self.count()).any(|at| allows(self.at(at), client, user, kind, topic))
    }
}

fn allows(
    rules: Option<&RuleList>,
    client: &str,
    user: Option<&str>,
    kind: &str,
    topic: &str,
) -> bool {
    let Some(rules) = rules else { return true };
    let (mut is_granted, mut is_denied) = (false, false);
    for group in rules.groups() {
        let is_ours = match &group.subject {
            Subject::Everyone => true,
            Subject::Nameless => user.is_none(),
            Subject::User(name) => user == Some(&**name),
        };
        for (access, filter) in group.rules.iter().filter(|_| is_ours) {
            let filter = filter.as_str().replace("%c", client);
            if !matches(&filter, topic) {
                continue;
            }
            match access {
                Kind::Deny => is_denied = true,
                Kind::ReadWrite => is_granted = true,
                Kind::Read => is_granted |= kind == "read",
                Kind::Write => is_granted |= kind == "write",
            }
        }
    }
    is_granted && !is_denied
}
