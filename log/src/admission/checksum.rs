//! A checksum of the whole state, to compare nodes by.

use super::{Admission, Head};

impl Admission {
    /// A checksum of who may act. The order of sessions does not matter, nor do entries without a
    /// batch that were passed.
    pub(crate) fn checksum(&self) -> u64 {
        let sum = |value: Result<Vec<u8>, postcard::Error>| {
            let bytes = value.expect("a Vec takes every state");
            u64::from(crc32c::crc32c(&bytes)) | (bytes.len() as u64) << 32
        };
        let Head { applied: _, nodes, producers } = &self.head;
        let head = sum(postcard::to_stdvec(&(nodes, producers)));
        let sessions = self.sessions.shards().iter().flat_map(|shard| shard.iter());
        let sums = sessions.map(|session| sum(postcard::to_stdvec(&session)));
        sums.fold(head, u64::wrapping_add)
    }
}
