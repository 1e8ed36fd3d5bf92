//! Where the cut and the snapshot that came in stand, between the log thread and the projections'.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledgermq_core::offset::Index;

use super::{Cut, Incoming, Received};

/// Shared by the log thread and the projections' threads.
#[derive(Default)]
pub(crate) struct Snapshots {
    cut: CutState,
    incoming: Option<Offered>,
    /// The last snapshot that the log jumped to, or is about to.
    installed: Option<Index>,
    /// The projections have been told of it.
    is_told: bool,
    /// Somebody asks for cuts.
    is_served: bool,
    /// The projections began behind this index.
    began_behind: Index,
}

#[derive(Default)]
enum CutState {
    #[default]
    None,
    Wanted(Arc<Cut>),
    Writing(Arc<Cut>),
    Ended(CutEnd),
}

/// How a cut ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CutEnd {
    /// It stands in its file.
    Finished(Written),
    /// It was refused, or dropped unfinished, and why.
    Failed(String),
}

/// A finished cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Everything up to here is in it.
    pub(crate) index: Index,
    /// Bytes of the stream.
    pub(crate) bytes: u64,
    /// Checksum of the checksums of its chunks.
    pub(crate) sums: u32,
    /// Checksum of the views.
    pub(crate) checksum: u64,
}

struct Offered {
    received: Arc<Received>,
    answer: Option<Result<(), String>>,
}

impl Snapshots {
    /// Wants a cut; no other may be on its way.
    pub(crate) fn want(&mut self, cut: Cut) {
        debug_assert!(matches!(self.cut, CutState::None), "one cut at a time");
        self.cut = CutState::Wanted(Arc::new(cut));
    }

    /// Index of the cut that nobody has begun yet.
    pub(crate) fn wanted(&mut self) -> Option<Index> {
        self.is_served = true;
        match &self.cut {
            CutState::Wanted(cut) => Some(cut.index),
            CutState::None | CutState::Writing(_) | CutState::Ended(_) => None,
        }
    }

    /// Whether somebody has asked for cuts: if not, none will be made.
    pub(crate) fn is_served(&self) -> bool {
        self.is_served
    }

    /// Somebody reads the log as state, and has what is up to `index`.
    pub(crate) fn begins_behind(&mut self, index: Index) {
        self.began_behind = self.began_behind.max(index);
    }

    /// What the projections began with, which is committed whatever this process knows.
    pub(crate) fn began_behind(&self) -> Index {
        self.began_behind
    }

    /// Whether somebody would make a cut at `index`: a process may begin with a state that is beyond
    /// what it knows to be committed, and does not go back.
    pub(crate) fn may_cut(&self, index: Index) -> bool {
        self.is_served && index >= self.began_behind
    }

    /// Begins the cut that is wanted, if it is the one at `index`.
    pub(crate) fn begin(&mut self, index: Index) -> Option<Arc<Cut>> {
        let CutState::Wanted(cut) = &self.cut else { return None };
        let cut = Some(cut).filter(|cut| cut.index == index).cloned()?;
        self.cut = CutState::Writing(Arc::clone(&cut));
        Some(cut)
    }

    /// Refuses the cut that is wanted at `index`, which nobody has begun; `false` if it is another one.
    pub(crate) fn refuse(&mut self, index: Index, why: &str) -> bool {
        let is_it = matches!(&self.cut, CutState::Wanted(cut) if cut.index == index);
        if is_it {
            self.cut = CutState::Ended(CutEnd::Failed(why.to_owned()));
        }
        is_it
    }

    /// Ends the cut; `false` if it is no longer being written: it was given up, or has ended.
    pub(crate) fn end(&mut self, cut: &Arc<Cut>, end: CutEnd) -> bool {
        let is_it = matches!(&self.cut, CutState::Writing(writing) if Arc::ptr_eq(writing, cut));
        if is_it {
            self.cut = CutState::Ended(end);
        }
        is_it
    }

