//! How much memory the node may take, and what that leaves to each of its pools.

use std::fs;

use ledgermq_core::quantity::ByteSize;
use serde::{Deserialize, Serialize};

use super::{Effective, Origin};

/// The `[limits]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Resident memory of the process, at least 128MiB. It bounds the limits of everything that grows
    /// with load, as `check-config` shows; and when nine tenths of it are in use, messages are refused,
    /// a little later new sessions and subscriptions, until there is less. `"0"` is three quarters of
    /// the machine's memory, or of what its control group leaves.
    pub(crate) memory_max: ByteSize,
}

/// The least that a node can work with.
pub(super) const LEAST: ByteSize = ByteSize::mib(128);
/// Memory that a session with a subscription takes, and an entry of the log.
const SESSION_BYTES: u64 = 1 << 10;
const ENTRY_BYTES: u64 = 88;
/// What a retained message takes besides its own bytes.
const RETAINED_BYTES: u64 = 256;

/// Puts the memory of the node in the place of `"0"`, and lowers all limits that it cannot hold.
pub(super) fn bound(effective: &mut Effective) {
    let max = &mut effective.config.limits.memory_max;
    if max.0 == 0 {
        max.0 = of_the_machine().max(LEAST.0);
    }
    let max = max.0;
    set(effective, "limits.memory_max", ByteSize(max).to_string().into(), false);
    let part = |parts: u64| max / parts;
    let config = &mut effective.config;
    let (limits, log) = (&mut config.gateway.limits, &mut config.log);
    let sizes = [
        ("log.ring_bytes", &mut log.ring_bytes, part(16)),
        ("log.cache_bytes", &mut log.cache_bytes, part(32)),
        ("gateway.limits.output_bytes", &mut limits.output_bytes, part(8)),
        ("gateway.limits.input_bytes", &mut limits.input_bytes, part(16)),
        ("gateway.limits.waiting_bytes", &mut limits.waiting_bytes, part(16)),
        ("gateway.limits.waiting_reference_bytes", &mut limits.waiting_reference_bytes, part(16)),
        ("gateway.limits.owed_reference_bytes", &mut limits.owed_reference_bytes, part(8)),
        ("gateway.limits.retained_bytes", &mut limits.retained_bytes, part(8)),
    ];
    let counts = [
        ("log.hot_entries_max", &mut log.hot_entries_max, part(16) / ENTRY_BYTES),
        ("gateway.limits.sessions", &mut limits.sessions, part(8) / SESSION_BYTES),
        (
            "gateway.limits.retained_messages",
            &mut limits.retained_messages,
            part(16) / RETAINED_BYTES,
        ),
    ];
    let mut lowered: Vec<(&str, toml::Value)> = Vec::new();
    for (key, size, most) in sizes {
        if size.0 > most {
            *size = ByteSize(most);
            lowered.push((key, size.to_string().into()));
        }
    }
    for (key, count, most) in counts {
        if *count > most {
            *count = most;
            lowered.push((key, i64::try_from(most).unwrap_or(i64::MAX).into()));
        }
    }
    for (key, value) in lowered {
        set(effective, key, value, true);
    }
}

fn set(effective: &mut Effective, key: &str, value: toml::Value, is_lowered: bool) {
    if let Some(setting) = effective.settings.iter_mut().find(|setting| setting.key == key) {
        if is_lowered {
            let asked = Box::new(setting.origin.clone());
            setting.origin = Origin::Memory { value: setting.value.clone(), asked };
        }
        setting.value = value;
    }
}

/// Three quarters of the memory that the process can have.
fn of_the_machine() -> u64 {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| total_of(&text));
    let group = read("/proc/self/cgroup").and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
        least_of_groups(&path, |path| read(&format!("/sys/fs/cgroup{path}/memory.max")))
    });
    // Version 1 of control groups.
    let older = read("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    let older = older.and_then(|text| text.trim().parse::<u64>().ok());
    let least = [machine, group, older].into_iter().flatten().min();
    // Where nothing is known, nothing is bounded.
    least.map_or(u64::MAX >> 1, |least| least / 4 * 3)
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// The lowest limit of the control group at `path` and those above it.
fn least_of_groups(path: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let mut path = path.trim_end_matches('/');
    let mut least = None;
    loop {
        let limit = read(path).and_then(|text| text.trim().parse::<u64>().ok());
        least = least.into_iter().chain(limit).min();
        let Some((parent, _)) = path.rsplit_once('/') else { return least };
        path = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_read() {
        let text = "MemTotal:       24683412 kB\nMemFree:        20000000 kB\n";
        assert_eq!(total_of(text), Some(24_683_412 << 10));
        assert_eq!(total_of("nothing"), None);
    }

    #[test]
    fn the_lowest_limit_on_the_way_to_a_control_group_counts() {
        let read = |path: &str| {
            let limits = [("", "max\n"), ("/a", "1000\n"), ("/a/b", "max\n"), ("/a/b/c", "2000\n")];
            limits.iter().find(|(of, _)| *of == path).map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(least_of_groups("/a/b/c", read), Some(1000));
        assert_eq!(least_of_groups("/", read), None);
        assert_eq!(least_of_groups("/elsewhere", read), None);
    }
}
