//! What the process uses, by the names that Prometheus gives it.

use metrics::{Counter, Gauge, counter, gauge};

use crate::process;

/// Handles, registered once.
pub(super) struct Process {
    cpu: Counter,
    resident: Gauge,
    descriptors: Gauge,
}

impl Process {
    pub(super) fn new() -> Self {
        Self {
            cpu: counter!("process_cpu_seconds_total"),
            resident: gauge!("process_resident_memory_bytes"),
            descriptors: gauge!("process_open_fds"),
        }
    }

    /// Brings the handles up to the moment; they stay as they were where nothing is known.
    pub(super) fn gather(&self) {
        if let Some(usage) = process::usage(std::process::id()) {
            self.cpu.absolute(usage.cpu.as_secs());
            self.resident.set(super::float(usage.resident_bytes));
        }
        if let Some(descriptors) = process::open_descriptors() {
            self.descriptors.set(super::float(descriptors as u64));
        }
    }
}
