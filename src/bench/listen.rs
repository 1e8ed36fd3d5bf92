//! Subscribers alone: `sub`.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use ledgermq_core::packet::{Packet, Publish, QoS};
use serde::Serialize;

use super::answer::answer;
use super::clock::Instant;
use super::connection::Output;
use super::effort::{Effort, Snapshot, thousandths};
use super::fleet::Fleet;
use super::latency::{Latencies, Percentiles};
use super::opening::{Client, Pace, open};
use super::payload::{Head, Run};
use super::progress::Progress;
use super::streams::{Stream, Tally};
use super::{BenchError, Brokers, float, names};

/// Topics whose numbers are followed; those of later ones are only counted.
const STREAMS_MAX: usize = 1_000_000;

/// What to listen to.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Subscribers, each with all filters.
    pub(crate) subscribers: usize,
    /// Topic Filters.
    pub(crate) filters: Vec<String>,
    /// QoS of the subscriptions.
    pub(crate) qos: QoS,
    /// How long to listen; without it until `count` messages came.
    pub(crate) duration: Option<Duration>,
    /// How many messages to wait for.
    pub(crate) count: Option<u64>,
}

/// What came.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Seconds from the first CONNECT on.
    pub(crate) seconds: f64,
    /// Messages that came, over all subscribers.
    pub(crate) received: u64,
    /// The same a second.
    pub(crate) received_per_second: f64,
    /// Bytes of their payloads.
    pub(crate) payload_bytes: u64,
    /// From being sent (at a rate: due) to being received, of messages that a generator on this
    /// machine sent.
    pub(crate) latency_us: Option<Percentiles>,
    /// Messages of a generator that are missing between two that came.
    pub(crate) lost: u64,
    /// Messages of a generator that came again.
    pub(crate) duplicates: u64,
    /// Messages of a generator that came behind a later one of their topic.
    pub(crate) out_of_order: u64,
    /// Messages that no generator sent, or of more topics than are followed.
    pub(crate) not_followed: u64,
    /// What each received message cost.
    pub(crate) effort: Effort,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, received_per_second, payload_bytes, .. } = self;
        writeln!(
            f,
            "received {received_per_second:.0} messages/s ({received}, {payload_bytes} bytes)"
        )?;
        if let Some(latency) = self.latency_us {
            writeln!(f, "to delivery: {latency}")?;
        }
        let Self { lost, duplicates, out_of_order, not_followed, .. } = self;
        write!(f, "lost {lost}, duplicates {duplicates}, out of order {out_of_order}")?;
        writeln!(f, ", not followed {not_followed}")?;
        self.effort.fmt(f)
    }
}

/// Subscribes and counts what comes.
pub(crate) fn run(brokers: &Brokers, plan: &Plan) -> Result<Report, BenchError> {
    let mut fleet = Fleet::new(brokers)?;
    let mut listener = Listener::new();
    let filters: Vec<_> = plan.filters.iter().map(|filter| (filter.clone(), plan.qos)).collect();
    let clients = (0..plan.subscribers).map(|number| Client {
        id: names::client("l", number),
        target: number,
        is_clean: true,
        is_kept: false,
        filters: filters.clone(),
    });
    let (before, start) = (Snapshot::take(&brokers.pids), Instant::now());
    // What is retained comes at once.
    open(&mut fleet, clients, Pace::default(), |slot, packet, output| {
        listener.take(slot, packet, output)
    })?;
    let end = start.after(plan.duration.unwrap_or(Duration::MAX));
    let mut progress = Progress::new(brokers.shows_progress);
    while Instant::now() < end && plan.count.is_none_or(|count| listener.received < count) {
        fleet.turn(Some(end), |slot, packet, output| listener.take(slot, packet, output))?;
        progress.show(Instant::now(), listener.received, "received", String::new);
    }
    fleet.flush()?;
    drop(progress);
    let seconds = Instant::now().since(start).as_secs_f64();
    Ok(Report {
        seconds: thousandths(seconds),
        received: listener.received,
        received_per_second: thousandths(float(listener.received) / seconds.max(1e-9)),
        payload_bytes: listener.bytes,
        latency_us: listener.latencies.percentiles(),
        lost: listener.streams.values().map(Stream::holes).sum(),
        duplicates: listener.tally.duplicates,
        out_of_order: listener.tally.out_of_order,
        not_followed: listener.received - listener.tally.delivered - listener.tally.duplicates,
        effort: Snapshot::take(&brokers.pids).since(&before, listener.received),
    })
}

struct Listener {
    run: Run,
    received: u64,
    bytes: u64,
    /// By subscriber, run and topic.
    streams: HashMap<(usize, Run, u32), Stream>,
    tally: Tally,
    latencies: Latencies,
}

impl Listener {
    fn new() -> Self {
        Self {
            run: Run::of_this_process(),
            received: 0,
            bytes: 0,
            streams: HashMap::new(),
            tally: Tally::default(),
            latencies: Latencies::new(),
        }
    }

    fn take(
        &mut self,
        slot: usize,
        packet: &Packet<'_>,
        output: &mut Output,
    ) -> Result<(), BenchError> {
        if let Packet::Publish(publish) = packet {
            self.receive(slot, publish);
        }
        answer(packet, output)
    }

    fn receive(&mut self, slot: usize, publish: &Publish<'_>) {
        self.received += 1;
        self.bytes += publish.payload.len() as u64;
        let Some(head) = Head::read(publish.payload) else { return };
        if head.run.is_of_same_host(self.run) && !publish.retain {
            self.latencies.record(Instant::now().since(head.at));
        }
        let key = (slot, head.run, head.stream);
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&key) {
            return;
        }
        let stream = self.streams.entry(key).or_insert_with(|| Stream::starting_at(head.number));
        self.tally.add(stream.take(head.number));
    }
}
