use std::path::PathBuf;
use std::sync::OnceLock;

use ledgermq_core::offset::Timestamp;

use super::*;
use crate::envelope::{self, ENVELOPE_BYTES};

/// A disk whose entries are read just before a purge forgets their marks.
#[derive(Default)]
struct PurgedMeanwhile(OnceLock<Arc<Shared>>);

impl LogReader for PurgedMeanwhile {
    fn first_index(&self) -> Index {
        1
    }

    fn read(&self, from: Index, _: usize, out: &mut Vec<Entry>) -> Result<(), ReadError> {
        let mut bytes = BatchBuilder::new(ENVELOPE_BYTES).finish(Vec::new());
        envelope::close(&mut bytes, ProducerId { node: 1, start: 1, local: 0 }, 1, Timestamp(1));
        envelope::stamp(&mut bytes, Timestamp(1));
        let mut entry = Entry::new();
        (entry.index, entry.data) = (from, bytes.into());
        out.push(entry);
        if let Some(shared) = self.0.get() {
            shared.voids.write().expect("not poisoned").clear();
        }
        Ok(())
    }

    fn locate(&self, _: Index) -> Option<(PathBuf, u64)> {
        None
    }
}

#[test]
fn a_void_batch_that_is_read_beside_a_purge_stays_void() {
    for by_tail in [false, true] {
        let disk = Arc::new(PurgedMeanwhile::default());
        let ring = Ring::new(9, 1);
        let shared = Shared::new(disk.clone(), ring, Status::default(), 1 << 20, 1, 1);
        let shared = Arc::new(shared.with_voids([(5, Voids::All)].into()));
        assert!(disk.0.set(Arc::clone(&shared)).is_ok());
        let batch = if by_tail {
            let mut batches = Vec::new();
            shared.read_from(5, 9, 1, &mut batches).expect("readable");
            batches.pop()
        } else {
            shared.read(5).expect("readable")
        };
        assert!(!batch.expect("a batch").is_admitted());
    }
}
