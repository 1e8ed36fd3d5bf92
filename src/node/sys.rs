//! What the node says of itself under `$SYS/broker`, with the names and forms of Mosquitto.
//!
//! Values are texts; each node tells its own.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ledgermq_gateway::gateway::{GatewayStats, StatsReader};
use ledgermq_gateway::shard::{ShardStats, SysValue};
use ledgermq_log::Log;
use ledgermq_projections::reader::Reader;

/// Time between two readings.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// Readings of the last 15 minutes.
const READINGS_MAX: usize = 15 * READINGS_A_MINUTE;
/// The averages told, in minutes.
const MINUTES: [usize; 3] = [1, 5, 15];
/// Readings in a minute.
const READINGS_A_MINUTE: usize = 6;

/// The node's values.
pub(super) struct Sys {
    log: Log,
    views: Reader,
    gateway: StatsReader,
    readings: u64,
    connected_max: u64,
    /// What was counted at earlier readings, newest first.
    history: VecDeque<[u64; RATES.len()]>,
}

/// What averages are told of.
const RATES: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

impl Sys {
    pub(super) fn new(log: Log, views: Reader, gateway: StatsReader) -> Self {
        Self { log, views, gateway, readings: 0, connected_max: 0, history: VecDeque::new() }
    }

    /// The values of the moment. To be called every [`INTERVAL`].
    pub(super) fn read(&mut self) -> Arc<[SysValue]> {
        let gateway = self.gateway.read();
        let total = total(&gateway);
        let mut values = Values(Vec::with_capacity(64));
        values.add("version", concat!("ledgermq version ", env!("CARGO_PKG_VERSION")));
        values.add("uptime", format_args!("{} seconds", self.readings * INTERVAL.as_secs()));
        self.add_views(&mut values, gateway.connections as u64);
        values.add("connections/socket/count", gateway.connections);
        values.add("bytes/received", total.bytes_received);
        values.add("bytes/sent", total.bytes_sent);
        values.add("messages/received", total.packets_received);
        values.add("messages/sent", total.packets_sent);
        values.add("publish/messages/received", total.received.iter().sum::<u64>());
        values.add("publish/messages/sent", total.sent.iter().sum::<u64>());
        values.add("publish/messages/dropped", dropped(&total));
        values.add("publish/bytes/received", total.payload_bytes_received);
        values.add("publish/bytes/sent", total.payload_bytes_sent);
        values.add("store/messages/bytes", self.log.status().disk_bytes);
        if let Some((current, maximum)) = memory() {
            values.add("heap/current", current);
            values.add("heap/maximum", maximum);
        }
        self.add_cluster(&mut values);
        self.add_averages(&mut values, &total);
        self.readings += 1;
        values.0.into()
    }

    fn add_views(&mut self, values: &mut Values, connected: u64) {
        let (sessions, online, subscriptions, shared, owed, retained, expired) =
            self.views.with(|views| {
                let sessions = views.sessions();
                let (mut subscriptions, mut shared, mut owed) = (0, 0, 0);
                for session in sessions.iter(None) {
                    subscriptions += session.subscriptions().len();
                    let is_shared = session.subscriptions().iter();
                    shared += is_shared.filter(|held| held.filter.is_shared()).count();
                    owed += session.owed_messages();
                }
                owed += views.shared_messages().0;
                let expired = views.counters().sessions_expired;
                let online = sessions.present().online();
                let retained = views.retained().len();
                (sessions.len() as u64, online, subscriptions, shared, owed, retained, expired)
            });
        self.connected_max = self.connected_max.max(connected);
        // The two are of different moments: it must not fall below zero.
        let disconnected = sessions.saturating_sub(online);
        values.add("clients/total", connected + disconnected);
        values.add("clients/connected", connected);
        values.add("clients/active", connected);
        values.add("clients/disconnected", disconnected);
        values.add("clients/inactive", disconnected);
        values.add("clients/expired", expired);
        values.add("clients/maximum", self.connected_max);
        values.add("subscriptions/count", subscriptions);
        values.add("shared_subscriptions/count", shared);
        values.add("retained messages/count", retained);
        values.add("messages/stored", retained + owed as u64);
        values.add("store/messages/count", retained + owed as u64);
    }

    /// Those of the vendor tell only on the leader how many there are, and -1 elsewhere.
    fn add_cluster(&self, values: &mut Values) {
        let (log, status) = (self.log.status(), self.log.cluster_status());
        let voters = match log.leader == self.log.node() {
            true => [status.voters().count(), status.online].map(|count| count.to_string()),
            false => ["-1"; 2].map(str::to_owned),
        };
        let [total, online] = voters;
        values.add("cedalo/ha/voting_nodes/total", total);
        values.add("cedalo/ha/voting_nodes/online", online);
        values.add("cluster/leader", log.leader);
        values.add("cluster/term", log.term);
        values.add("cluster/nodes", status.nodes.len());
    }

    /// Per minute, over the last minutes.
    fn add_averages(&mut self, values: &mut Values, total: &ShardStats) {
        let counts = [
            total.packets_received,
            total.packets_sent,
            dropped(total),
            total.received.iter().sum(),
            total.sent.iter().sum(),
            total.bytes_received,
            total.bytes_sent,
            total.accepted,
            total.opened,
        ];
        for minutes in MINUTES {
            let readings = minutes * READINGS_A_MINUTE;
            // As long as it does not run for so long: since it does.
            let from = self.history.get(readings - 1).or(self.history.back());
            let seconds = INTERVAL.as_secs() * self.history.len().min(readings) as u64;
            for (at, name) in RATES.iter().enumerate() {
                let counted = from.map_or(0, |from| counts[at].saturating_sub(from[at]));
                let hundredths = (counted * 6000).checked_div(seconds).unwrap_or(0);
                values.add(
                    format_args!("load/{name}/{minutes}min"),
                    format_args!("{}.{:02}", hundredths / 100, hundredths % 100),
                );
            }
        }
        self.history.push_front(counts);
        self.history.truncate(READINGS_MAX);
    }
}

struct Values(Vec<SysValue>);

impl Values {
    fn add(&mut self, name: impl Display, value: impl Display) {
        let topic = format!("$SYS/broker/{name}").into();
        self.0.push(SysValue { topic, value: value.to_string().into() });
    }
}

fn total(gateway: &GatewayStats) -> ShardStats {
    let mut total = ShardStats::default();
    for worker in &gateway.workers {
        total.add(worker);
    }
    total
}

pub(super) fn dropped(total: &ShardStats) -> u64 {
    total.dropped_queue_full
        + total.dropped_catching_up
        + total.dropped_expired
        + total.dropped_too_large
        + total.dropped_purged
        + total.dropped_not_authorized
}

/// Resident memory of the process in bytes, now and at most.
pub(super) fn memory() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some((bytes("VmRSS:")?, bytes("VmHWM:")?))
}
