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
use super::streams::{Stream, Tally};
use super::{BenchError, Brokers, float, names};

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
    /// Time between storing and reading: what is acknowledged may still have to be filed.
    pub(crate) pause: Duration,
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
    /// From the first step of one new client's connection to the last message.
    pub(crate) read_milliseconds: f64,
    /// Messages that did not come.
    pub(crate) lost: u64,
    /// Messages that came again.
    pub(crate) duplicates: u64,
    /// What each message cost when it was stored.
    pub(crate) storing: Effort,
    /// What each message cost when it was read.
    pub(crate) reading: Effort,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stored {:.0} messages/s ({})", self.stored_per_second, self.count)?;
        writeln!(f, "{}", self.storing)?;
        writeln!(
            f,
            "read all in {:.1} ms, lost {}, duplicates {}",
            self.read_milliseconds, self.lost, self.duplicates
        )?;
        self.reading.fmt(f)
    }
}

/// Stores, reads by one wildcard, and removes.
pub(crate) fn run(brokers: &Brokers, plan: &Plan) -> Result<Report, BenchError> {
    let prefix = names::topic("retained");
    let (before, start) = (Snapshot::take(&brokers.pids), Instant::now());
    store_all(brokers, plan, &prefix, plan.payload_bytes.max(HEAD_BYTES))?;
    let took = Instant::now().since(start).as_secs_f64();
    let storing = Snapshot::take(&brokers.pids).since(&before, plan.count);
    std::thread::sleep(plan.pause);
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
        lost: plan.count - read.delivered.min(plan.count),
        duplicates: read.duplicates,
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

/// What came of reading.
struct Read {
    run: Run,
    stream: Stream,
    tally: Tally,
    last: Instant,
}

impl Read {
    fn take(&mut self, packet: &Packet<'_>, output: &mut Output) -> Result<(), BenchError> {
        if let Packet::Publish(publish) = packet
            && let Some(head) = Head::read(publish.payload)
            && head.run == self.run
        {
            self.tally.add(self.stream.take(head.number));
            self.last = Instant::now();
        }
        answer(packet, output)
    }
}

/// Connects, subscribes and waits for all: what came, and the seconds it took.
fn read(brokers: &Brokers, plan: &Plan, prefix: &str) -> Result<(Tally, f64), BenchError> {
    let mut fleet = Fleet::new(brokers)?;
    let start = Instant::now();
    let run = Run::of_this_process();
    let mut read = Read { run, stream: Stream::default(), tally: Tally::default(), last: start };
    let filters = vec![(format!("{prefix}/#"), QoS::AtLeastOnce)];
    let id = names::client("read", 0);
    let client = Client { id, target: 1, is_clean: true, is_kept: false, filters };
    let clients = [client].into_iter();
    open(&mut fleet, clients, Pace::default(), |_, packet, output| read.take(packet, output))?;
    fleet.break_silence();
    while read.tally.delivered < plan.count && fleet.silence() < GIVEN_UP {
        fleet.turn(None, |_, packet, output| read.take(packet, output))?;
    }
    Ok((read.tally, read.last.since(start).as_secs_f64()))
}
