//! Who is there.

use std::collections::BTreeMap;

use ledgermq_core::offset::Timestamp;
use ledgermq_core::reason::ReasonCode;
use serde::{Deserialize, Serialize};

/// Whether the client of a session is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It is.
    Online {
        /// Time of the `SessionOpened`.
        since: Timestamp,
    },
    /// It is not; the session waits for it.
    Offline {
        /// Time of the `SessionClosed`.
        since: Timestamp,
        /// Why it closed.
        reason: ReasonCode,
    },
}

impl Presence {
    /// Whether the client is connected.
    #[must_use]
    pub fn is_online(self) -> bool {
        matches!(self, Self::Online { .. })
    }
}

/// How many sessions are online and where. Derived from the sessions; no row of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    online: u64,
    by_node: BTreeMap<u64, u64>,
}

impl Present {
    /// Sessions with a connected client.
    #[must_use]
    pub fn online(&self) -> u64 {
        self.online
    }

    /// Sessions with a connected client at `node`.
    #[must_use]
    pub fn online_at(&self, node: u64) -> u64 {
        self.by_node.get(&node).copied().unwrap_or(0)
    }

    pub(crate) fn came(&mut self, node: u64) {
        self.online += 1;
        *self.by_node.entry(node).or_default() += 1;
    }

    pub(crate) fn went(&mut self, node: u64) {
        self.online -= 1;
        let at_node = self.by_node.entry(node).or_default();
        *at_node -= 1;
        if *at_node == 0 {
            self.by_node.remove(&node);
        }
    }
}
