//! What is remembered of what was read, and for how long.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::QoS;
use ledgermq_projections::checkpoint::{MemoryStore, Store};
use ledgermq_projections::projector::{Options, Projector};
use ledgermq_projections::views::Limits;

use super::*;

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

/// The next answer of the reader thread.
fn answer(inbox: &Inbox) -> (u64, Loaded) {
    let mut inbound = Vec::new();
    loop {
        inbox.take(&mut inbound);
        match inbound.pop() {
            Some(Inbound::Loaded(generation, loaded)) => return (generation, loaded),
            Some(other) => unreachable!("{other:?}"),
            None => thread::yield_now(),
        }
    }
}

#[test]
fn what_was_gone_before_the_views_changed_is_looked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = ledgermq_log::Options::new(directory.path().join("log"), 1);
    let (log, log_thread) = ledgermq_log::open(options).unwrap();
    let mut store = MemoryStore::default();
    let options = Options {
        node: 1,
        start: 1,
        limits: Limits::default(),
        checkpoint_interval: Duration::from_secs(5),
    };
    let projector = Projector::open(options, &mut store, 1, 0).unwrap();
    let poll = mio::Poll::new().unwrap();
    let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
    let inbox = Arc::new(Inbox::new(waker));
    let (mut sources, reader) =
        LogSources::start(projector.reader(), log.clone(), Arc::clone(&inbox), 0).unwrap();
    let kept = |sources: &mut LogSources| match sources.kept(AT, std::iter::empty()) {
        Fetched::Loading => "loading",
        Fetched::Gone => "gone",
        Fetched::Ready(_) => "ready",
    };
    assert_eq!(kept(&mut sources), "loading");
    let (generation, loaded) = answer(&inbox);
    sources.on_loaded(generation, loaded).unwrap();
    assert_eq!(kept(&mut sources), "gone");

    // A snapshot has it. An answer to a question of before comes late.
    sources.forget();
    assert_eq!(kept(&mut sources), "loading");
    let (generation, late) = answer(&inbox);
    sources.forget();
    store.keep(AT.index, &[message()]).unwrap();
    assert_eq!(kept(&mut sources), "loading");
    sources.on_loaded(generation, late).unwrap();
    assert_eq!(kept(&mut sources), "loading");
    let (generation, loaded) = answer(&inbox);
    sources.on_loaded(generation, loaded).unwrap();
    assert_eq!(kept(&mut sources), "ready");

    drop(sources);
    reader.join().unwrap();
    log.stop();
    log_thread.join().unwrap();
}
