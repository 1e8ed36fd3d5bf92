//! What a shard asks for and does not hold.

use std::sync::Arc;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Index, Offset};
use ledgermq_log::CommittedBatch;
use ledgermq_projections::views::owed::Owed;
use ledgermq_projections::views::retained::RetainedMessage;

/// Where a shard reads what it does not hold: the log and the views.
pub trait Sources {
    /// The committed batch at `index`.
    fn batch(&mut self, index: Index) -> Fetched<Arc<CommittedBatch>>;
    /// The message that was published at `at`, as it was kept before the log was purged. Those
    /// `ahead` will be asked for next.
    fn kept(
        &mut self,
        at: Offset,
        ahead: impl Iterator<Item = Offset>,
    ) -> Fetched<Arc<RetainedMessage>>;
    /// The next messages owed to the persistent session of `client` after `after`, at most `max`;
    /// answers up to which index the view has applied the log.
    fn owed(&mut self, client: &str, after: DeliveryRef, max: usize, out: &mut Vec<Owed>) -> Index;
    /// Whether any session subscribes to `topic`, by what the views have applied.
    fn interest(&mut self, topic: &str) -> Interest;
    /// Whether `topic` has a retained message, by what the views have applied.
    fn is_retained(&mut self, topic: &str) -> bool;
    /// Whether `client` has a session that outlives its connection, by what the views have applied.
    fn has_session(&mut self, client: &str) -> bool;
}

/// Whether anybody subscribes to a topic.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    /// Whether a session does, connected or not.
    pub is_any: bool,
    /// The last batch that changed which topics are subscribed to.
    pub since: Index,
    /// Up to where that is known, at least.
    pub upto: Index,
}

/// Answer to a request for a batch or for a kept message.
#[derive(Clone, Debug)]
pub enum Fetched<T> {
    /// Here it is.
    Ready(T),
    /// It is being read, or cannot be read at the moment: [`Shard::retry`](crate::shard::Shard::retry) when it is there.
    Loading,
    /// It is not there and will never be: purged, or not kept.
    Gone,
}

impl<T> Fetched<T> {
    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Fetched<U> {
        match self {
            Self::Ready(content) => Fetched::Ready(map(content)),
            Self::Loading => Fetched::Loading,
            Self::Gone => Fetched::Gone,
        }
    }

    /// Asks `other` if it is not here.
    pub(super) fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Gone => other(),
            found => found,
        }
    }
}
