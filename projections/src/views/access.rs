//! The access rules in force, and what follows when they change.

use ledgermq_core::access::{Action, Identity, RuleList, Rules};
use ledgermq_core::offset::Offset;
use ledgermq_core::topic::TopicFilter;
use serde::{Deserialize, Serialize};

use crate::views::Views;
use crate::views::dirty::Row;
use crate::views::fold::Place;
use crate::views::session::Session;

/// The access rules and the event that brought them.
#[derive(Clone, Debug, Default)]
pub struct Access {
    rules: Rules,
    since: Option<Offset>,
}

/// The row of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Stored {
    rules: Option<RuleList>,
    since: Option<Offset>,
}

impl Access {
    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Where they were put in force; none if no rules ever were.
    #[must_use]
    pub fn since(&self) -> Option<Offset> {
        self.since
    }

    /// The row of a checkpoint; none before the first rules.
    pub(crate) fn row(&self) -> Option<Vec<u8>> {
        self.since?;
        let stored = Stored { rules: self.rules.list().cloned(), since: self.since };
        Some(postcard::to_stdvec(&stored).expect("a Vec takes every row"))
    }

    /// Reads what [`Access::row`] wrote.
    pub(crate) fn load(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let Stored { rules, since } = postcard::from_bytes(bytes)?;
        Ok(Self { rules: Rules::new(rules.as_ref()), since })
    }

    /// Whether `session` may be delivered messages of `topic`.
    pub(crate) fn may_receive(&self, session: &Session, topic: &str) -> bool {
        self.rules.may(&identity(session), Action::Receive, topic)
    }

    /// Whether `session` may be a member of `group`.
    pub(crate) fn may_join(&self, session: &Session, group: &TopicFilter) -> bool {
        self.rules.may(&identity(session), Action::Subscribe, group.as_str())
    }
}

impl Views {
    /// The access rules.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Rights change for everybody at once: from here on nothing is owed that may not be received,
    /// wills that may not be published any more are called off, and members of groups that may not
    /// receive all that their group does are passed over. What is owed already is judged
    /// when it is delivered.
    pub(super) fn access_rules_replaced(&mut self, place: &Place, rules: Option<&RuleList>) {
        self.counters.rules_replaced += 1;
        self.access = Access { rules: Rules::new(rules), since: Some(place.at) };
        self.dirty.touch(Row::Access);
        self.subscriptions.forget();
        let forbidden: Vec<Offset> = self
            .wills
            .iter()
            .filter(|(_, will)| {
                !self.access.rules.may(&will.author(), Action::Publish, &will.message.topic)
            })
            .map(|(epoch, _)| epoch)
            .collect();
        for epoch in forbidden {
            self.counters.wills_forbidden += 1;
            self.wills.remove(epoch);
            self.dirty.touch(Row::Will(epoch));
        }
        self.judge_members();
    }
}

fn identity(session: &Session) -> Identity<'_> {
    Identity { client: session.client(), username: session.username() }
}
