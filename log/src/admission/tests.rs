use ledgermq_core::event::{BatchBuilder, MessagePublished};
use ledgermq_core::packet::{ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode;
use proptest::prelude::*;

use super::*;
use crate::envelope::{self, ENVELOPE_BYTES};
use ledgermq_core::offset::Timestamp;

fn producer(local: u16) -> ProducerId {
    ProducerId { node: 1, start: 1, local }
}

fn opened(client: &str, interval: u32) -> Event {
    Event::SessionOpened(Box::new(SessionOpened {
        client: client.into(),
        username: None,
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

fn commit(
    index: Index,
    producer: ProducerId,
    sequence: u64,
    fill: impl FnOnce(&mut BatchBuilder),
) -> CommittedBatch {
    let mut builder = BatchBuilder::new(ENVELOPE_BYTES);
    fill(&mut builder);
    let mut bytes = builder.finish(Vec::new());
    envelope::close(&mut bytes, producer, sequence);
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
    assert_eq!(admission.epochs.len(), 2);
    let again = ProducerId { node: 1, start: 2, local: 0 };
    let started = Event::NodeStarted { node: 1, start: 2 };
    voids(&mut admission, commit(5, again, 1, |b| _ = b.push(None, None, &started)));
    assert_eq!(admission.epochs.keys().map(ClientId::as_str).collect::<Vec<_>>(), ["c"]);
    assert_eq!(admission.producers.keys().collect::<Vec<_>>(), [&again]);
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
        batches[..cut].iter().for_each(|b| _ = first.apply(b).unwrap());
        let mut rest = Admission::restore(&first.snapshot()).unwrap();
        for (batch, mark) in batches[cut..].iter().zip(&marks[cut..]) {
            prop_assert_eq!(&rest.apply(batch).unwrap(), mark);
        }
        prop_assert_eq!(rest.snapshot(), whole.snapshot());
    }
}
