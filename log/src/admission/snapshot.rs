//! The bytes of an admission snapshot.

use hashbrown::HashMap;
use ledgermq_core::identity::{ClientId, ProducerId};
use ledgermq_core::offset::{Index, Offset};
use serde::{Deserialize, Serialize};

use crate::admission::{Admission, Epoch};

const VERSION: u8 = 1;

/// Bytes that are no snapshot of a known version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot of the admission state is damaged or of an unknown version")]
pub(crate) struct SnapshotError;

/// Sorted, so that equal states have equal bytes.
#[derive(Serialize, Deserialize)]
struct Content {
    version: u8,
    applied: Index,
    producers: Vec<(ProducerId, u64)>,
    epochs: Vec<(ClientId, Offset, u64, bool)>,
}

impl Admission {
    /// The state as bytes, closed by their CRC32C.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut producers: Vec<_> = self.producers.iter().map(|(id, last)| (*id, *last)).collect();
        producers.sort_unstable();
        let mut epochs: Vec<_> = self
            .epochs
            .iter()
            .map(|(client, epoch)| (client.clone(), epoch.opened, epoch.node, epoch.is_transient))
            .collect();
        epochs.sort_unstable();
        let content = Content { version: VERSION, applied: self.applied, producers, epochs };
        let mut bytes = postcard::to_stdvec(&content).expect("a Vec takes every value");
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// The state behind `bytes`.
    pub(crate) fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (content, seal) = bytes.split_last_chunk::<4>().ok_or(SnapshotError)?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*seal) {
            return Err(SnapshotError);
        }
        let content: Content = postcard::from_bytes(content).map_err(|_| SnapshotError)?;
        if content.version != VERSION {
            return Err(SnapshotError);
        }
        let epochs: HashMap<_, _> = content
            .epochs
            .into_iter()
            .map(|(client, opened, node, is_transient)| {
                (client, Epoch { opened, node, is_transient })
            })
            .collect();
        let producers = content.producers.into_iter().collect();
        Ok(Self { applied: content.applied, producers, epochs })
    }
}
