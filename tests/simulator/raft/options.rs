//! What a seed chooses.

use ledgermq_core::offset::Timestamp;

use crate::raft::fold::Habits;
use crate::rng::Rng;
use crate::trace::START;

/// Of a cluster whose nodes are replaced, so many come in by themselves.
pub(crate) const FIRST_NODES: u64 = 3;

/// The tunables of one run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) nodes: u64,
    /// The first founds the cluster, the others are let in and leave.
    pub(crate) grows: bool,
    pub(crate) members: u32,
    /// Steps with faults.
    pub(crate) steps: u64,
    /// Longest pause between two steps, in microseconds.
    pub(crate) pause_max: u64,
    pub(crate) ring_bytes: u64,
    /// Of a thousand steps.
    pub(crate) push: u32,
    pub(crate) turn: u32,
    pub(crate) crash: u32,
    pub(crate) partition: u32,
    pub(crate) reset: u32,
    pub(crate) halt: u32,
    pub(crate) jump: u32,
    pub(crate) full: u32,
    pub(crate) transfer: u32,
    /// Disks are damaged, of a minority at a time.
    pub(crate) damage: u32,
    /// Fresh nodes take the place of others: those beyond the third come in no other way.
    pub(crate) replace: u32,
    pub(crate) payload_max: u64,
    /// Seconds after which a silent node is declared lost.
    pub(crate) node_lost: u64,
    /// How far the wall clocks of the nodes are apart, in seconds.
    pub(crate) skew_max: u64,
    /// Entries that stay in a log; what is beyond may be purged.
    pub(crate) hot_entries: u64,
    /// Bytes of snapshots that are sent in a second.
    pub(crate) catch_up_rate: u64,
    /// What stands in for the projections.
    pub(crate) fold: Habits,
    /// Of a thousand turns of a node that is amid a snapshot, those in which it crashes.
    pub(crate) torn: u32,
    /// With `durability = "os-cache"`: a process that dies loses nothing, a power cut what was not synced.
    pub(crate) is_cached: bool,
}

impl Options {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut often = |most: u64| u32::try_from(rng.range(0, most)).expect("it is small");
        let (crash, partition, reset) = (often(6), often(6), often(10));
        let members = often(20);
        let (halt, jump, full, transfer) = (often(4), often(3), often(3), often(4));
        let mut options = Self {
            nodes: *rng.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5]),
            grows: rng.permille(400),
            replace: 0,
            members,
            steps: rng.range(1_000, 6_000),
            pause_max: *rng.pick(&[2_000, 10_000, 50_000]),
            ring_bytes: *rng.pick(&[2_000, 100_000, 10_000_000]),
            push: u32::try_from(rng.range(50, 500)).expect("it is small"),
            turn: u32::try_from(rng.range(300, 900)).expect("it is small"),
            crash,
            partition,
            reset,
            halt,
            jump,
            full,
            transfer,
            payload_max: *rng.pick(&[10, 1_000, 1_000, 20_000]),
            node_lost: *rng.pick(&[4, 10, 10]),
            skew_max: *rng.pick(&[0, 0, 2, 50]),
            damage: u32::try_from(*rng.pick(&[0, 0, 1, 3, 10])).expect("it is small"),
            hot_entries: *rng.pick(&[1 << 40, 1 << 40, 10, 30, 100]),
            catch_up_rate: *rng.pick(&[2 << 20, 64 << 20]),
            fold: Habits {
                padding: *rng.pick(&[0, 0, 300_000, 2_000_000, 6_000_000]),
                saves: *rng.pick(&[5, 50, 300]),
                waits: *rng.pick(&[0, 300, 900]),
                fails: *rng.pick(&[0, 100, 300]),
            },
            torn: *rng.pick(&[0, 10, 50]),
            is_cached: rng.permille(200),
        };
        if options.grows && options.damage > 0 {
            // Enough time and nodes to have something that can be damaged.
            options.nodes = options.nodes.max(3);
            options.pause_max = options.pause_max.max(20_000);
            options.members = options.members.max(10);
        }
        options
    }

    /// Has nodes of some of the clusters that grow replaced.
    pub(crate) fn draw_replacements(&mut self, rng: &mut Rng) {
        self.replace = if self.grows { *rng.pick(&[0, 0, 2, 10, 50]) } else { 0 };
        if self.replace > 0 {
            self.nodes = rng.range(FIRST_NODES + 1, 6);
            self.members = self.members.max(10);
        }
    }
}

/// When a run begins.
pub(crate) fn beginning() -> Timestamp {
    START
}
