//! What the node holds in memory, and whether it is short of it.

use ledgermq_gateway::gateway::GatewayStats;
use ledgermq_gateway::shard::Held;
use ledgermq_projections::reader::Reader;
use metrics::{Counter, Gauge, counter, gauge};

use crate::node::memory::Level;

/// Handles, registered once.
pub(super) struct Memory {
    level: Level,
    pressure: Gauge,
    entered: [Counter; 2],
    held: [Gauge; 5],
    owed: Gauge,
}

impl Memory {
    pub(super) fn new(level: Level) -> Self {
        Self {
            level,
            pressure: gauge!("ledgermq_memory_pressure"),
            entered: ["publishes", "sessions"]
                .map(|refused| counter!("ledgermq_memory_pressure_total", "reason" => refused)),
            held: ["output", "unread", "references", "input", "waiting"]
                .map(|what| gauge!("ledgermq_memory_held_bytes", "reason" => what)),
            owed: gauge!("ledgermq_owed_messages"),
        }
    }

    /// Brings the handles up to the moment.
    pub(super) fn gather(&self, stats: &GatewayStats, views: &Reader) {
        self.pressure.set(f64::from(self.level.get()));
        for (counter, count) in self.entered.iter().zip(self.level.entered()) {
            counter.absolute(count);
        }
        let total = |of: fn(&Held) -> usize| {
            stats.workers.iter().map(|worker| of(&worker.held)).sum::<usize>() as u64
        };
        let held = [
            total(|held| held.output_bytes),
            total(|held| held.blocked_bytes),
            total(|held| held.references_bytes),
            total(|held| held.input_bytes),
            total(|held| held.pinned_bytes),
        ];
        for (gauge, bytes) in self.held.iter().zip(held) {
            gauge.set(super::float(bytes));
        }
        self.owed.set(super::float(views.owed_messages()));
    }
}
