//! Events become durable, ordered and the same on every node: raft-rs over raft-engine.
//!
//! [`open`] recovers the log of a data directory and starts the log thread; [`Log`] is the cheap
//! handle that everybody else holds. What goes in are batches of events ([`Producer`],
//! [`Log::append`]); what comes out are [`CommittedBatch`]es, through tails ([`Log::tail_gapless`],
//! [`Log::tail_state`]) or by index ([`Log::read`]). `log/README.md` has the formats and the rules
//! of recovery and purging.

mod admission;
mod class;
mod clock;
pub mod cluster;
mod commanding;
mod committed;
mod config;
mod deriving;
mod driver;
mod envelope;
mod error;
mod incarnation;
mod log;
mod machine;
mod outbox;
pub mod peers;
mod producer;
mod receipt;
mod replica;
mod ring;
mod shared;
mod sleepers;
mod snapshots;
pub mod space;
mod staging;
mod status;
pub mod store;
mod tail;
mod wake;

#[cfg(feature = "testing")]
pub mod testing;

pub use crate::class::{Class, Gate};
pub use crate::clock::Now;
pub use crate::cluster::{NoPeers, PeerInput, Peers, Sent};
pub use crate::commanding::Commanded;
pub use crate::committed::CommittedBatch;
pub use crate::config::{Asking, ClusterOptions, Config, Durability, Options};
pub use crate::deriving::{Derivation, Leading};
pub use crate::driver::{LogThread, given_up, open};
pub use crate::error::{AppendError, Full, OpenError, ReadError, Stopped, TailError};
pub use crate::log::{Log, Ticket};
pub use crate::machine::{Beginning, LogMachine, Membership, TurnError};
pub use crate::producer::Producer;
pub use crate::receipt::{Pushed, Receipt};
pub use crate::snapshots::{CutWriter, Incoming, SnapshotDir, SnapshotFile, SnapshotFiles};
pub use crate::status::{
    Buckets, ClusterStatus, Health, NodeStatus, RunningSnapshot, SnapshotStatus, SnapshotStep,
    Status,
};
pub use crate::tail::{StateItem, StateTail, Tail};
pub use crate::wake::Wake;
