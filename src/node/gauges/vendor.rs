//! The vendor's bare names, for dashboards that know them: only where the meaning is the same.

use ledgermq_gateway::gateway::GatewayStats;
use ledgermq_log::Log;
use ledgermq_projections::reader::Reader;
use metrics::{Counter, Gauge, counter, gauge};

use super::float;
use crate::node::sys;

/// Handles, registered once.
pub(super) struct Vendor {
    sessions: Gauge,
    online: Gauge,
    offline: Gauge,
    expired: Counter,
    subscriptions: Gauge,
    shared_subscriptions: Gauge,
    retained: Gauge,
    bytes: [Counter; 2],
    payload_bytes: [Counter; 2],
    packets: [Counter; 2],
    publishes: [Counter; 2],
    dropped: Counter,
    sockets: Gauge,
    authenticated: Counter,
    unauthenticated: Counter,
    taken_over: Counter,
    memory: [Gauge; 2],
    voters: Gauge,
    voters_online: Gauge,
    stored_clients: Gauge,
    stored_subscriptions: Gauge,
    stored_retained: Gauge,
    stored_owed: Gauge,
    stored_wills: Gauge,
    commit_pending: Gauge,
}

/// What sessions have and are owed.
#[derive(Default)]
struct Stored {
    sessions: u64,
    online: u64,
    expired: u64,
    subscriptions: u64,
    shared: u64,
    owed: u64,
    retained: u64,
    wills: u64,
}

impl Vendor {
    pub(super) fn new() -> Self {
        let both =
            |received: &'static str, sent: &'static str| [counter!(received), counter!(sent)];
        gauge!("mosquitto_version").set(version());
        Self {
            sessions: gauge!("mosquitto_sessions"),
            online: gauge!("mosquitto_clients_online"),
            offline: gauge!("mosquitto_clients_offline"),
            expired: counter!("mosquitto_clients_expired"),
            subscriptions: gauge!("mosquitto_subscriptions"),
            shared_subscriptions: gauge!("mosquitto_shared_subscriptions"),
            retained: gauge!("mosquitto_retained_messages"),
            bytes: both("mosquitto_bytes_received", "mosquitto_bytes_sent"),
            payload_bytes: both("mosquitto_pub_bytes_received", "mosquitto_pub_bytes_sent"),
            packets: both("mosquitto_mqtt_packets_received", "mosquitto_mqtt_packets_sent"),
            publishes: both("mosquitto_mqtt_publish_received", "mosquitto_mqtt_publish_sent"),
            dropped: counter!("mosquitto_mqtt_publish_dropped"),
            sockets: gauge!("mosquitto_socket_connections"),
            authenticated: counter!("mosquitto_basic_auth_success"),
            unauthenticated: counter!("mosquitto_basic_auth_fail"),
            taken_over: counter!("mosquitto_session_take_over"),
            memory: [gauge!("mosquitto_heap_memory"), gauge!("mosquitto_heap_memory_max")],
            voters: gauge!("mosquitto_ha_voting_nodes"),
            voters_online: gauge!("mosquitto_ha_voting_nodes_online"),
            stored_clients: gauge!("mosquitto_cluster_stored_clients"),
            stored_subscriptions: gauge!("mosquitto_cluster_stored_subscriptions"),
            stored_retained: gauge!("mosquitto_cluster_stored_retain_messages"),
            stored_owed: gauge!("mosquitto_cluster_stored_client_messages"),
            stored_wills: gauge!("mosquitto_cluster_stored_wills"),
            commit_pending: gauge!("mosquitto_cluster_raft_commit_pending"),
        }
    }

    /// Brings the handles up to the moment.
    pub(super) fn gather(&self, log: &Log, views: &Reader, gateway: &GatewayStats) {
        self.gather_stored(&stored(views));
        self.gather_gateway(gateway);
        self.gather_cluster(log);
        if let Some((now, most)) = sys::memory() {
            self.memory[0].set(float(now));
            self.memory[1].set(float(most));
        }
    }

    fn gather_stored(&self, stored: &Stored) {
        self.sessions.set(float(stored.sessions));
        self.online.set(float(stored.online));
        self.offline.set(float(stored.sessions.saturating_sub(stored.online)));
        self.expired.absolute(stored.expired);
        self.subscriptions.set(float(stored.subscriptions));
        self.shared_subscriptions.set(float(stored.shared));
        self.retained.set(float(stored.retained));
        self.stored_clients.set(float(stored.sessions));
        self.stored_subscriptions.set(float(stored.subscriptions));
        self.stored_retained.set(float(stored.retained));
        self.stored_owed.set(float(stored.owed));
        self.stored_wills.set(float(stored.wills));
    }

    fn gather_gateway(&self, gateway: &GatewayStats) {
        let mut total = ledgermq_gateway::shard::ShardStats::default();
        gateway.workers.iter().for_each(|worker| total.add(worker));
        self.sockets.set(float(gateway.connections as u64));
        let received: u64 = total.received.iter().sum();
        let sent: u64 = total.sent.iter().sum();
        for (counters, counts) in [
            (&self.bytes, [total.bytes_received, total.bytes_sent]),
            (&self.payload_bytes, [total.payload_bytes_received, total.payload_bytes_sent]),
            (&self.packets, [total.packets_received, total.packets_sent]),
            (&self.publishes, [received, sent]),
        ] {
            counters.iter().zip(counts).for_each(|(counter, count)| counter.absolute(count));
        }
        self.dropped.absolute(sys::dropped(&total));
        self.taken_over.absolute(total.taken_over);
        self.authenticated.absolute(gateway.passwords.accepted);
        self.unauthenticated.absolute(gateway.passwords.refused);
    }

    /// Valid on the leader only, as with the vendor: -1 elsewhere.
    fn gather_cluster(&self, log: &Log) {
        let (status, cluster) = (log.status(), log.cluster_status());
        if status.leader != log.node() {
            for gauge in [&self.voters, &self.voters_online, &self.commit_pending] {
                gauge.set(-1.0);
            }
            return;
        }
        self.voters.set(float(cluster.voters().count() as u64));
        self.voters_online.set(float(cluster.online as u64));
        self.commit_pending.set(float(status.last_index.saturating_sub(status.commit_index)));
    }
}

fn stored(views: &Reader) -> Stored {
    views.with(|views| {
        let sessions = views.sessions();
        let mut stored = Stored {
            sessions: sessions.len() as u64,
            online: sessions.present().online(),
            expired: views.counters().sessions_expired,
            owed: views.shared_messages().0 as u64,
            retained: views.retained().len(),
            ..Stored::default()
        };
        for session in sessions.iter(None) {
            let held = session.subscriptions();
            stored.subscriptions += held.len() as u64;
            stored.shared += held.iter().filter(|held| held.filter.is_shared()).count() as u64;
            stored.owed += session.owed_messages() as u64;
            stored.wills += u64::from(session.has_will());
        }
        stored
    })
}

/// 1e9 * major + 1e6 * minor + 1e3 * patch.
fn version() -> f64 {
    let part = |text: &str| text.parse::<u64>().unwrap_or(0);
    let numbers = part(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000_000
        + part(env!("CARGO_PKG_VERSION_MINOR")) * 1_000_000
        + part(env!("CARGO_PKG_VERSION_PATCH")) * 1_000;
    float(numbers)
}
