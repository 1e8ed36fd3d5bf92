//! Access rules come in force by an event.

use ledgermq_core::access::RuleList;
use ledgermq_core::offset::Timestamp;

use crate::projector::{Append, Asked, Events, Output, Projector};

/// Access rules that are to be in force, until they are. None: no rules, everything is open that
/// needs none.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Whatever is in force.
    ordered: Option<Option<RuleList>>,
    /// Unless the log has rules.
    offered: Option<Option<RuleList>>,
}

impl Wanted {
    /// Whether some are.
    pub(super) fn is_any(&self) -> bool {
        self.ordered.is_some() || self.offered.is_some()
    }
}

impl Projector {
    /// Puts access rules in force, by an event, if others are. None: no rules, everything is open
    /// that needs none.
    ///
    /// It is the projector's business since it also publishes the wills: one append is under way at
    /// a time, so a will that was found allowed does not come behind rules of this node that forbid
    /// it. Those of another node can come in between, as with any message that a node has taken.
    pub fn set_rules(&mut self, rules: Option<RuleList>) {
        self.rules = Wanted { ordered: Some(rules), offered: None };
    }

    /// Puts access rules in force if none ever were. Else those of the log are: another member may
    /// have put them there, for all.
    pub fn offer_rules(&mut self, rules: Option<RuleList>) {
        self.rules.offered = Some(rules);
    }

    pub(super) fn append_rules(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if !self.is_free() {
            return;
        }
        // The log is applied up to this start of the node: what it has is known.
        if let Some(offered) = self.rules.offered.take()
            && self.reader.with(|views| views.access().since().is_none())
        {
            self.rules.ordered.get_or_insert(offered);
        }
        let Some(wanted) = &self.rules.ordered else { return };
        if self.reader.with(|views| views.access().rules().list() == wanted.as_ref()) {
            self.rules.ordered = None;
        } else if now >= self.next_due {
            self.append = Append::Sent;
            self.asked = Asked::Yes;
            out.push(Output::Append(Events::AccessRules(wanted.clone())));
        }
    }
}
