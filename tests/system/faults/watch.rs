//! Until when acknowledgements flow again after a fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::count_of;

/// How long to wait for acknowledgements at most: by then something is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// Sees each acknowledgement, and by which node it came.
#[derive(Debug)]
pub(crate) struct Watch {
    since: Mutex<Since>,
}

#[derive(Debug)]
struct Since {
    start: Instant,
    /// When each node acknowledged the first message that was sent since the start.
    first: Vec<Option<Instant>>,
}

impl Watch {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { since: Mutex::new(Since { start: Instant::now(), first: vec![None; nodes] }) }
    }

    /// A fault begins or ends now.
    pub(crate) fn begin(&self) {
        let mut since = self.lock();
        since.start = Instant::now();
        since.first.fill(None);
    }

    /// A node acknowledged what was sent to it at that time.
    pub(crate) fn acknowledged(&self, node: usize, sent: Instant) {
        let mut since = self.lock();
        if sent >= since.start && since.first[node].is_none() {
            since.first[node] = Some(Instant::now());
        }
    }

    /// Whether the node acknowledged anything that was sent to it since the beginning.
    pub(crate) fn has_acknowledged(&self, node: usize) -> bool {
        self.lock().first[node].is_some()
    }

    /// Waits until each of these nodes has; how long that took since the beginning.
    pub(crate) fn until(&self, nodes: &[usize]) -> Duration {
        loop {
            let (start, first) = {
                let since = self.lock();
                (since.start, since.first.clone())
            };
            let times = nodes.iter().map(|&node| first[node]);
            if let Some(times) = times.collect::<Option<Vec<Instant>>>() {
                return times.into_iter().max().unwrap_or(start).duration_since(start);
            }
            let is_silent = |node: &usize| first[*node].is_none();
            let silent = nodes.iter().copied().filter(is_silent).map(|node| node + 1);
            assert!(
                start.elapsed() < LIMIT,
                "nothing was acknowledged for {LIMIT:?} by nodes {:?}",
                silent.collect::<Vec<_>>()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Since> {
        self.since.lock().expect("no panic while held")
    }
}

/// After these it is promised how long it takes.
const PROMISED: [&str; 3] =
    ["the leader was killed", "the leader was cut off", "a partition healed"];

/// How long it took after each kind of fault.
#[derive(Debug, Default)]
pub(crate) struct Times {
    by_kind: BTreeMap<&'static str, Vec<Duration>>,
}

impl Times {
    pub(crate) fn add(&mut self, kind: &'static str, time: Duration) {
        println!("  {kind}: {time:.1?}");
        self.by_kind.entry(kind).or_default().push(time);
    }

    /// A line for each kind.
    pub(crate) fn summary(&mut self) -> String {
        let mut text = String::new();
        for (kind, times) in &mut self.by_kind {
            times.sort();
            let at = |percent| percentile(times, percent);
            let _ = writeln!(
                text,
                "  acknowledgements after {kind}: {} times, p50 {:.1?}, p99 {:.1?}, max {:.1?}",
                times.len(),
                at(50),
                at(99),
                at(100)
            );
        }
        text
    }

    /// What is promised of them, if it is asked for: of a few times on a busy machine it says nothing.
    pub(crate) fn check(&self) {
        let seconds = count_of("LEDGERMQ_TEST_FLOW_SECONDS", 0);
        for kind in PROMISED.iter().filter(|_| seconds > 0) {
            let times = self.by_kind.get(kind).map_or(&[][..], Vec::as_slice);
            let is_kept = times.is_empty() || percentile(times, 99) <= Duration::from_secs(seconds);
            assert!(is_kept, "{kind}: acknowledgements flow again within {seconds} s (p99)");
        }
    }
}

/// Of times in their order, which are not none.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent).div_ceil(100).max(1) - 1]
}
