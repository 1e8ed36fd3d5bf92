//! The log's turns: what the log thread does, by hand, over the simulated disk.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_core::quantity::ByteSize;
use ledgermq_log::cluster::MemberChange;
use ledgermq_log::space::Monitor;
use ledgermq_log::{
    Beginning, Config, Durability, Log, LogMachine, Membership, NoPeers, Now, Wake,
};

use crate::net::Out;
use crate::node::Outside;
use crate::node::disk::{Disk, SimStore};

/// The log with its machine and its disk.
pub(crate) struct SimLog {
    pub(crate) log: Log,
    machine: LogMachine<SimStore>,
    disk: Disk,
    /// The node's even clock when the process started.
    started: Timestamp,
}

impl SimLog {
    pub(crate) fn open(
        disk: &Disk,
        membership: Option<Membership>,
        o: &mut Outside<'_>,
    ) -> Result<Self, String> {
        let options = o.options;
        let config = Config {
            durability: Durability::Fsync,
            hot_entries_max: options.hot_entries,
            ring_bytes: ByteSize(options.ring_bytes),
            cache_bytes: ByteSize(options.ring_bytes),
            reserve_publish: ByteSize(40_000),
            reserve_open: ByteSize(20_000),
            ballast: ByteSize(10_000),
            file_bytes: ByteSize(10_000),
            ..Config::default()
        };
        let store = disk.open();
        let now = Now { wall: o.wall, monotonic: Duration::ZERO };
        let stopwatch = Box::new(|| Duration::ZERO);
        let seed = o.rng.next();
        let space = Monitor::new(&config, disk.space());
        let (node, node_lost) = (o.name.id, o.node_lost);
        let snapshots = Arc::new(disk.snapshots.clone());
        let beginning = Beginning {
            node,
            seed,
            membership,
            node_lost,
            config,
            space,
            snapshots,
            catch_up_rate: 64 << 20,
            stopwatch,
        };
        let (log, machine) = LogMachine::recover(store, beginning, now)
            .map_err(|error| format!("the log does not open: {error}"))?;
        Ok(Self { log, machine, disk: disk.clone(), started: o.now })
    }

    /// One turn of the log thread, which takes up to so many inputs of the other nodes.
    pub(crate) fn turn(&mut self, o: &mut Outside<'_>, inputs: usize) -> Result<(), String> {
        let now = Now { wall: o.wall, monotonic: o.now.since(self.started) };
        let node = o.name.id;
        let turned = if let Some(others) = &mut o.others {
            others.net.dial(node, others.nodes, others.now, o.rng);
            if self.machine.may_receive() {
                for _ in 0..inputs {
                    let Some(input) = others.net.next(node, others.now) else { break };
                    self.machine.receive(input);
                }
            }
            let mut out = Out::new(node, others.now, others.net, o.rng);
            self.machine.turn(now, &mut out)
        } else {
            self.machine.turn(now, &mut NoPeers)
        };
        turned.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Hands leadership over to `to`, if this node leads.
    pub(crate) fn transfer(&mut self, to: u64) {
        self.machine.transfer(to);
    }

    /// Proposes a change of the members, if this node leads.
    pub(crate) fn propose_change(&mut self, change: &MemberChange) -> bool {
        self.machine.propose_change(change)
    }

    /// Whether a change of the members is under way.
    pub(crate) fn is_joint(&self) -> bool {
        self.machine.is_joint()
    }

    /// Whether this node, `own`, has a vote, and no change of several votes is under way.
    pub(crate) fn is_final(&self, own: u64) -> bool {
        !self.machine.is_joint() && self.machine.voters().contains(&own)
    }

    /// The process ends in order.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.machine.close().map_err(|error| error.to_string())
    }

    /// The process is gone.
    pub(crate) fn crash(self, o: &mut Outside<'_>) -> Disk {
        let survivors = self.disk.cut_power(o.rng);
        if survivors > 0 {
            o.say(format_args!("{survivors} unsynced writes had reached the disk"));
        }
        self.disk
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The index that admission stands at, and its checksum.
    pub(crate) fn admission(&self) -> (Index, u64) {
        self.machine.admission_checksum()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.machine.is_idle()
    }
}

/// Wakes nobody: turns come by chance.
pub(crate) struct NoWake;

impl NoWake {
    pub(crate) fn shared() -> Arc<dyn Wake> {
        Arc::new(Self)
    }
}

impl Wake for NoWake {
    fn wake(&self) {}
}
