//! The section `[log]` of the configuration.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use ledgermq_core::quantity::ByteSize;

use crate::cluster::ClusterConfig;

/// When a batch counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// It was fsynced.
    #[default]
    Fsync,
    /// It is in the page cache; fsynced at least every 50 ms. A crash of the process loses nothing,
    /// a power cut loses up to that much of what was acknowledged.
    OsCache,
}

/// The section `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// When a batch counts as durable: `"fsync"` or `"os-cache"`.
    pub durability: Durability,
    /// Size of the hot log beyond which its oldest files are given up.
    pub hot_bytes_max: ByteSize,
    /// Number of entries in the hot log beyond which the oldest are given up (each costs 88 bytes
    /// of memory).
    pub hot_entries_max: u64,
    /// Size of a file of the log.
    pub file_bytes: ByteSize,
    /// Free space below which publishes are refused; `"0B"` = four files.
    pub reserve_publish: ByteSize,
    /// Free space below which session opens are refused, too; `"0B"` = two files.
    pub reserve_open: ByteSize,
    /// A file of this size is given up when the disk is full, so that progress and purging can go
    /// on; `"0B"` = two files.
    pub ballast: ByteSize,
    /// Recent batches that stay in memory for tails.
    pub ring_bytes: ByteSize,
    /// Batches read from disk that stay in memory for [`crate::Log::read`].
    pub cache_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            hot_bytes_max: ByteSize::gib(20),
            hot_entries_max: 16_000_000,
            file_bytes: ByteSize::mib(32),
            reserve_publish: ByteSize(0),
            reserve_open: ByteSize(0),
            ballast: ByteSize(0),
            ring_bytes: ByteSize::mib(32),
            cache_bytes: ByteSize::mib(16),
        }
    }
}

/// A value that is well-formed but cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log.{key}: {detail}")]
pub struct ConfigError {
    /// The key below `log`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub detail: &'static str,
}

impl Config {
    /// Checks what the types of the fields do not say.
    ///
    /// # Errors
    ///
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let check = |holds: bool, key, detail| match holds {
            true => Ok(()),
            false => Err(ConfigError { key, detail }),
        };
        check(self.file_bytes.0 >= 1 << 20, "file_bytes", "must be at least 1MiB")?;
        check(
            self.hot_bytes_max.0 / 2 >= self.file_bytes.0,
            "hot_bytes_max",
            "must be at least twice log.file_bytes",
        )?;
        check(
            self.reserve_open_bytes() <= self.reserve_publish_bytes(),
            "reserve_open",
            "must not be above log.reserve_publish",
        )?;
        check(self.hot_entries_max > 0, "hot_entries_max", "must be at least 1")
    }

    /// Reserve for publishes in bytes.
    #[must_use]
    pub fn reserve_publish_bytes(&self) -> u64 {
        or_files(self.reserve_publish, self.file_bytes, 4)
    }

    /// Reserve for session opens in bytes.
    #[must_use]
    pub fn reserve_open_bytes(&self) -> u64 {
        or_files(self.reserve_open, self.file_bytes, 2)
    }

    /// Size of the ballast in bytes.
    #[must_use]
    pub fn ballast_bytes(&self) -> u64 {
        or_files(self.ballast, self.file_bytes, 2)
    }
}

fn or_files(size: ByteSize, file: ByteSize, files: u64) -> u64 {
    if size.0 == 0 { file.0.saturating_mul(files) } else { size.0 }
}

/// What [`crate::open`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the log; made if it is missing.
    pub dir: PathBuf,
    /// Number of the node, from 1.
    pub node: u64,
    /// Draws the election timeout.
    pub seed: u64,
    /// The section `[log]`.
    pub config: Config,
    /// How it takes part in a cluster; none = it is alone.
    pub cluster: Option<ClusterOptions>,
}

/// How a node takes part in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The section `[cluster]`.
    pub config: ClusterConfig,
    /// The data directory of the node, in which `cluster/` is.
    pub data: PathBuf,
    /// The token to join with, if it is to join.
    pub token: Option<String>,
    /// Where clients reach the node.
    pub mqtt: Vec<String>,
    /// Says whether the node asks to be let in just now.
    pub asking: Asking,
}

/// Whether a node asks to be let into a cluster. Nothing is open then: its process may end.
#[derive(Clone, Debug, Default)]
pub struct Asking(Arc<AtomicBool>);

impl Asking {
    /// Whether it does.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, is_under_way: bool) {
        self.0.store(is_under_way, Ordering::SeqCst);
    }
}

impl Options {
    /// The log of `node` in `dir` with the default configuration.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, node: u64) -> Self {
        Self { dir: dir.into(), node, seed: node, config: Config::default(), cluster: None }
    }
}
