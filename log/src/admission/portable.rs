//! The fold's state in a snapshot, for a node that folds on from there.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | version, that of the checkpoint |
//! | then | head (applied index, nodes, producers) behind its length (32 bits) |
//! | then | each of the 256 shards, sorted by client, behind its length (32 bits) |

use std::io::{self, Read, Write};

use ledgermq_core::identity::ClientId;
use serde::de::DeserializeOwned;

use super::checkpoint::{VERSION, encode, encode_shard};
use super::sessions::{SHARDS, Session};
use super::{Admission, Head};
use crate::snapshots::{read_part, write_part};

/// Writes the state.
pub(crate) fn write(admission: &Admission, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[VERSION])?;
    write_part(out, &encode(&admission.head))?;
    for shard in admission.sessions.shards() {
        write_part(out, &encode_shard(shard))?;
    }
    Ok(())
}

/// Reads what [`write`] wrote, part by part: one has a 256th of the sessions.
#[derive(Default)]
pub(crate) struct Parts {
    admission: Admission,
    /// Shards that were read; none before the head was.
    shards: Option<usize>,
}

impl Parts {
    /// Reads the next part, which has no more than `bytes_max` bytes, and answers the state behind the
    /// last one.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is of another version.
    pub(crate) fn read(
        &mut self,
        stream: &mut dyn Read,
        bytes_max: u64,
    ) -> io::Result<Option<Admission>> {
        let Some(number) = self.shards else {
            self.admission.head = head(stream, bytes_max)?;
            self.shards = Some(0);
            return Ok(None);
        };
        let sessions: Vec<(ClientId, Session)> = part(stream, bytes_max)?;
        if !sessions.is_empty() {
            self.admission.sessions.set_shard(number, sessions.into_iter().collect());
        }
        self.shards = Some(number + 1);
        Ok((number + 1 == SHARDS).then(|| std::mem::take(&mut self.admission)))
    }
}

fn head(stream: &mut dyn Read, bytes_max: u64) -> io::Result<Head> {
    let mut version = [0];
    stream.read_exact(&mut version)?;
    if version != [VERSION] {
        return Err(invalid("the admission state of a snapshot is of another version"));
    }
    part(stream, bytes_max)
}

fn part<T: DeserializeOwned>(stream: &mut dyn Read, bytes_max: u64) -> io::Result<T> {
    let bytes = read_part(stream, bytes_max)?;
    postcard::from_bytes(&bytes)
        .map_err(|_| invalid("the admission state of a snapshot cannot be read"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::admission::tests::{commit, opened, producer, save};
    use crate::admission::{Checkpoint, load};
    use crate::committed::Voids;
    use crate::store::LogStore;
    use crate::store::simulated::{SimulatedDisk, SimulatedStore};

    /// The state after so many clients of that name have come.
    fn state(name: &str, clients: u64) -> Admission {
        let mut admission = Admission::default();
        for at in 1..=clients {
            let opened = opened(&format!("{name} {at}"), 9);
            let batch = commit(at, producer(0), at, |events| _ = events.push(None, None, &opened));
            admission.apply(&batch).expect("readable");
        }
        admission
    }

    fn read(stream: &mut dyn Read, bytes_max: u64) -> io::Result<Admission> {
        let mut parts = Parts::default();
        loop {
            if let Some(admission) = parts.read(stream, bytes_max)? {
                return Ok(admission);
            }
        }
    }

    fn bytes(admission: &Admission) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(admission, &mut bytes).expect("memory");
        bytes
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        for admission in [Admission::default(), state("client", 1000)] {
            let bytes = bytes(&admission);
            let mut stream = &bytes[..];
            assert_eq!(read(&mut stream, 1 << 20).expect("whole"), admission);
            assert!(stream.is_empty());
        }
    }

    #[test]
    fn what_is_cut_short_or_of_another_version_is_refused() {
        let mut bytes = bytes(&state("client", 3));
        for end in 0..bytes.len() {
            assert!(read(&mut &bytes[..end], 1 << 20).is_err(), "{end}");
        }
        assert!(read(&mut &bytes[..], 3).is_err(), "longer than may be");
        bytes[0] += 1;
        assert!(read(&mut &bytes[..], 1 << 20).is_err());
    }

    #[test]
    fn a_jump_leaves_nothing_of_the_checkpoint_before() {
        let disk = SimulatedDisk::new(0, 1 << 20);
        let mut store = SimulatedStore::open(&disk).expect("opens");
        let (before, after) = (state("old", 500), state("new", 700));
        let mut checkpoint = Checkpoint::default();
        checkpoint.folded(3, 10, &Voids::All);
        // Both sides of the shards are in use.
        save(&mut checkpoint, &state("old", 499), &mut store);
        save(&mut checkpoint, &before, &mut store);
        let (mut checkpoint, unit) = Checkpoint::replace(&after, &store);
        assert_eq!(checkpoint.index(), 700);
        store.write(&unit, true).expect("room");
        let loaded = load(&store).expect("whole");
        assert!(loaded.admission == after && loaded.voids.is_empty());
        assert_eq!(loaded.checkpoint.index(), 700);
        // And it goes on from there.
        let later = state("new", 701);
        save(&mut checkpoint, &later, &mut store);
        assert!(load(&store).expect("whole").admission == later);
        assert!(!unit.puts.iter().any(|(key, _)| !Checkpoint::has_key(key)));
    }
}
