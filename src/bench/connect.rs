//! Many connections: `connect`.

use std::fmt;
use std::time::Duration;

use ledgermq_core::packet::QoS;
use serde::Serialize;

use super::clock::Instant;
use super::effort::{Effort, Snapshot, thousandths};
use super::fleet::Fleet;
use super::latency::Percentiles;
use super::opening::{Client, Pace, open};
use super::{BenchError, Brokers, float};

/// Time for the brokers to come to rest before their memory is looked at.
const REST: Duration = Duration::from_secs(1);

/// What to connect.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Clients.
    pub(crate) count: usize,
    /// What their Client Identifiers begin with; a number follows.
    pub(crate) prefix: String,
    /// Clients a second; otherwise as fast as they are let in.
    pub(crate) rate: Option<f64>,
    /// Whether their sessions outlive their connections.
    pub(crate) is_kept: bool,
    /// Subscriptions of each, to topics of its own.
    pub(crate) subscriptions: usize,
    /// Their QoS.
    pub(crate) qos: QoS,
    /// Whether each disconnects as soon as it is ready.
    pub(crate) leaves: bool,
    /// How long all stay connected.
    pub(crate) hold: Duration,
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Seconds until all were ready.
    pub(crate) seconds: f64,
    /// Clients that were connected, subscribed.
    pub(crate) connected: u64,
    /// The same a second.
    pub(crate) connected_per_second: f64,
    /// From the beginning of the connection (at a rate: from when it was due) to CONNACK.
    pub(crate) latency_us: Option<Percentiles>,
    /// Resident memory that the brokers took for each client, when they had come to rest.
    pub(crate) broker_bytes_each: Option<f64>,
    /// What each connection cost.
    pub(crate) effort: Effort,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "connected {:.0} clients/s ({})", self.connected_per_second, self.connected)?;
        if let Some(latency) = self.latency_us {
            writeln!(f, "to CONNACK: {latency}")?;
        }
        if let Some(bytes) = self.broker_bytes_each {
            writeln!(f, "broker: {bytes:.0} bytes resident more for each")?;
        }
        self.effort.fmt(f)
    }
}

/// Connects clients, holds them, and lets them go.
pub(crate) fn run(brokers: &Brokers, plan: &Plan) -> Result<Report, BenchError> {
    let mut fleet = Fleet::new(brokers)?;
    let clients = (0..plan.count).map(|number| client(plan, number));
    let before = Snapshot::take(&brokers.pids);
    let start = Instant::now();
    let pace = Pace { rate: plan.rate, leaves: plan.leaves };
    let opened = open(&mut fleet, clients, pace, |_, _, _| Ok(()))?;
    let seconds = Instant::now().since(start).as_secs_f64();
    let count = plan.count as u64;
    let effort = Snapshot::take(&brokers.pids).since(&before, count);
    let mut rest = |time| {
        let end = Instant::now().after(time);
        while Instant::now() < end {
            fleet.turn(Some(end), |_, _, _| Ok(()))?;
        }
        Ok::<(), BenchError>(())
    };
    rest(REST)?;
    let broker_bytes_each = Snapshot::take(&brokers.pids).bytes_since(&before, count);
    rest(plan.hold)?;
    Ok(Report {
        seconds: thousandths(seconds),
        connected: count,
        connected_per_second: thousandths(float(count) / seconds.max(1e-9)),
        latency_us: opened.handshakes.percentiles(),
        broker_bytes_each: broker_bytes_each.map(thousandths),
        effort,
    })
}

fn client(plan: &Plan, number: usize) -> Client {
    let filter = |place| match plan.subscriptions {
        1 => format!("bench/{}/{number}", plan.prefix),
        _ => format!("bench/{}/{number}/{place}", plan.prefix),
    };
    Client {
        id: format!("{}-{number}", plan.prefix),
        target: number,
        is_clean: !plan.is_kept,
        is_kept: plan.is_kept,
        filters: (0..plan.subscriptions).map(|place| (filter(place), plan.qos)).collect(),
    }
}
