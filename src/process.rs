//! What a process uses, as /proc tells it. Linux only; elsewhere nothing is known.

use std::fs;
use std::time::Duration;

/// CPU time and resident memory of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
}

/// What the process with this number uses.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields are counted behind the name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let pages: u64 = fields.get(21)?.parse().ok()?;
    // Linux counts both in units that are the same on all machines we build for.
    Some(Usage { cpu: Duration::from_millis(ticks * 10), resident_bytes: pages * 4096 })
}

/// How many file descriptors this process has open.
pub(crate) fn open_descriptors() -> Option<usize> {
    // One of them is that of the directory.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}
