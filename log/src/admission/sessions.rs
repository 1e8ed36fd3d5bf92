//! The current epoch of each client's session.

use std::sync::Arc;

use hashbrown::HashMap;
use ledgermq_core::event::batch::BatchSession;
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Offset;
use serde::{Deserialize, Serialize};

/// Parts of the map: what did not change since a checkpoint is not written again, and a checkpoint
/// holds the parts of its moment while the fold goes on with copies.
pub(crate) const SHARDS: usize = 256;

/// A session that can act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) epoch: Offset,
    pub(crate) node: u64,
    pub(crate) ends_with_connection: bool,
    /// The proven user whose session it is.
    pub(crate) owner: Option<Box<str>>,
}

pub(crate) type Shard = HashMap<ClientId, Session>;

/// All sessions by client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sessions {
    shards: Vec<Arc<Shard>>,
}

impl Default for Sessions {
    fn default() -> Self {
        let empty = Arc::new(Shard::new());
        Self { shards: vec![empty; SHARDS] }
    }
}

impl Sessions {
    pub(crate) fn is_current(&self, session: &BatchSession<'_>) -> bool {
        self.shards[shard_of(session.client)]
            .get(session.client)
            .is_some_and(|current| current.epoch == session.epoch)
    }

    /// Opens the session of `client`; false if the one that lives belongs to another user.
    pub(super) fn open(&mut self, client: &ClientId, session: Session) -> bool {
        let held = self.shards[shard_of(client)].get(client);
        if held.is_some_and(|held| held.owner.is_some() && held.owner != session.owner) {
            return false;
        }
        self.shard_mut(client).insert(client.clone(), session);
        true
    }

    pub(super) fn end(&mut self, client: &str) {
        self.shard_mut(client).remove(client);
    }

    /// Ends the sessions that end with their connection, of connections to `node`.
    pub(super) fn end_connections_of(&mut self, node: u64) {
        let ends = |session: &Session| session.node == node && session.ends_with_connection;
        for shard in &mut self.shards {
            if shard.values().any(ends) {
                Arc::make_mut(shard).retain(|_, session| !ends(session));
            }
        }
    }

    pub(super) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    pub(super) fn set_shard(&mut self, number: usize, shard: Shard) {
        self.shards[number] = Arc::new(shard);
    }

    fn shard_mut(&mut self, client: &str) -> &mut Shard {
        Arc::make_mut(&mut self.shards[shard_of(client)])
    }
}

fn shard_of(client: &str) -> usize {
    crc32c::crc32c(client.as_bytes()) as usize % SHARDS
}
