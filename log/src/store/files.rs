//! Which entries stand in which file.

use std::collections::VecDeque;

use ledgermq_core::offset::Index;

/// Bytes at the head of a file of raft-engine: magic, version and alignment.
pub(super) const HEADER_BYTES: u64 = 69;

/// One file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileRange {
    /// raft-engine's number of the file.
    pub(super) seq: u64,
    /// Index that was next when the file was begun: nothing in earlier files is at or above it.
    pub(super) first: Index,
    /// Bytes, with the header.
    pub(super) bytes: u64,
}

/// The files, oldest first; never empty once the log is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(VecDeque<FileRange>);

impl Files {
    pub(super) fn new(files: impl IntoIterator<Item = FileRange>) -> Self {
        Self(files.into_iter().collect())
    }

    /// Notes a write of `bytes` to file `seq`, whose first entry is (or, if it has none, the next
    /// entry will be) `first`.
    pub(super) fn wrote(&mut self, seq: u64, bytes: u64, first: Index) {
        let mut newest = self.0.back().map_or(seq.saturating_sub(1), |file| file.seq);
        // A full disk can make raft-engine begin two files for one write.
        while newest < seq {
            newest += 1;
            self.0.push_back(FileRange { seq: newest, first, bytes: HEADER_BYTES });
        }
        if let Some(file) = self.0.back_mut() {
            file.bytes += bytes;
        }
    }

    /// Number and size of the newest file.
    pub(super) fn end(&self) -> (u64, u64) {
        self.0.back().map_or((0, 0), |file| (file.seq, file.bytes))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|file| file.bytes).sum()
    }

    /// The last file that can go if nothing up to `upto` is needed, and the first index that then
    /// remains. The last entry of the log, `last`, always does: what is left says where it stands.
    pub(super) fn purgeable(&self, upto: Index, last: Index) -> Option<(u64, Index)> {
        let upto = upto.min(last.saturating_sub(1));
        self.pairs()
            .take_while(|(_, next)| next.first <= upto.saturating_add(1))
            .last()
            .map(|(file, next)| (file.seq, next.first))
    }

    /// The index up to which must be purged so that at least `bytes` are freed and nothing up to
    /// `spare` remains; as near to that as whole files and the entry `last` allow.
    pub(super) fn purge_point(&self, bytes: u64, spare: Index, last: Index) -> Option<Index> {
        let mut freed = 0;
        let mut point = None;
        for (file, next) in self.pairs() {
            if (freed >= bytes && file.first > spare) || next.first > last {
                break;
            }
            freed += file.bytes;
            point = Some(next.first - 1);
        }
        point
    }

    pub(super) fn drop_upto(&mut self, seq: u64) {
        while self.0.len() > 1 && self.0.front().is_some_and(|file| file.seq <= seq) {
            self.0.pop_front();
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&FileRange, &FileRange)> {
        self.0.iter().zip(self.0.iter().skip(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four_files() -> Files {
        let mut files = Files::new([FileRange { seq: 3, first: 1, bytes: 100 }]);
        files.wrote(4, 31, 11);
        files.wrote(5, 31, 21);
        files.wrote(6, 31, 31);
        files
    }

    #[test]
    fn only_whole_files_below_the_bound_are_purgeable() {
        let files = four_files();
        assert_eq!(files.purgeable(9, 40), None);
        assert_eq!(files.purgeable(10, 40), Some((3, 11)));
        assert_eq!(files.purgeable(29, 40), Some((4, 21)));
        assert_eq!(files.purgeable(1000, 40), Some((5, 31)), "the newest file stays");
        assert_eq!(files.purgeable(1000, 30), Some((4, 21)), "it holds no entry");
    }

    #[test]
    fn the_purge_point_frees_enough_whole_files() {
        let files = four_files();
        assert_eq!(files.purge_point(0, 0, 40), None);
        assert_eq!(files.purge_point(1, 0, 40), Some(10));
        assert_eq!(files.purge_point(101, 0, 40), Some(20));
        assert_eq!(files.purge_point(0, 12, 40), Some(20), "as many entries as asked go");
        assert_eq!(files.purge_point(u64::MAX, 0, 40), Some(30));
        assert_eq!(files.purge_point(u64::MAX, 0, 30), Some(20), "the last entry stays");
    }
}
