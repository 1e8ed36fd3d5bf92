//! Messages for sessions whose clients are away: `offline`.

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
use super::progress::Progress;
use super::store::{Store, Turn, store};
use super::streams::{Stream, Tally};
use super::{BenchError, Brokers, float, names};

/// Silence after which what is missing is taken for lost.
const GIVEN_UP: Duration = Duration::from_secs(3);

/// What to store and drain.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Persistent sessions, each with a topic of its own.
    pub(crate) sessions: usize,
    /// Publishers, at most as many as sessions, which are dealt out to them.
    pub(crate) publishers: usize,
    /// Messages over all sessions, in turn.
    pub(crate) count: u64,
    /// QoS of messages and subscriptions, 1 or 2.
    pub(crate) qos: QoS,
    /// Payload in bytes; smaller ones grow to what counting needs.
    pub(crate) payload_bytes: usize,
    /// Messages of each publisher that are not acknowledged.
    pub(crate) window: u16,
    /// Time between storing and draining.
    pub(crate) pause: Duration,
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Messages stored.
    pub(crate) count: u64,
    /// Acknowledged a second.
    pub(crate) stored_per_second: f64,
    /// Delivered a second, from the first CONNECT of the returning clients to the last message.
    pub(crate) drained_per_second: f64,
    /// Resident memory that the brokers took for each stored message.
    pub(crate) broker_bytes_each: Option<f64>,
    /// Messages that did not come.
    pub(crate) lost: u64,
    /// Messages that came again.
    pub(crate) duplicates: u64,
    /// Messages that came behind a later one of their topic.
    pub(crate) out_of_order: u64,
    /// What each message cost when it was stored.
    pub(crate) storing: Effort,
    /// What each message cost when it was drained.
    pub(crate) draining: Effort,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stored {:.0} messages/s ({})", self.stored_per_second, self.count)?;
        writeln!(f, "{}", self.storing)?;
        if let Some(bytes) = self.broker_bytes_each {
            writeln!(f, "broker: {bytes:.0} bytes resident more for each")?;
        }
        writeln!(f, "drained {:.0} messages/s", self.drained_per_second)?;
        let Self { lost, duplicates, out_of_order, .. } = self;
        writeln!(f, "lost {lost}, duplicates {duplicates}, out of order {out_of_order}")?;
        self.draining.fmt(f)
    }
}

/// Stores for sessions whose clients are away, and lets these come back.
pub(crate) fn run(brokers: &Brokers, plan: &Plan) -> Result<Report, BenchError> {
    let prefix = names::topic("offline");
    let sessions = |is_clean, is_kept| {
        let prefix = &prefix;
        (0..plan.sessions).map(move |number| Client {
            id: names::client("o", number),
            target: number,
            is_clean,
            is_kept,
            filters: if is_clean && is_kept {
                vec![(format!("{prefix}/{number}"), plan.qos)]
            } else {
                Vec::new()
            },
        })
    };
    let leaving = Pace { rate: None, leaves: true };
    open(&mut Fleet::new(brokers)?, sessions(true, true), leaving, |_, _, _| Ok(()))?;

    let (before, start) = (Snapshot::take(&brokers.pids), Instant::now());
    store_all(brokers, plan, &prefix)?;
    let stored = Instant::now().since(start).as_secs_f64();
    let after = Snapshot::take(&brokers.pids);
    std::thread::sleep(plan.pause);

    let drained = drain(brokers, plan, sessions(false, true))?;
    open(&mut Fleet::new(brokers)?, sessions(true, false), leaving, |_, _, _| Ok(()))?;
    Ok(Report {
        count: plan.count,
        stored_per_second: thousandths(float(plan.count) / stored),
        drained_per_second: thousandths(float(drained.tally.delivered) / drained.seconds.max(1e-9)),
        broker_bytes_each: after.bytes_since(&before, plan.count).map(thousandths),
        lost: plan.count - drained.tally.delivered.min(plan.count),
        duplicates: drained.tally.duplicates,
        out_of_order: drained.tally.out_of_order,
        storing: after.since(&before, plan.count),
        draining: drained.effort,
    })
}

/// Publishes to the sessions' topics in turn until all is acknowledged.
fn store_all(brokers: &Brokers, plan: &Plan, prefix: &str) -> Result<(), BenchError> {
    let run = Run::of_this_process();
    let payload_bytes = plan.payload_bytes.max(HEAD_BYTES);
    let Plan { sessions, publishers, count, qos, window, .. } = *plan;
    let messages = Store { publishers, count, qos, retain: false, window };
    store(brokers, messages, |Turn { publisher, nth, at }, topic, payload| {
        // Each session has one publisher, so that an order is promised.
        let own = (sessions - publisher).div_ceil(publishers) as u64;
        let session = publisher as u64 + nth % own * publishers as u64;
        let number = nth / own;
        topic.clear();
        // Writing to a String cannot fail.
        _ = write!(topic, "{prefix}/{session}");
        payload.resize(payload_bytes, b'x');
        let stream = u32::try_from(session).unwrap_or(u32::MAX);
        Head { run, stream, number, at }.write(payload);
        number * sessions as u64 + session < count
    })
}

struct Drained {
    tally: Tally,
    seconds: f64,
    effort: Effort,
}

/// Connects the sessions' clients and takes what comes.
fn drain(
    brokers: &Brokers,
    plan: &Plan,
    sessions: impl Iterator<Item = Client>,
) -> Result<Drained, BenchError> {
    let mut fleet = Fleet::new(brokers)?;
    let mut inbox = Inbox {
        run: Run::of_this_process(),
        streams: vec![Stream::default(); plan.sessions],
        tally: Tally::default(),
        last: Instant::now(),
    };
    let (before, start) = (Snapshot::take(&brokers.pids), Instant::now());
    open(&mut fleet, sessions, Pace::default(), |_, packet, output| inbox.take(packet, output))?;
    let mut progress = Progress::new(brokers.shows_progress);
    fleet.break_silence();
    while inbox.tally.delivered < plan.count && fleet.silence() < GIVEN_UP {
        fleet.turn(None, |_, packet, output| inbox.take(packet, output))?;
        progress.show(Instant::now(), inbox.tally.delivered, "drained", String::new);
    }
    let effort = Snapshot::take(&brokers.pids).since(&before, inbox.tally.delivered);
    let seconds = inbox.last.since(start).as_secs_f64();
    // The last acknowledgements.
    let until = Instant::now().after(Duration::from_millis(50));
    while Instant::now() < until {
        fleet.turn(Some(until), |_, packet, output| inbox.take(packet, output))?;
    }
    Ok(Drained { tally: inbox.tally, seconds, effort })
}

struct Inbox {
    run: Run,
    streams: Vec<Stream>,
    tally: Tally,
    last: Instant,
}

impl Inbox {
    fn take(&mut self, packet: &Packet<'_>, output: &mut Output) -> Result<(), BenchError> {
        if let Packet::Publish(publish) = packet
            && let Some(head) = Head::read(publish.payload).filter(|head| head.run == self.run)
            && let Some(stream) = self.streams.get_mut(head.stream as usize)
        {
            self.tally.add(stream.take(head.number));
            self.last = Instant::now();
        }
        answer(packet, output)
    }
}
