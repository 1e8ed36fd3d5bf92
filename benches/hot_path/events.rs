//! Batches of events, written and read.
//!
//! Watches that topic and payload are copied once, into the batch being built (part of "read +
//! decode: at most 0.3 us a message"), and that readers copy nothing: fold, match and deliver all
//! begin with this reading.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ledgermq_core::event::batch::Batch;
use ledgermq_core::event::{BatchBuilder, EventRef};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Offset;

use crate::messages::{PAYLOAD, TOPIC, published};

const MESSAGES: u32 = 1_000;
/// Clients that publish, each in runs of ten messages.
const SESSIONS: u32 = 10;
const RUN: u32 = 10;

/// All of this subject.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    let sessions: Vec<(ClientId, Offset)> = (0..SESSIONS)
        .map(|number| (format!("client-{number}").as_str().into(), Offset::new(7, number)))
        .collect();
    let mut builder = BatchBuilder::new(0);
    let mut spare = Vec::new();
    group.bench_function("build", |bencher| {
        bencher.iter(|| {
            build(&mut builder, &sessions);
            spare = builder.finish(std::mem::take(&mut spare));
            spare.len()
        });
    });
    build(&mut builder, &sessions);
    let bytes = builder.finish(Vec::new());
    group.bench_function("read", |bencher| bencher.iter(|| read(black_box(&bytes))));
    group.finish();
}

fn build(builder: &mut BatchBuilder, sessions: &[(ClientId, Offset)]) {
    for number in 0..MESSAGES {
        let (client, epoch) = &sessions[(number / RUN % SESSIONS) as usize];
        builder.publish(Some((client, *epoch)), None, black_box(&published(TOPIC, false)));
    }
}

fn read(bytes: &[u8]) {
    let mut payload_bytes = 0;
    for record in Batch::parse(bytes).unwrap().records() {
        match record.unwrap().event().unwrap() {
            EventRef::MessagePublished(message) => {
                payload_bytes += black_box(&message).payload.len()
            }
            EventRef::Other(event) => panic!("{event:?}"),
        }
    }
    assert_eq!(payload_bytes, PAYLOAD.len() * MESSAGES as usize);
}