    /// The cut that is wanted or being written, and how many bytes it has.
    pub(crate) fn running(&self) -> Option<(Index, u64)> {
        match &self.cut {
            CutState::Wanted(cut) => Some((cut.index, 0)),
            CutState::Writing(cut) => Some((cut.index, 1 + cut.progress.load(Ordering::Relaxed))),
            CutState::None | CutState::Ended(_) => None,
        }
    }

    /// Gives the cut up: whoever writes it is told at the next write.
    pub(crate) fn give_up(&mut self) {
        if let CutState::Wanted(cut) | CutState::Writing(cut) = std::mem::take(&mut self.cut) {
            cut.give_up();
        }
    }

    /// How the cut ended, once.
    pub(crate) fn take_end(&mut self) -> Option<CutEnd> {
        match std::mem::take(&mut self.cut) {
            CutState::Ended(end) => Some(end),
            other => {
                self.cut = other;
                None
            }
        }
    }

    /// Shows a snapshot to the projections, which answer [`Self::answer`]; `false` while they have
    /// not been told of the last one that the log jumped to.
    pub(crate) fn offer(&mut self, received: Received) -> bool {
        let may = self.installed.is_none() || self.is_told;
        if may {
            self.incoming = Some(Offered { received: Arc::new(received), answer: None });
        }
        may
    }

    /// The snapshot that is to be taken in. It is shown until the log is at it or withdraws it.
    pub(crate) fn incoming(&self) -> Option<Incoming> {
        self.incoming.as_ref().map(|offered| Incoming::new(&offered.received))
    }

    /// The projections' answer; `false` if the log does not wait for it.
    pub(crate) fn imported(&mut self, index: Index, result: Result<(), String>) -> bool {
        let offered = self
            .incoming
            .as_mut()
            .filter(|offered| offered.received.index == index && offered.answer.is_none());
        let is_awaited = offered.is_some();
        if let Some(offered) = offered {
            offered.answer = Some(result);
        }
        is_awaited
    }

    /// What the projections answered to the snapshot that is shown to them.
    pub(crate) fn answer(&self) -> Option<(Arc<Received>, Result<(), String>)> {
        let offered = self.incoming.as_ref()?;
        offered.answer.clone().map(|answer| (Arc::clone(&offered.received), answer))
    }

    /// Shows no snapshot any more: what was taken in of it is void.
    pub(crate) fn withdraw(&mut self) {
        self.incoming = None;
    }

    /// The log jumps to the snapshot that is shown, at `index`. It is shown until the projections know:
    /// else they would take it for withdrawn.
    pub(crate) fn installing(&mut self, index: Index) {
        (self.installed, self.is_told) = (Some(index), false);
    }

