//! Notices of the projections on their way to the workers.

#[cfg(test)]
mod tests;

use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::Index;
use ledgermq_log::Log;
use ledgermq_projections::notice::{Notice, NoticeSink};

use crate::inbox::{Inbound, Inbox, Inboxes};

/// Hands notices to the worker whose connection they concern. The views know the connections of all
/// nodes, and those of earlier starts: a worker hears of its own only.
pub(crate) struct Notices {
    pub(crate) inboxes: Inboxes,
    pub(crate) log: Log,
}

impl NoticeSink for Notices {
    fn notices(&mut self, _applied: Index, notices: &mut Vec<Notice>) {
        let (own_node, own_start) = (self.log.node(), self.log.start());
        for notice in notices.drain(..) {
            let ProducerId { node, start, local } = notice.producer();
            if (node, start) != (own_node, own_start) {
                continue;
            }
            if let Some(inbox) = self.inboxes.of_producer(local) {
                inbox.push(Inbound::Notice(notice));
            }
        }
        self.inboxes.iter().for_each(Inbox::views_applied);
    }
}
