//! Bytes on their way to another node, in blocks that say what they hold: nothing of a block is read
//! before all of it was looked at.

use std::io::{self, Read, Write};

use crate::checkpoint::checksum::digest;

/// Most bytes of a block.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// Length and digest before each block.
const HEAD_BYTES: usize = 12;

/// Takes bytes and writes blocks. What is written last leaves with [`Blocks::finish`].
pub(super) struct Blocks<'w> {
    to: &'w mut dyn Write,
    number: u64,
    block: Vec<u8>,
}

impl<'w> Blocks<'w> {
    pub(super) fn new(to: &'w mut dyn Write) -> Self {
        Self { to, number: 0, block: Vec::with_capacity(BLOCK_BYTES) }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.block.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK_BYTES {
                self.pass()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.pass()?;
        }
        self.to.flush()
    }

    fn pass(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len()).expect("a block is small");
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&digest(self.number, &[&self.block]).to_be_bytes())?;
        self.to.write_all(&self.block)?;
        self.number += 1;
        self.block.clear();
        Ok(())
    }
}

/// Gives back what [`Blocks`] wrote. A block that is another is [`io::ErrorKind::InvalidData`], one that
/// is cut [`io::ErrorKind::UnexpectedEof`].
pub(super) struct Unblocked<'r> {
    from: &'r mut dyn Read,
    number: u64,
    block: Vec<u8>,
    taken: usize,
}

impl<'r> Unblocked<'r> {
    pub(super) fn new(from: &'r mut dyn Read) -> Self {
        Self { from, number: 0, block: Vec::with_capacity(BLOCK_BYTES), taken: 0 }
    }

    /// Takes the next block in; `false` if there is none.
    fn next(&mut self) -> io::Result<bool> {
        self.block.clear();
        self.taken = 0;
        let mut head = [0; HEAD_BYTES];
        let read = self.from.read(&mut head[..1]).or_else(|error| match error.kind() {
            io::ErrorKind::Interrupted => self.from.read(&mut head[..1]),
            _ => Err(error),
        })?;
        if read == 0 {
            return Ok(false);
        }
        self.from.read_exact(&mut head[1..])?;
        let (length, sum) = head.split_at(4);
        let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        if length == 0 || length > BLOCK_BYTES {
            return Err(invalid(format!("block {} has {length} bytes", self.number)));
        }
        self.block.resize(length, 0);
        self.from.read_exact(&mut self.block)?;
        if digest(self.number, &[&self.block]).to_be_bytes() != sum {
            return Err(invalid(format!("block {} is not what was written", self.number)));
        }
        self.number += 1;
        Ok(true)
    }
}

impl Read for Unblocked<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.block.len() && !self.next()? {
            return Ok(0);
        }
        let left = &self.block[self.taken..];
        let bytes = left.len().min(out.len());
        out[..bytes].copy_from_slice(&left[..bytes]);
        self.taken += bytes;
        Ok(bytes)
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
