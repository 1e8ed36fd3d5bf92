//! Tests of admission.

use ledgermq_core::event::{BatchBuilder, MessagePublished, SessionOpened};
use ledgermq_core::packet::{ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode;
use proptest::prelude::*;

use super::*;
use crate::envelope::{self, ENVELOPE_BYTES};
use crate::store::simulated::{SimulatedDisk, SimulatedStore};
use crate::store::{LogStore, Unit};
use ledgermq_core::offset::Timestamp;

pub(super) fn producer(local: u16) -> ProducerId {
    ProducerId { node: 1, start: 1, local }
}

pub(super) fn opened(client: &str, interval: u32) -> Event {
    Event::SessionOpened(Box::new(SessionOpened {
        client: client.into(),
        username: None,
        is_proven: false,
        node: 1,
        protocol: ProtocolVersion::V5,
        clean_start: false,
        session_expiry_interval: interval,
        keep_alive: 0,
        peer: String::new(),
        will: None,
    }))
}

fn closed(session_expiry_interval: u32) -> Event {
    let reason = ReasonCode::Success;
    Event::SessionClosed { reason, publish_will: false, session_expiry_interval }
}

fn message(builder: &mut BatchBuilder, client: &str, epoch: Offset) {
    let message = MessagePublished {
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        topic: "t",
        message_expiry_interval: None,
        properties: &[],
        payload: &[],
    };
    builder.publish(Some((&client.into(), epoch)), None, &message);
}

/// A closed batch, whole, with a fenced event that this version does not know.
pub(crate) fn of_a_later_version() -> Vec<u8> {
    /// In front of an event without a cause or a key.
    const RECORD_HEAD: usize = 8;
    let mut builder = BatchBuilder::new(ENVELOPE_BYTES);
    builder.push(None, None, &Event::NodeStarted { node: 2, start: 1 });
    let mut bytes = builder.finish(Vec::new());
    bytes[ENVELOPE_BYTES + RECORD_HEAD] = 0x7f;
    envelope::close(
        &mut bytes,
        ProducerId { node: 2, start: 1, local: 0 },
        1,
        Timestamp::default(),
    );
    bytes
}

#[test]
fn what_the_fold_would_not_understand_is_found_before() {
    let good = commit(1, producer(0), 1, |builder| {
        builder.push(None, None, &opened("c", 0));
        message(builder, "c", Offset::new(1, 0));
    });
    assert_eq!(check(&good.batch()), Ok(()));
    let mut bytes = of_a_later_version();
    envelope::stamp(&mut bytes, Timestamp(1));
    let later = CommittedBatch::open(1, bytes.into(), true).expect("its head is as ever");
    assert_eq!(check(&later.batch()), Err(EventError("unknown event")));
    assert_eq!(check_fences(&later.batch()), Err(EventError("unknown event")));
    assert_eq!(Admission::default().apply(&later), Err(EventError("unknown event")));
}

pub(super) fn commit(
    index: Index,
    producer: ProducerId,
    sequence: u64,
    fill: impl FnOnce(&mut BatchBuilder),
) -> CommittedBatch {
    commit_if(false, index, producer, sequence, fill)
}

fn commit_if(
    is_late: bool,
    index: Index,
    producer: ProducerId,
    sequence: u64,
    fill: impl FnOnce(&mut BatchBuilder),
) -> CommittedBatch {
    let mut builder = BatchBuilder::new(ENVELOPE_BYTES);
    fill(&mut builder);
    let mut bytes = builder.finish(Vec::new());
    envelope::close(&mut bytes, producer, sequence, Timestamp::default());
    if is_late {
        envelope::set_late(&mut bytes);
    }
    envelope::stamp(&mut bytes, Timestamp(index));
    CommittedBatch::open(index, bytes.into(), true).expect("just closed")
}

/// Applies and answers which ordinals are void.
fn voids(admission: &mut Admission, committed: CommittedBatch) -> Vec<u32> {
    let voids = admission.apply(&committed).expect("good bytes");
    let committed = committed.with_voids(voids);
    let batch = committed.batch();
    let records = batch.records().map(|record| record.expect("good bytes"));
    records.filter(|record| committed.is_void(record)).map(|record| record.ordinal).collect()
}

#[test]
fn a_batch_is_admitted_once_and_in_sequence() {
    let mut admission = Admission::default();
    let batch = |index, sequence| {
        commit(index, producer(0), sequence, |b| {
            b.push(None, None, &opened("a", 0));
        })
    };
    assert_eq!(voids(&mut admission, batch(1, 2)), [0], "a gap");
    assert_eq!(voids(&mut admission, batch(2, 1)), []);
    assert_eq!(voids(&mut admission, batch(3, 1)), [0], "a repetition");
    assert_eq!(voids(&mut admission, batch(4, 2)), []);
}

#[test]
fn a_takeover_fences_the_older_epoch_from_its_own_place_on() {
    let mut admission = Admission::default();
    voids(&mut admission, commit(1, producer(0), 1, |b| _ = b.push(None, None, &opened("a", 0))));
    let old = Offset::new(1, 0);
    let mixed = commit(2, producer(1), 1, |b| {
        message(b, "a", old);
        b.push(None, None, &opened("a", 0));
        message(b, "a", old);
    });
    assert_eq!(voids(&mut admission, mixed), [2]);
    let late = commit(3, producer(0), 2, |b| {
        message(b, "a", old);
        message(b, "a", Offset::new(2, 1));
    });
    assert_eq!(voids(&mut admission, late), [0]);
}

#[test]
fn an_orderly_end_of_a_session_voids_nothing() {
    let mut admission = Admission::default();
    let open = |b: &mut BatchBuilder| b.push(None, None, &opened("a", 9));
    let ends = [closed(0), Event::SessionExpired];
    for (at, end) in (1..).step_by(2).zip(&ends) {
        let epoch = Offset::new(at, 0);
        assert_eq!(voids(&mut admission, commit(at, producer(0), at, |b| _ = open(b))), []);
        let end = commit(at + 1, producer(0), at + 1, |b| {
            message(b, "a", epoch);
            b.push(Some((&"a".into(), epoch)), None, end);
        });
        assert_eq!(admission.apply(&end).expect("readable"), Voids::None);
    }
    assert_eq!(clients(&admission), Vec::<String>::new());
    // What comes after it is void.
    assert_eq!(voids(&mut admission, commit(5, producer(0), 5, |b| _ = open(b))), []);
    let late = commit(6, producer(0), 6, |b| {
        b.push(Some((&"a".into(), Offset::new(5, 0))), None, &closed(0));
        message(b, "a", Offset::new(5, 0));
    });
    assert_eq!(voids(&mut admission, late), [1]);
}

#[test]
fn an_expiry_of_an_older_epoch_is_void() {
    let mut admission = Admission::default();
    voids(&mut admission, commit(1, producer(0), 1, |b| _ = b.push(None, None, &opened("a", 9))));
    voids(&mut admission, commit(2, producer(0), 2, |b| _ = b.push(None, None, &opened("a", 9))));
    let expire = |epoch| {
        move |b: &mut BatchBuilder| {
            b.push(Some((&"a".into(), epoch)), None, &Event::SessionExpired);
        }
    };
    assert_eq!(voids(&mut admission, commit(3, producer(0), 3, expire(Offset::new(1, 0)))), [0]);
    assert_eq!(voids(&mut admission, commit(4, producer(0), 4, expire(Offset::new(2, 0)))), []);
    assert_eq!(voids(&mut admission, commit(5, producer(0), 5, expire(Offset::new(2, 0)))), [0]);
}

fn clients(admission: &Admission) -> Vec<String> {
    let shards = admission.sessions.shards().iter();
    let mut clients: Vec<String> =
        shards.flat_map(|shard| shard.keys().map(ToString::to_string)).collect();
    clients.sort();
    clients
}

#[test]
fn nothing_is_kept_of_sessions_that_ended_and_of_dead_producers() {
    let mut admission = Admission::default();
    voids(&mut admission, commit(1, producer(0), 1, |b| _ = b.push(None, None, &opened("a", 0))));
    voids(&mut admission, commit(2, producer(0), 2, |b| _ = b.push(None, None, &opened("b", 0))));
    voids(&mut admission, commit(3, producer(0), 3, |b| _ = b.push(None, None, &opened("c", 9))));
    voids(
        &mut admission,
        commit(4, producer(0), 4, |b| {
            b.push(Some((&"a".into(), Offset::new(1, 0))), None, &closed(0));
        }),
    );
    assert_eq!(clients(&admission), ["b", "c"]);
    let again = ProducerId { node: 1, start: 2, local: 0 };
    let started = Event::NodeStarted { node: 1, start: 2 };
    voids(&mut admission, commit(5, again, 1, |b| _ = b.push(None, None, &started)));
    assert_eq!(clients(&admission), ["c"]);
    assert_eq!(admission.head.producers.keys().collect::<Vec<_>>(), [&again]);
    let late = commit(6, producer(0), 5, |b| _ = b.push(None, None, &opened("d", 9)));
    assert_eq!(voids(&mut admission, late), [0], "a start that the node has left behind");
}

#[test]
fn of_a_lost_node_nothing_more_counts() {
    let mut admission = Admission::default();
    let (one, other) = (producer(0), ProducerId { node: 2, start: 7, local: 0 });
    voids(&mut admission, commit(1, one, 1, |b| _ = b.push(None, None, &opened("a", 0))));
    voids(&mut admission, commit(2, one, 2, |b| _ = b.push(None, None, &opened("b", 9))));
    let (a, b) = (Offset::new(1, 0), Offset::new(2, 0));
    let lost = |start| Event::NodeLost { node: 1, start };
    // What ended by it is void in the same batch, what outlives its connection is not.
    let batch = commit(3, other, 1, |builder| {
        message(builder, "a", a);
        builder.push(None, None, &lost(1));
        message(builder, "a", a);
        message(builder, "b", b);
    });
    assert_eq!(voids(&mut admission, batch), [2]);
    assert_eq!(clients(&admission), ["b"]);
    assert_eq!(admission.known_start(1), 1, "the process may still run");
    let late = commit(4, one, 3, |builder| message(builder, "b", b));
    assert_eq!(voids(&mut admission, late), [0], "a producer of the lost start");
    let unheard = ProducerId { local: 9, ..one };
    let late = commit(5, unheard, 1, |builder| message(builder, "b", b));
    assert_eq!(voids(&mut admission, late), [0], "also one that was never heard before");
    // The next start of the node counts, and is not lost with an earlier one.
    let next = ProducerId { start: 2, ..one };
    voids(&mut admission, commit(6, next, 1, |b| _ = b.push(None, None, &opened("c", 0))));
    voids(&mut admission, commit(7, other, 2, |b| _ = b.push(None, None, &lost(1))));
    assert_eq!(clients(&admission), ["b", "c"]);
    let batch = commit(8, next, 2, |builder| message(builder, "c", Offset::new(6, 0)));
    assert_eq!(voids(&mut admission, batch), []);
    assert_eq!(admission.start_of(1), 2, "a process that starts takes one beyond");
    assert_eq!((admission.known_start(1), admission.known_start(3)), (2, 0));
}

/// Writes a checkpoint as turns do.
pub(super) fn save(checkpoint: &mut Checkpoint, admission: &Admission, store: &mut SimulatedStore) {
    checkpoint.want();
    while checkpoint.is_due() {
        let mut unit = Unit::default();
        checkpoint.step(admission, &mut unit);
        store.write(&unit, true).expect("room");
    }
    assert_eq!(checkpoint.index(), admission.applied());
}

#[test]
fn the_producer_that_was_silent_longest_is_forgotten() {
    let mut admission = Admission::default();
    let many = u16::try_from(PRODUCERS_MAX - 1).expect("16 bits");
    let id = |node, local| ProducerId { node, start: 1, local };
    assert!((0..=many).all(|local| admission.admit(id(1, local), 1, 10 + u64::from(local))));
    assert!(admission.admit(id(1, 0), 2, 1_000_000), "the first is heard again");
    assert!(admission.admit(id(2, 0), 1, 1_000_001));
    assert_eq!(admission.head.producers.len(), PRODUCERS_MAX);
    assert!(admission.admit(id(1, 0), 3, 1_000_002), "it is remembered");
    assert!(!admission.admit(id(1, 1), 2, 1_000_003), "this one is not");
}

#[test]
fn a_producer_of_a_running_process_is_not_forgotten_for_one_that_is_none() {
    let mut admission = Admission::default();
    let id = |node, local| ProducerId { node, start: 1, local };
    let many = u16::try_from(PRODUCERS_MAX - 1).expect("16 bits");
    let started = Event::NodeStarted { node: 1, start: 1 };
    let batch = commit(1, id(1, 0), 1, |b| _ = b.push(None, None, &started));
    assert_eq!(voids(&mut admission, batch), []);
    // Node 2 never says that it runs; one of its producers is heard last.
    assert!((1..many).all(|local| admission.admit(id(1, local), 1, 2)));
    assert!(admission.admit(id(2, 0), 1, 10));
    assert!(admission.admit(id(2, 1), 1, 11), "one is forgotten");
    assert!(admission.admit(id(1, 1), 2, 12), "not the one silent longest, which runs");
    assert!(!admission.admit(id(2, 0), 2, 13));
    // Nor the one that is heard just now, though its node's start comes later in its batch.
    let next = id(3, 0);
    assert!(admission.admit(next, 1, 14));
    assert!(admission.admit(next, 2, 15));
    assert_eq!(admission.head.producers.len(), PRODUCERS_MAX);
}

#[test]
fn a_checkpoint_writes_again_only_what_changed() {
    let mut admission = Admission::default();
    let mut checkpoint = Checkpoint::default();
    let disk = SimulatedDisk::new(0, 1 << 30);
    let mut store = SimulatedStore::open(&disk).expect("opens");
    for n in 0..2000_u64 {
        let client = format!("client {n}");
        let batch =
            commit(n + 1, producer(0), n + 1, |b| _ = b.push(None, None, &opened(&client, 9)));
        voids(&mut admission, batch);
    }
    save(&mut checkpoint, &admission, &mut store);
    let before = store.bytes();
    let one = commit(2001, producer(0), 2001, |b| _ = b.push(None, None, &opened("client 7", 9)));
    voids(&mut admission, one);
    save(&mut checkpoint, &admission, &mut store);
    assert!(store.bytes() - before < 2000, "{} bytes for one session", store.bytes() - before);
    assert_eq!(load(&store).expect("whole").admission, admission);
}

proptest! {
    #[test]
    fn folding_all_is_folding_the_rest_after_a_snapshot(
        steps in prop::collection::vec((0_u16..3, 0_u64..3, 0_u8..4, 0_u32..2), 1..60),
        cut in 0_usize..60,
    ) {
        let mut sequences = [0_u64; 3];
        let mut last = [Offset::ZERO; 4];
        let mut batches = Vec::new();
        for (at, (local, skip, client, interval)) in steps.iter().enumerate() {
            let index = at as u64 + 1;
            let sequence = &mut sequences[usize::from(*local)];
            *sequence += u64::from(*skip != 2);
            let name = ["a", "b", "c", "d"][usize::from(*client)];
            let epoch = last[usize::from(*client)];
            batches.push(commit(index, producer(*local), *sequence, |b| {
                message(b, name, epoch);
                match skip {
                    0 => _ = b.push(None, None, &opened(name, *interval)),
                    1 => _ = b.push(Some((&name.into(), epoch)), None, &closed(*interval)),
                    _ => _ = b.push(Some((&name.into(), epoch)), None, &Event::SessionExpired),
                }
                message(b, name, epoch);
            }));
            if *skip == 0 {
                last[usize::from(*client)] = Offset::new(index, 1);
            }
        }
        let mut whole = Admission::default();
        let marks: Vec<_> = batches.iter().map(|b| whole.apply(b).unwrap()).collect();
        let cut = cut.min(batches.len());
        let mut first = Admission::default();
        let mut checkpoint = Checkpoint::default();
        let disk = SimulatedDisk::new(0, 1 << 20);
        let mut store = SimulatedStore::open(&disk).unwrap();
        for (batch, mark) in batches[..cut].iter().zip(&marks) {
            prop_assert_eq!(&first.apply(batch).unwrap(), mark);
            checkpoint.folded(batch.index, batch.bytes(), mark);
            // Some checkpoints are begun earlier, to be overwritten.
            if batch.index % 7 == 0 {
                save(&mut checkpoint, &first, &mut store);
            }
        }
        save(&mut checkpoint, &first, &mut store);
        let loaded = load(&store).unwrap();
        let mut rest = loaded.admission;
        prop_assert_eq!(&rest, &first);
        let void: BTreeMap<_, _> = batches[..cut]
            .iter()
            .zip(&marks)
            .filter(|(_, mark)| **mark != Voids::None)
            .map(|(batch, mark)| (batch.index, mark.clone()))
            .collect();
        prop_assert_eq!(loaded.voids, void, "marks outlive the process");
        for (batch, mark) in batches[cut..].iter().zip(&marks[cut..]) {
            prop_assert_eq!(&rest.apply(batch).unwrap(), mark);
        }
        prop_assert_eq!(rest, whole);
    }
}

/// A node that is cut off takes a CONNECT; its client gives up and connects to another node; the way
/// heals.
#[test]
fn a_late_opening_takes_no_session_and_fences_nothing_and_the_rest_of_its_batch_counts() {
    let mut admission = Admission::default();
    let open = |builder: &mut BatchBuilder| _ = builder.push(None, None, &opened("c", 60));
    let newer = commit(1, producer(0), 1, |builder| {
        open(builder);
        builder.push(None, None, &opened("d", 60));
    });
    assert_eq!(voids(&mut admission, newer), [0; 0]);
    let (c, d) = (Offset::new(1, 0), Offset::new(1, 1));
    let stale = commit_if(true, 2, producer(1), 1, |builder| {
        message(builder, "d", d);
        open(builder);
        message(builder, "c", c);
    });
    assert_eq!(voids(&mut admission, stale), [1]);
    let after = commit(3, producer(0), 2, |builder| message(builder, "c", c));
    assert_eq!(voids(&mut admission, after), [0; 0], "the session that it would have taken");
    // The next one of that producer is in time.
    let again = commit(4, producer(1), 2, open);
    assert_eq!(voids(&mut admission, again), [0; 0]);
}

#[test]
fn a_session_of_a_proven_user_is_opened_by_nobody_else_until_it_ends() {
    let open = |user: Option<&str>, is_proven| {
        let Event::SessionOpened(mut opened) = opened("c", 60) else { unreachable!() };
        (opened.username, opened.is_proven) = (user.map(str::to_owned), is_proven);
        Event::SessionOpened(opened)
    };
    let mut admission = Admission::default();
    let mut is_void = |index, build: &dyn Fn(&mut BatchBuilder)| {
        let batch = commit(index, producer(0), index, build);
        let voids = admission.apply(&batch).unwrap();
        let batch = batch.with_voids(voids);
        let records: Vec<_> = batch.batch().records().flatten().collect();
        records.iter().map(|record| batch.is_void(record)).collect::<Vec<_>>()
    };
    let push = |event: Event| {
        move |builder: &mut BatchBuilder| {
            builder.push(None, None, &event);
        }
    };
    // Nobody's is anybody's; the first proven user keeps it.
    assert_eq!(is_void(1, &push(open(Some("v"), false))), [false]);
    assert_eq!(is_void(2, &push(open(Some("u"), true))), [false]);
    assert_eq!(is_void(3, &push(open(Some("v"), true))), [true]);
    assert_eq!(is_void(4, &push(open(Some("u"), false))), [true]);
    assert_eq!(is_void(5, &push(open(None, false))), [true]);
    // A void opening fences nothing: the session's records go on, also in the same batch.
    let epoch = Offset::new(2, 0);
    let both = is_void(6, &|builder| {
        builder.push(None, None, &open(Some("v"), true));
        message(builder, "c", epoch);
    });
    assert_eq!(both, [true, false]);
    assert_eq!(is_void(7, &push(open(Some("u"), true))), [false]);
    let epoch = Offset::new(7, 0);
    let ended = is_void(8, &|builder| {
        builder.push(Some((&"c".into(), epoch)), None, &Event::SessionExpired);
        builder.push(None, None, &open(Some("v"), true));
    });
    assert_eq!(ended, [false, false]);
}
