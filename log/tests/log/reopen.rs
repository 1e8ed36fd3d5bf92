//! What was acknowledged is there again.

use ledgermq_core::event::Event;
use ledgermq_log::{Class, OpenError};

use crate::support::{Bell, open, options, push, stop, take, take_all};

#[test]
fn what_is_pushed_comes_out_of_the_tail_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, thread) = open(&options(dir.path()));
    let (bell, rings) = Bell::new();
    let mut tail = log.tail_gapless(1, bell);
    let mut producer = log.producer(Bell::mute());
    let wanted: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    for payload in &wanted {
        push(&mut producer, payload.as_bytes());
    }
    assert_eq!(take(&mut tail, &rings, 1000), wanted);
    stop((log, thread));
}

#[test]
fn a_log_that_is_opened_again_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut wanted = Vec::new();
    let mut last_start = 0;
    for round in 0..4 {
        let (log, thread) = open(&options(dir.path()));
        assert!(log.start() > last_start);
        last_start = log.start();
        assert_eq!(take_all(&log).expect("reads"), wanted);
        let (bell, rings) = Bell::new();
        let mut tail = log.tail_gapless(log.committed() + 1, bell);
        let mut producer = log.producer(Bell::mute());
        let new: Vec<String> = (0..50).map(|i| format!("{round} {i} {:>30000}", "x")).collect();
        for payload in &new {
            push(&mut producer, payload.as_bytes());
        }
        assert_eq!(take(&mut tail, &rings, 50), new);
        wanted.extend(new);
        stop((log, thread));
    }
}

#[test]
fn a_blocking_append_returns_its_receipt() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, thread) = open(&options(dir.path()));
    let mut events = log.builder();
    events.push(None, None, &Event::NodeStarted { node: 1, start: log.start() });
    let receipt = log.append(Class::Progress, events).expect("appended");
    let batch = log.read(receipt.index).expect("reads").expect("is there");
    assert_eq!(batch.time, receipt.time);
    assert!(batch.is_clean());
    stop((log, thread));
}

#[test]
fn a_batch_without_events_is_appended_and_taken_by_whoever_asks_for_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, thread) = open(&options(dir.path()));
    let receipt = log.append(Class::Progress, log.builder()).expect("appended");
    let mut tail = log.tail_gapless(receipt.index, Bell::mute());
    let mut batches = Vec::new();
    tail.take(0, &mut batches).expect("the log runs");
    assert_eq!(batches.len(), 1, "at least one if one is there");
    assert_eq!((batches[0].index, batches[0].batch().len()), (receipt.index, 0));
    stop((log, thread));
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(&options(dir.path()));
    let error = ledgermq_log::open(options(dir.path())).expect_err("refused");
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    stop(first);
    stop(open(&options(dir.path())));
}

#[test]
fn the_log_of_another_node_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    stop(open(&options(dir.path())));
    let mut foreign = options(dir.path());
    foreign.node = 2;
    let error = ledgermq_log::open(foreign).expect_err("refused");
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}
