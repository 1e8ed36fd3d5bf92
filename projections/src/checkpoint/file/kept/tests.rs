//! Kept messages while the file is closed.

use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;

use crate::checkpoint::file::{FileStore, builder};
use crate::checkpoint::{Kept, Store};
use crate::views::retained::RetainedMessage;

const AT: Offset = Offset { index: 7, ordinal: 0 };

fn message() -> RetainedMessage {
    RetainedMessage {
        topic: "t".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Box::default(),
        payload: b"kept".as_slice().into(),
        message_expiry_interval: None,
        time: Timestamp(1),
        offset: AT,
        publisher: None,
        key_id: 0,
    }
}

/// A store with one kept message in a file that was closed, as after a commit that failed.
fn closed(directory: &tempfile::TempDir) -> FileStore {
    let mut store = FileStore::open(&directory.path().join("views")).expect("it can be written");
    store.keep(AT.index, &[message()]).expect("it has room");
    store.shared.close(&store.database().expect("it is open"));
    store
}

fn payload(kept: &dyn Kept) -> Option<Vec<u8>> {
    let message = kept.get(AT).expect("it can be read");
    message.map(|message| message.payload.to_vec())
}

#[test]
fn a_closed_file_is_opened_again_by_who_reads_a_kept_message() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = closed(&directory);
    assert_eq!(payload(&*store.kept()), Some(b"kept".to_vec()));
}

#[test]
fn a_file_that_cannot_be_opened_says_nothing_of_what_was_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = closed(&directory);
    let kept = store.kept();
    let other = builder().open(&store.path).expect("nobody has it open");
    kept.get(AT).expect_err("nobody knows");
    drop(other);
    assert_eq!(payload(&*kept), Some(b"kept".to_vec()));
}

#[test]
fn a_file_that_vanished_says_nothing_of_what_was_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = closed(&directory);
    std::fs::remove_file(&store.path).expect("it is there");
    store.kept().get(AT).expect_err("nobody knows");
    assert!(!store.path.exists());
}