    /// Whether a tail that finds nothing up to `index` finds there the snapshot that the log jumped
    /// to. The projections know of it from then on.
    pub(crate) fn is_at(&mut self, index: Index) -> bool {
        let is_there = self.installed == Some(index);
        if is_there && !self.is_told {
            (self.is_told, self.incoming) = (true, None);
        }
        is_there
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;
    use crate::snapshots::{MemoryFiles, Room, SnapshotFiles};

    fn files() -> Arc<dyn SnapshotFiles> {
        Arc::new(MemoryFiles::default())
    }

    fn cut(index: Index) -> Cut {
        let prologue = Box::new(|_: &mut dyn std::io::Write| Ok(()));
        let (name, progress) = ("cut".to_owned(), AtomicU64::new(0));
        let is_given_up = AtomicBool::new(false);
        Cut { index, files: files(), name, prologue, room: Room::ANY, progress, is_given_up }
    }

    fn received(index: Index) -> Received {
        let name = "in".to_owned();
        Received { index, checksum: 7, files: files(), name, bytes: 0, prologue: 0 }
    }

    fn written(index: Index) -> Written {
        Written { index, bytes: 10, sums: 3, checksum: 7 }
    }

    #[test]
    fn a_cut_is_wanted_written_and_finished() {
        let mut snapshots = Snapshots::default();
        assert!(!snapshots.is_served());
        assert_eq!(snapshots.wanted(), None);
        assert!(snapshots.is_served() && snapshots.may_cut(3));
        snapshots.begins_behind(4);
        assert!(!snapshots.may_cut(3) && snapshots.may_cut(4));
        snapshots.want(cut(5));
        assert_eq!((snapshots.wanted(), snapshots.running()), (Some(5), Some((5, 0))));
        assert!(snapshots.begin(4).is_none(), "another one");
        let begun = snapshots.begin(5).expect("wanted");
        assert!(snapshots.begin(5).is_none(), "twice");
        assert_eq!((snapshots.wanted(), snapshots.running()), (None, Some((5, 1))));
        assert_eq!(snapshots.take_end(), None);
        assert!(snapshots.end(&begun, CutEnd::Finished(written(5))));
        assert!(!snapshots.end(&begun, CutEnd::Failed(String::new())), "it has ended");
        assert_eq!(snapshots.running(), None);
        assert_eq!(snapshots.take_end(), Some(CutEnd::Finished(written(5))));
        assert_eq!(snapshots.take_end(), None);
    }

    #[test]
    fn a_cut_that_was_given_up_ends_without_effect() {
        let mut snapshots = Snapshots::default();
        snapshots.want(cut(5));
        let begun = snapshots.begin(5).expect("wanted");
        snapshots.give_up();
        assert!(begun.is_given_up.load(Ordering::Relaxed));
        snapshots.want(cut(5));
        assert!(snapshots.begin(5).is_some());
        assert!(!snapshots.end(&begun, CutEnd::Finished(written(5))), "another of that index");
        assert_eq!(snapshots.take_end(), None);
    }

    #[test]
    fn a_cut_is_refused_before_it_is_begun() {
        let mut snapshots = Snapshots::default();
        assert!(!snapshots.refuse(5, "none is wanted"));
        snapshots.want(cut(5));
        assert!(!snapshots.refuse(4, "another one"));
        assert!(snapshots.refuse(5, "the views are beyond"));
        let end = CutEnd::Failed("the views are beyond".to_owned());
        assert_eq!(snapshots.take_end(), Some(end));
        assert!(!snapshots.refuse(5, "twice") && snapshots.begin(5).is_none());
    }

    #[test]
    fn an_incoming_one_is_offered_and_imported() {
        let mut snapshots = Snapshots::default();
        assert!(snapshots.incoming().is_none());
        assert!(snapshots.offer(received(9)));
        let incoming = snapshots.incoming().expect("offered");
        assert_eq!((incoming.index, incoming.checksum), (9, 7));
        assert!(!snapshots.imported(8, Ok(())), "another one");
        assert!(snapshots.answer().is_none());
        assert!(snapshots.imported(9, Err("no".to_owned())));
        assert!(!snapshots.imported(9, Ok(())), "it was answered");
        assert_eq!(snapshots.answer().map(|(_, answer)| answer), Some(Err("no".to_owned())));
        snapshots.installing(9);
        assert!(snapshots.incoming().is_some(), "until the projections know");
        assert!(snapshots.is_at(9));
        assert!(snapshots.incoming().is_none());
    }

    #[test]
    fn one_that_is_withdrawn_is_answered_in_vain() {
        let mut snapshots = Snapshots::default();
        assert!(snapshots.offer(received(9)));
        snapshots.withdraw();
        assert!(snapshots.incoming().is_none());
        assert!(!snapshots.imported(9, Ok(())) && snapshots.answer().is_none());
        assert!(!snapshots.is_at(9));
    }

    #[test]
    fn the_next_one_waits_until_the_projections_know_of_the_last() {
        let mut snapshots = Snapshots::default();
        assert!(snapshots.offer(received(9)));
        snapshots.installing(9);
        assert!(!snapshots.offer(received(20)));
        assert!(!snapshots.is_at(8));
        assert!(snapshots.is_at(9));
        assert!(snapshots.offer(received(20)));
    }
}
