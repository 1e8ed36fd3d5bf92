//! A log on a simulated disk, turned by hand.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_core::quantity::ByteSize;
use ledgermq_log::space::Monitor;
use ledgermq_log::store::simulated::{SimulatedDisk, SimulatedStore};
use ledgermq_log::testing::MemoryFiles;
use ledgermq_log::{
    Beginning, CommittedBatch, Config, Log, LogMachine, NoPeers, Now, OpenError, Tail, TurnError,
};

use crate::support::Bell;

/// Size of a file.
pub(crate) const FILE: u64 = 1 << 20;

/// A running log.
pub(crate) struct Simulated {
    pub(crate) log: Log,
    machine: LogMachine<SimulatedStore>,
    now: Now,
}

/// Small files and reserves of a few of them.
pub(crate) fn config() -> Config {
    Config { file_bytes: ByteSize(FILE), ..Config::default() }
}

impl Simulated {
    pub(crate) fn open(disk: &SimulatedDisk, config: &Config) -> Result<Self, OpenError> {
        let now = Now { wall: Timestamp::from_secs(1_700_000_000), monotonic: Duration::ZERO };
        let beginning = Beginning {
            node: 1,
            seed: 7,
            membership: None,
            node_lost: Duration::from_secs(10),
            config: config.clone(),
            space: Monitor::new(config, Box::new(disk.clone())),
            snapshots: Arc::new(MemoryFiles::default()),
            catch_up_rate: 64 << 20,
            stopwatch: Box::new(|| Duration::ZERO),
        };
        let (log, machine) = LogMachine::recover(SimulatedStore::open(disk)?, beginning, now)?;
        Ok(Self { log, machine, now })
    }

    /// Turns once, ten milliseconds later.
    pub(crate) fn turn(&mut self) -> Result<(), TurnError> {
        self.now.monotonic += Duration::from_millis(10);
        self.now.wall = self.now.wall.plus(Duration::from_millis(10));
        self.machine.turn(self.now, &mut NoPeers).map(drop)
    }

    /// Whether the machine may rest before the next turn.
    pub(crate) fn next_turn_is_ahead(&self) -> bool {
        self.machine.next_turn() > self.now.monotonic
    }

    /// Puts the wall clock back.
    pub(crate) fn set_wall_back(&mut self, by: Duration) {
        self.now.wall = Timestamp(self.now.wall.0 - u64::try_from(by.as_micros()).expect("short"));
    }

    /// Turns through this much time.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        while self.now.monotonic < end {
            self.turn().expect("the disk is good");
        }
    }

    /// Ends in order, unless the disk fails.
    pub(crate) fn try_close(mut self) -> Result<(), TurnError> {
        self.machine.close()
    }

    pub(crate) fn close(self) {
        self.try_close().expect("the disk is good");
    }

    pub(crate) fn tail(&self, from: Index) -> Tail {
        self.log.tail_gapless(from, Bell::mute())
    }
}

/// Everything that `tail` has now.
pub(crate) fn drain(tail: &mut Tail) -> Vec<Arc<CommittedBatch>> {
    let mut batches = Vec::new();
    loop {
        let before = batches.len();
        tail.take(1 << 20, &mut batches).expect("readable");
        if batches.len() == before {
            return batches;
        }
    }
}
