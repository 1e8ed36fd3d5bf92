//! Places in the log and instants of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Raft's number of a log entry; one entry carries one batch. The first entry has index 1.
pub type Index = u64;

/// The place of an event in the log: the entry's index and the event's ordinal in its batch.
///
/// Ordered as the log is. Written `INDEX:ORDINAL`. `Offset::ZERO` lies before every event.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Offset {
    /// Index of the entry.
    pub index: Index,
    /// Place within the entry's batch, from 0.
    pub ordinal: u32,
}

impl Offset {
    /// The place before every event; as a session epoch it means "no session".
    pub const ZERO: Self = Self { index: 0, ordinal: 0 };

    /// The offset `index:ordinal`.
    #[must_use]
    pub const fn new(index: Index, ordinal: u32) -> Self {
        Self { index, ordinal }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.index, self.ordinal)
    }
}

/// A text that is not `INDEX` or `INDEX:ORDINAL`.
#[derive(Debug, thiserror::Error)]
#[error("an offset is written INDEX or INDEX:ORDINAL, for example 1204:7")]
pub struct ParseOffsetError;

impl FromStr for Offset {
    type Err = ParseOffsetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (index, ordinal) = text.split_once(':').unwrap_or((text, "0"));
        Ok(Self {
            index: index.parse().map_err(|_| ParseOffsetError)?,
            ordinal: ordinal.parse().map_err(|_| ParseOffsetError)?,
        })
    }
}

/// An instant: microseconds since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The instant `seconds` after the Unix epoch.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000)
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This instant, `duration` later (saturating).
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}
