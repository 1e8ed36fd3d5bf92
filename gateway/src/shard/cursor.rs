//! Finding records of a batch one behind the other.

use ledgermq_core::event::batch::Fence;
use ledgermq_core::offset::Index;
use ledgermq_log::CommittedBatch;

/// The record that was found last. Records have no index, and whoever reads some of a batch reads
/// them in their order, mostly: the next one is looked for behind the last.
#[derive(Debug, Default)]
pub(super) struct Cursor(Option<(Index, Fence)>);

impl Cursor {
    /// Where the record with this ordinal stands; none if there is no such record.
    pub(super) fn find(&mut self, batch: &CommittedBatch, ordinal: u32) -> Option<Fence> {
        let last = self.0.filter(|(index, last)| *index == batch.index && last.ordinal <= ordinal);
        let start = last.map_or(Fence { ordinal: 0, position: 0 }, |(_, last)| last);
        let mut records = batch.batch().records_from(start).map_while(Result::ok);
        let found = records.find(|record| record.ordinal == ordinal)?.place();
        self.0 = Some((batch.index, found));
        Some(found)
    }
}
