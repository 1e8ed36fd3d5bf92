//! Whose notices come to whom.

use std::sync::Arc;

use ledgermq_core::offset::Offset;
use ledgermq_core::reason::ReasonCode;
use ledgermq_log::Options;
use mio::{Poll, Waker};

use super::*;
use crate::worker::sockets::WAKER;

fn ended(producer: ProducerId) -> Notice {
    let (epoch, reason) = (Offset::new(1, 0), ReasonCode::SessionTakenOver);
    Notice::SessionEnded { producer, client: "c".into(), epoch, reason }
}

#[test]
fn a_worker_hears_of_connections_of_its_own_node_and_start_only() {
    let dir = tempfile::tempdir().unwrap();
    let (log, thread) = ledgermq_log::open(Options::new(dir.path().to_path_buf(), 1)).unwrap();
    let polls = [Poll::new().unwrap(), Poll::new().unwrap()];
    let inbox = |poll: &Poll| Arc::new(Inbox::new(Waker::new(poll.registry(), WAKER).unwrap()));
    let inboxes = Inboxes::new((1..).zip(polls.iter().map(inbox)));
    let mut sink = Notices { inboxes: inboxes.clone(), log: log.clone() };
    let own = ProducerId { node: 1, start: log.start(), local: 1 };
    let others = [
        ProducerId { node: 2, ..own },
        ProducerId { start: own.start - 1, ..own },
        ProducerId { start: own.start + 1, ..own },
        ProducerId { local: 3, ..own },
    ];
    let mut notices: Vec<Notice> = others.into_iter().chain([own]).map(ended).collect();
    sink.notices(1, &mut notices);
    assert!(notices.is_empty(), "all are dealt with");
    let counts = inboxes.iter().map(|inbox| {
        let mut inbound = Vec::new();
        inbox.take(&mut inbound);
        inbound.len()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1, 0]);
    log.stop();
    thread.join().unwrap();
}
