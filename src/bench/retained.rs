//! Retained messages, stored and read by one wildcard: `retained`.

use std::fmt::{self, Write};
use std::time::Duration;

use ledgermq_core::packet::{Packet, QoS};
use serde::Serialize;

use super::answer::answer;
use super::clock::Instant;
use super::connection::Output;
use super::effort::{Effort, Snapshot, thousandths};
use super::fleet::Fleet;
use super::opening::{Client, Pace, open};
use super::payload::{HEAD_BYTES, Head, Run};
use super::store::{Store, Turn, store};
use super::{BenchError, Brokers, float};

/// Topics below one level, as machines below a line.
const BELOW_ONE: u64 = 100;
/// Silence after which what is missing is taken for lost.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// What to store and read.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Retained messages, each of a topic of its own.
    pub(crate) count: u64,
    /// Payload in bytes; smaller ones grow to what counting needs.
    pub(crate) payload_bytes: usize,
    /// Messages of the one publisher (QoS 1) that are not acknowledged.
    pub(crate) window: u16,
    /// Whether they stay; otherwise they are removed at the end.
    pub(crate) keeps: bool,
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Retained messages.
    pub(crate) count: u64,
    /// Stored (acknowledged) a second, by one publisher at QoS 1.
    pub(crate) stored_per_second: f64,
    /// From the SUBSCRIBE of one new client to the last message.
    pub(crate) read_milliseconds: f64,
    /// Messages that did not come.
    pub(crate) lost: u64,
    /// What each message cost when it was stored.
    pub(crate) storing: Effort,
    /// What each message cost when it was read.
    pub(crate) reading: Effort,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stored {:.0} messages/s ({})", self.stored_per_second, self.count)?;
        writeln!(f, "{}", self.storing)?;
        writeln!(f, "read all in {:.1} ms, lost {}", self.read_milliseconds, self.lost)?;
        self.reading.fmt(f)
    }
}

/// Stores, reads by one wildcard, and removes.
pub(crate) fn run(brokers: &Brokers, plan: &Plan) -> Result<Report, BenchError> {
    let prefix = format!("bench/retained-{}", std::process::id());
    let (before, start) = (Snapshot::take(&brokers.pids), Instant::now());
    store_all(brokers, plan, &prefix, plan.payload_bytes.max(HEAD_BYTES))?;
    let took = Instant::now().since(start).as_secs_f64();
    let storing = Snapshot::take(&brokers.pids).since(&before, plan.count);
    let before = Snapshot::take(&brokers.pids);
    let (read, seconds) = read(brokers, plan, &prefix)?;
    let reading = Snapshot::take(&brokers.pids).since(&before, plan.count);
    if !plan.keeps {
        store_all(brokers, plan, &prefix, 0)?;
    }
    Ok(Report {
        count: plan.count,
        stored_per_second: thousandths(float(plan.count) / took),
        read_milliseconds: thousandths(seconds * 1000.0),
        lost: plan.count - read.min(plan.count),
        storing,
        reading,
    })
}

/// Publishes a retained message to each topic, or removes it where the payload is empty.
fn store_all(
    brokers: &Brokers,
    plan: &Plan,
    prefix: &str,
    payload_bytes: usize,
) -> Result<(), BenchError> {
    let run = Run::of_this_process();
    let Plan { count, window, .. } = *plan;
    let messages = Store { publishers: 1, count, qos: QoS::AtLeastOnce, retain: true, window };
    store(brokers, messages, |Turn { nth, at, .. }, topic, payload| {
        topic.clear();
        // Writing to a String cannot fail.
        _ = write!(topic, "{prefix}/{}/{}", nth / BELOW_ONE, nth % BELOW_ONE);
        payload.resize(payload_bytes, b'x');
        if payload_bytes > 0 {
            Head { run, stream: 0, number: nth, at }.write(payload);
        }
        nth < count
    })
}

/// Subscribes and waits for all: how many came, and the seconds it took.
fn read(brokers: &Brokers, plan: &Plan, prefix: &str) -> Result<(u64, f64), BenchError> {
    let mut fleet = Fleet::new(brokers)?;
    let (mut read, mut last) = (0, Instant::now());
    let mut take = |packet: &Packet<'_>, output: &mut Output| {
        if matches!(packet, Packet::Publish(_)) {
            read += 1;
            last = Instant::now();
        }
        answer(packet, output)?;
        Ok::<u64, BenchError>(read)
    };
    let id = format!("bench-{}-read", std::process::id());
    let filters = vec![(format!("{prefix}/#"), QoS::AtLeastOnce)];
    let client = Client { id, target: 1, is_clean: true, is_kept: false, filters };
    let start = Instant::now();
    let mut came = 0;
    let clients = [client].into_iter();
    open(&mut fleet, clients, Pace::default(), |_, packet, output| {
        came = take(packet, output)?;
        Ok(())
    })?;
    fleet.break_silence();
    while came < plan.count && fleet.silence() < GIVEN_UP {
        fleet.turn(None, |_, packet, output| {
            came = take(packet, output)?;
            Ok(())
        })?;
    }
    Ok((read, last.since(start).as_secs_f64()))
}
