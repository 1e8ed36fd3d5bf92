//! The node's counters on the metrics page, read from the rooms when it is asked for.

mod cluster;
mod fsyncs;
mod memory;
mod process;
mod vendor;

use std::sync::Arc;

use ledgermq_core::connection::{Refusal, Request};
use ledgermq_gateway::authenticator::AuthenticatorStats;
use ledgermq_gateway::gateway::{FAILURES, GatewayStats, StatsReader};
use ledgermq_log::{Class, Log};
use ledgermq_projections::reader::Reader;
use metrics::{Counter, Gauge, counter, gauge};

use super::memory::Level;

/// Handles, registered once.
pub(super) struct Gauges {
    log: Log,
    views: Reader,
    gateway: StatsReader,
    process: process::Process,
    memory: memory::Memory,
    cluster: cluster::Cluster,
    fsyncs: fsyncs::Fsyncs,
    vendor: Option<vendor::Vendor>,
    connections: Gauge,
    sessions: Gauge,
    persistent_sessions: Gauge,
    groups: Gauge,
    group_messages: [Gauge; 2],
    group_losses: [Counter; 2],
    retained_messages: Gauge,
    retained_bytes: Gauge,
    commit_index: Gauge,
    applied_index: Gauge,
    log_bytes: Gauge,
    disk_free_bytes: Gauge,
    term: Gauge,
    waiting_bytes: Gauge,
    accepting: [Gauge; 3],
    committed_batches: Counter,
    committed_bytes: Counter,
    void_batches: Counter,
    syncs: Counter,
    last_sync: Gauge,
    no_space: Counter,
    accepted: Counter,
    refused_connections: Counter,
    failed_connections: [Counter; FAILURES.len()],
    opened: Counter,
    refused: [[Counter; Refusal::ALL.len()]; Request::COUNT],
    throttled: Counter,
    authenticated: Counter,
    unauthenticated: [Counter; 3],
    foreign_sessions: Counter,
    silent: Counter,
    unfinished: Counter,
    malformed: Counter,
    taken_over: Counter,
    packets: [Counter; 2],
    bytes: [Counter; 2],
    received: [Counter; 3],
    sent: [Counter; 3],
    dropped: [Dropped; 6],
    dropped_of_sessions: [Counter; 5],
}

/// A counter of dropped deliveries, and where its count is.
type Dropped = (Counter, fn(&GatewayStats) -> u64);

/// Sums one count over all workers.
macro_rules! total {
    ($stats:expr, $($field:tt)+) => {
        $stats.workers.iter().map(|worker| worker.$($field)+).sum::<u64>()
    };
}

fn by_qos(name: &'static str) -> [Counter; 3] {
    ["0", "1", "2"].map(|qos| counter!(name, "qos" => qos))
}

