//! The log takes batches and makes them durable, on real files.
//!
//! Watches "append: one lock a read, at most 0.1 us a message" and "log: at most 0.5 us", and that
//! one sync carries all that waits: `16 groups` must cost much less a message than `1 group`. With
//! `fsync` the time is the disk's above all; `os-cache` shows what the log itself takes, both of
//! them with two changes of threads.

use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use ledgermq_core::event::BatchBuilder;
use ledgermq_core::quantity::ByteSize;
use ledgermq_log::{
    Class, CommittedBatch, Config, Durability, Log, LogThread, Options, Producer, Tail, Wake,
};
use tempfile::TempDir;

use crate::messages::{fill, topics};

/// Messages of a group: what one client's window brings at once.
const GROUP: u32 = 100;
/// Old files go beyond this, so that a bench does not fill the disk.
const HOT_BYTES_MAX: ByteSize = ByteSize::mib(512);

/// All of this subject.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, durability) in [("fsync", Durability::Fsync), ("os-cache", Durability::OsCache)] {
        for (many, groups) in [("1 group", 1), ("16 groups", 16)] {
            group.throughput(Throughput::Elements(u64::from(groups * GROUP)));
            group.bench_function(format!("{name}/{many}"), |bencher| {
                let mut open = Open::new(durability);
                bencher.iter(|| open.append(groups));
                open.close();
            });
        }
    }
    group.finish();
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// A log with a producer and a tail, as a worker has them.
struct Open {
    log: Log,
    thread: LogThread,
    producer: Producer,
    tail: Tail,
    events: BatchBuilder,
    topics: Vec<String>,
    committed: Vec<Arc<CommittedBatch>>,
    /// Deleted at last.
    _dir: TempDir,
}

impl Open {
    fn new(durability: Durability) -> Self {
        // Below `target`: the directory for temporary files may be one in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let config = Config { durability, hot_bytes_max: HOT_BYTES_MAX, ..Config::default() };
        let options = Options { config, ..Options::new(dir.path(), 1) };
        let (log, thread) = ledgermq_log::open(options).unwrap();
        let wake: Arc<dyn Wake> = Arc::new(Unpark(std::thread::current()));
        let producer = log.producer(Arc::clone(&wake));
        let tail = log.tail_gapless(1, wake);
        let (events, topics, committed) = (producer.builder(), topics(10), Vec::new());
        Self { log, thread, producer, tail, events, topics, committed, _dir: dir }
    }

    /// Hands groups over one by one, and waits until all are committed.
    fn append(&mut self, groups: u32) {
        for _ in 0..groups {
            fill(&mut self.events, &self.topics, false, GROUP);
            self.producer.push(Class::Publish, &mut self.events).unwrap();
        }
        let mut missing = groups * GROUP;
        while missing > 0 {
            self.tail.take(usize::MAX, &mut self.committed).unwrap();
            missing -= self.committed.drain(..).map(|batch| batch.batch().len()).sum::<u32>();
            if missing > 0 && self.tail.prepare_sleep() {
                // The log wakes us; a moment is enough where it stopped.
                std::thread::park_timeout(Duration::from_millis(100));
            }
            self.tail.awake();
        }
        // As the projections do: nothing of it is needed any more.
        let done = self.tail.position() - 1;
        self.log.checkpointed(done);
        self.log.purge_allowed(done);
    }

    fn close(self) {
        self.log.stop();
        self.thread.join().unwrap();
    }
}
