//! The log's own part of a snapshot, which comes first in its stream.
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `LMQSNAP1` |
//! | then | head (postcard) behind its length (32 bits): cluster, generation, node, index, term, time, configuration, members |
//! | then | the state of admission (`admission/portable.rs`) |

use std::io::{self, Read, Write};

use ledgermq_core::offset::{Index, Timestamp};
use serde::{Deserialize, Serialize};

use super::format::ChunkReader;
use crate::admission::{Admission, Parts, write_admission};
use crate::cluster::{ClusterId, Members};
use crate::store::{Configuration, configuration_bytes, configuration_of};

const MAGIC: &[u8; 8] = b"LMQSNAP1";

/// What the log says of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prologue {
    /// The cluster, and which life of it; zero if it was not founded.
    pub(crate) cluster: ClusterId,
    pub(crate) generation: u64,
    /// Who made it.
    pub(crate) node: u64,
    /// Everything up to here is in it.
    pub(crate) index: Index,
    /// Term of the entry there.
    pub(crate) term: u64,
    /// Time of the last batch up to there.
    pub(crate) time: Timestamp,
    /// Who is in.
    pub(crate) configuration: Configuration,
    pub(crate) members: Members,
    pub(crate) admission: Admission,
}

/// Cluster and generation; node, index, term and time; configuration and members.
type Head = ([u8; 16], [u64; 5], Bytes, Bytes);

#[derive(Serialize, Deserialize)]
struct Bytes(Vec<u8>);

impl Prologue {
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let numbers = [self.generation, self.node, self.index, self.term, self.time.0];
        let configuration = Bytes(configuration_bytes(&self.configuration));
        let head: Head = (self.cluster.0, numbers, configuration, Bytes(self.members.encode()));
        out.write_all(MAGIC)?;
        write_part(out, &postcard::to_stdvec(&head).map_err(io::Error::other)?)?;
        write_admission(&self.admission, out)
    }

    /// Reads what comes before the state of admission, which is left empty.
    fn read_head(stream: &mut dyn Read, bytes_max: u64) -> io::Result<Self> {
        let mut magic = [0; 8];
        stream.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(invalid("it is no snapshot, or of another version"));
        }
        let head = read_part(stream, bytes_max)?;
        let head: Head =
            postcard::from_bytes(&head).map_err(|_| invalid("the head cannot be read"))?;
        let (cluster, numbers, Bytes(configuration), Bytes(members)) = head;
        let [generation, node, index, term, time] = numbers;
        Ok(Self {
            cluster: ClusterId(cluster),
            generation,
            node,
            index,
            term,
            time: Timestamp(time),
            configuration: configuration_of(&configuration)
                .ok_or_else(|| invalid("the configuration cannot be read"))?,
            members: Members::decode(&members)
                .map_err(|_| invalid("the members cannot be read"))?,
            admission: Admission::default(),
        })
    }
}

/// Reads the log's part of a snapshot, a bounded number of bytes at a time: of a million sessions it has
/// tens of MiB, and who reads it has other things to do.
pub(crate) struct PrologueReader {
    stream: ChunkReader,
    /// Bytes of the whole snapshot.
    bytes: u64,
    /// What was read so far, without the state of admission.
    head: Option<Prologue>,
    admission: Parts,
}

impl PrologueReader {
    /// Nothing of `stream` was read yet.
    pub(crate) fn new(stream: ChunkReader) -> Self {
        let bytes = stream.left();
        Self { stream, bytes, head: None, admission: Parts::default() }
    }

    /// Reads on until it was so many bytes, and the part that goes beyond them. Answers the prologue, and
    /// how many bytes it has, when that is all; then nothing is left to be read.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or does not fit together.
    pub(crate) fn read(&mut self, bytes: u64) -> io::Result<Option<(Prologue, u64)>> {
        let end = self.stream.left().saturating_sub(bytes);
        loop {
            if self.head.is_none() {
                self.head = Some(Prologue::read_head(&mut self.stream, self.bytes)?);
            } else if let Some(admission) = self.admission.read(&mut self.stream, self.bytes)? {
                return self.whole(admission).map(Some);
            }
            if self.stream.left() <= end {
                return Ok(None);
            }
        }
    }

    fn whole(&mut self, admission: Admission) -> io::Result<(Prologue, u64)> {
        let head = self.head.take().ok_or_else(|| invalid("it was read already"))?;
        let prologue = Prologue { admission, ..head };
        let index = prologue.index;
        if prologue.admission.applied() != index || prologue.configuration.index > index {
            return Err(invalid("its parts are not of one index"));
        }
        Ok((prologue, self.bytes - self.stream.left()))
    }
}

/// Writes bytes behind their length.
pub(crate) fn write_part(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

/// Reads bytes behind their length, which are not more than `bytes_max`.
pub(crate) fn read_part(stream: &mut dyn Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if u64::from(length) > bytes_max {
        return Err(invalid("a part is longer than the whole"));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::snapshots::{ChunkWriter, MemoryFiles, SnapshotFiles};

    fn prologue() -> Prologue {
        Prologue {
            cluster: ClusterId([7; 16]),
            generation: 2,
            node: 3,
            index: 9,
            term: 4,
            time: Timestamp(1_700_000_000_000_000),
            configuration: Configuration { index: 5, ..Configuration::of_voters(&[1, 2, 3]) },
            members: Members::default(),
            admission: {
                let mut admission = Admission::default();
                admission.pass(9);
                admission
            },
        }
    }

    /// What is read of a file with that part of the log, and `rest` behind it.
    fn read(prologue: &Prologue, rest: &[u8], cut: usize) -> io::Result<(Prologue, u64)> {
        let files = MemoryFiles::default();
        let mut bytes = Vec::new();
        prologue.write(&mut bytes)?;
        bytes.extend_from_slice(rest);
        bytes.truncate(bytes.len() - cut);
        let mut writer = ChunkWriter::new(files.create("a")?);
        writer.write_all(&bytes)?;
        let (length, _) = writer.finish()?;
        let mut reader = PrologueReader::new(ChunkReader::new(files.open("a")?, length));
        // Each part alone, and what goes beyond it.
        loop {
            if let Some(whole) = reader.read(1)? {
                return Ok(whole);
            }
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_and_says_where_the_rest_begins() {
        let (found, length) = read(&prologue(), &[1; 100], 0).expect("whole");
        assert_eq!(found, prologue());
        let mut bytes = Vec::new();
        prologue().write(&mut bytes).expect("memory");
        assert_eq!(length, bytes.len() as u64);
    }

    #[test]
    fn what_is_cut_or_does_not_fit_together_is_refused() {
        for cut in 1..100 {
            assert!(read(&prologue(), &[], cut).is_err(), "{cut}");
        }
        let early = Prologue { index: 8, ..prologue() };
        assert!(read(&early, &[], 0).is_err(), "admission is beyond");
        let configuration = Configuration { index: 10, ..prologue().configuration };
        assert!(read(&Prologue { configuration, ..prologue() }, &[], 0).is_err());
    }
}