impl Gauges {
    pub(super) fn new(log: Log, views: Reader, gateway: StatsReader, level: Level) -> Self {
        let dropped = |reason: &'static str| counter!("ledgermq_mqtt_messages_dropped_total", "reason" => reason);
        gauge!("ledgermq_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Self {
            log,
            views,
            gateway,
            process: process::Process::new(),
            memory: memory::Memory::new(level),
            cluster: cluster::Cluster::new(),
            fsyncs: fsyncs::Fsyncs::new(),
            vendor: None,
            connections: gauge!("ledgermq_mqtt_connections"),
            sessions: gauge!("ledgermq_sessions"),
            persistent_sessions: gauge!("ledgermq_persistent_sessions"),
            groups: gauge!("ledgermq_shared_groups"),
            group_messages: ["waiting", "held"]
                .map(|state| gauge!("ledgermq_shared_messages", "state" => state)),
            group_losses: ["session_ended", "no_member"].map(
                |reason| counter!("ledgermq_shared_messages_lost_total", "reason" => reason),
            ),
            retained_messages: gauge!("ledgermq_retained_messages"),
            retained_bytes: gauge!("ledgermq_retained_bytes"),
            commit_index: gauge!("ledgermq_raft_commit_index"),
            applied_index: gauge!("ledgermq_raft_applied_index"),
            log_bytes: gauge!("ledgermq_log_size_bytes"),
            disk_free_bytes: gauge!("ledgermq_disk_free_bytes"),
            term: gauge!("ledgermq_raft_term"),
            waiting_bytes: gauge!("ledgermq_log_waiting_bytes"),
            accepting: ["publish", "open", "progress"]
                .map(|class| gauge!("ledgermq_log_accepting", "class" => class)),
            committed_batches: counter!("ledgermq_log_batches_total"),
            committed_bytes: counter!("ledgermq_log_bytes_total"),
            void_batches: counter!("ledgermq_log_void_batches_total"),
            syncs: counter!("ledgermq_log_fsyncs_total"),
            last_sync: gauge!("ledgermq_log_last_fsync_seconds"),
            no_space: counter!("ledgermq_log_no_space_total"),
            accepted: counter!("ledgermq_mqtt_connections_accepted_total"),
            refused_connections: counter!("ledgermq_mqtt_connections_refused_total"),
            failed_connections: FAILURES.map(
                |reason| counter!("ledgermq_mqtt_connections_failed_total", "reason" => reason),
            ),
            opened: counter!("ledgermq_mqtt_sessions_opened_total"),
            refused: [
                "ledgermq_mqtt_connects_refused_total",
                "ledgermq_mqtt_messages_refused_total",
                "ledgermq_mqtt_subscriptions_refused_total",
            ]
            .map(|name| {
                Refusal::ALL.map(|refusal| counter!(name, "reason" => refusal.name()))
            }),
            throttled: counter!("ledgermq_mqtt_throttled_total"),
            authenticated: counter!("ledgermq_mqtt_authentications_total"),
            unauthenticated: ["password", "held_off", "busy"].map(
                |reason| counter!("ledgermq_mqtt_authentications_refused_total", "reason" => reason),
            ),
            foreign_sessions: counter!("ledgermq_mqtt_foreign_sessions_refused_total"),
            silent: counter!("ledgermq_mqtt_keep_alive_timeouts_total"),
            unfinished: counter!("ledgermq_mqtt_connects_given_up_total"),
            malformed: counter!("ledgermq_mqtt_malformed_packets_total"),
            taken_over: counter!("ledgermq_mqtt_takeovers_total"),
            packets: [
                counter!("ledgermq_mqtt_packets_received_total"),
                counter!("ledgermq_mqtt_packets_sent_total"),
            ],
            bytes: [
                counter!("ledgermq_mqtt_bytes_received_total"),
                counter!("ledgermq_mqtt_bytes_sent_total"),
            ],
            received: by_qos("ledgermq_mqtt_messages_received_total"),
            sent: by_qos("ledgermq_mqtt_messages_sent_total"),
            dropped: [
                (dropped("queue_full"), |stats| total!(stats, dropped_queue_full)),
                (dropped("catching_up"), |stats| total!(stats, dropped_catching_up)),
                (dropped("expired"), |stats| total!(stats, dropped_expired)),
                (dropped("too_large"), |stats| total!(stats, dropped_too_large)),
                (dropped("purged"), |stats| total!(stats, dropped_purged)),
                (dropped("not_authorized"), |stats| total!(stats, dropped_not_authorized)),
            ],
            // In the order of `DropReason`.
            dropped_of_sessions: ["queue_full", "expired", "too_large", "purged", "not_authorized"]
                .map(|reason| {
                    counter!("ledgermq_session_messages_dropped_total", "reason" => reason)
                }),
        }
    }

    /// The same with the vendor's names.
    pub(super) fn with_vendor(mut self) -> Self {
        self.vendor = Some(vendor::Vendor::new());
        self
    }

    /// Brings all handles up to the moment.
    pub(super) fn gather(&self) {
        self.gather_log();
        self.cluster.gather(&self.log);
        self.gather_views();
        self.gather_gateway();
        self.process.gather();
        let gateway = self.gateway.read();
        self.memory.gather(&gateway, &self.views);
        if let Some(vendor) = &self.vendor {
            vendor.gather(&self.log, &self.views, &gateway);
        }
    }

