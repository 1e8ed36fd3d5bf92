//! What the projections append.

use ledgermq_core::access::RuleList;
use ledgermq_core::event::batch::TARGET_BYTES;
use ledgermq_core::event::{BatchBuilder, Event};

use crate::views::due::Due;

/// Events for one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Events {
    /// This process started: the connections of its predecessors are gone.
    NodeStarted {
        /// The node.
        node: u64,
        /// Start epoch of the process.
        start: u64,
    },
    /// The access rules are to be others.
    AccessRules(Option<RuleList>),
    /// What is due, the first first.
    Due(Vec<Due>),
}

impl Events {
    /// Appends the events to a batch, up to its target size but at least one. What finds no room
    /// is still due when the batch is applied.
    pub fn write(&self, batch: &mut BatchBuilder) {
        match self {
            Self::NodeStarted { node, start } => {
                let (node, start) = (*node, *start);
                batch.push(None, None, &Event::NodeStarted { node, start });
            }
            Self::AccessRules(rules) => {
                let rules = rules.clone();
                batch.push(None, None, &Event::AccessRulesReplaced { rules });
            }
            Self::Due(due) => {
                for event in due {
                    if !batch.is_empty() && batch.bytes() + event.bytes() > TARGET_BYTES {
                        return;
                    }
                    event.write(batch);
                }
            }
        }
    }
}
