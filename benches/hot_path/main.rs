//! Benches of the hot path: each file watches one line of its budget (`benches/README.md`).
//!
//! Times are those of one thread, without sockets; only `append` touches a disk.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench measures real time, and ends where something is not as it should be"
)]

mod append;
mod codec;
mod events;
mod fold;
mod matching;
mod messages;
mod outbox;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    codec::benches(&mut criterion);
    matching::benches(&mut criterion);
    events::benches(&mut criterion);
    fold::benches(&mut criterion);
    append::benches(&mut criterion);
    outbox::benches(&mut criterion);
    criterion.final_summary();
}