    fn gather_log(&self) {
        let status = self.log.status();
        self.commit_index.set(float(status.commit_index));
        self.term.set(float(status.term));
        self.log_bytes.set(float(status.disk_bytes));
        self.disk_free_bytes.set(float(status.free_bytes));
        self.waiting_bytes.set(float(status.waiting_bytes));
        for (gauge, class) in
            self.accepting.iter().zip([Class::Publish, Class::Open, Class::Progress])
        {
            gauge.set(if status.gate.accepts(class) { 1.0 } else { 0.0 });
        }
        self.committed_batches.absolute(status.committed_batches);
        self.committed_bytes.absolute(status.committed_bytes);
        self.void_batches.absolute(status.void_batches);
        self.syncs.absolute(status.syncs.counts.iter().sum());
        self.fsyncs.gather(&status.syncs);
        self.last_sync.set(status.last_sync.as_secs_f64());
        self.no_space.absolute(status.no_space);
    }

    fn gather_views(&self) {
        self.applied_index.set(float(self.views.applied()));
        self.persistent_sessions.set(float(self.views.persistent_sessions()));
        self.retained_messages.set(float(self.views.retained_messages()));
        self.retained_bytes.set(float(self.views.retained_bytes()));
        let (sessions, groups, messages, counters) = self.views.with(|views| {
            let (sessions, groups) = (views.sessions().len(), views.shared_groups());
            (sessions as u64, groups as u64, views.shared_messages(), views.counters().clone())
        });
        self.groups.set(float(groups));
        let (owed, waiting) = messages;
        for (gauge, count) in self.group_messages.iter().zip([waiting, owed - waiting]) {
            gauge.set(float(count as u64));
        }
        let lost = [counters.shared_lost, counters.shared_unheard];
        for (counter, count) in self.group_losses.iter().zip(lost) {
            counter.absolute(count);
        }
        self.sessions.set(float(sessions));
        for (counter, count) in self.dropped_of_sessions.iter().zip(counters.dropped) {
            counter.absolute(count);
        }
    }

    fn gather_gateway(&self) {
        let stats = self.gateway.read();
        self.connections.set(float(stats.connections as u64));
        self.refused_connections.absolute(stats.connections_refused);
        for (counter, count) in self.failed_connections.iter().zip(stats.connections_failed) {
            counter.absolute(count);
        }
        self.accepted.absolute(total!(stats, accepted));
        self.opened.absolute(total!(stats, opened));
        for (request, counters) in self.refused.iter().enumerate() {
            for (refusal, counter) in counters.iter().enumerate() {
                counter.absolute(total!(stats, refused[request][refusal]));
            }
        }
        self.throttled.absolute(total!(stats, throttled));
        let AuthenticatorStats { accepted, refused, held_off } = stats.passwords;
        let busy = total!(stats, refused_busy);
        self.authenticated.absolute(accepted);
        for (counter, count) in self.unauthenticated.iter().zip([refused, held_off, busy]) {
            counter.absolute(count);
        }
        self.foreign_sessions.absolute(total!(stats, refused_foreign));
        self.silent.absolute(total!(stats, silent));
        self.unfinished.absolute(total!(stats, unfinished));
        self.malformed.absolute(total!(stats, malformed));
        self.taken_over.absolute(total!(stats, taken_over));
        let packets = [total!(stats, packets_received), total!(stats, packets_sent)];
        let bytes = [total!(stats, bytes_received), total!(stats, bytes_sent)];
        for (counters, counts) in [(&self.packets, packets), (&self.bytes, bytes)] {
            for (counter, count) in counters.iter().zip(counts) {
                counter.absolute(count);
            }
        }
        for (qos, counter) in self.received.iter().enumerate() {
            counter.absolute(total!(stats, received[qos]));
        }
        for (qos, counter) in self.sent.iter().enumerate() {
            counter.absolute(total!(stats, sent[qos]));
        }
        for (counter, count) in &self.dropped {
            counter.absolute(count(&stats));
        }
    }
}

/// Prometheus knows only floating point; above 2^53 the last digits are lost.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn float(value: u64) -> f64 {
    value as f64
}

/// The gauges, as the metrics page calls them.
pub(super) fn gatherer(gauges: Gauges) -> Box<dyn Fn() + Send + Sync> {
    let gauges = Arc::new(gauges);
    Box::new(move || gauges.gather())
}
