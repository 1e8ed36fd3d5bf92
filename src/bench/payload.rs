//! The front of every payload: which message this is and when it was due.

use std::fs;

use super::clock::Instant;
use super::names::nonce;

/// Bytes of the front; a payload has at least these.
pub(crate) const HEAD_BYTES: usize = 24;
const MAGIC: u8 = 0x4c;

/// Which message this is and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The run that it belongs to.
    pub(super) run: Run,
    /// The topic within the run; numbers count by it.
    pub(super) stream: u32,
    /// From 0, without gaps.
    pub(super) number: u64,
    /// When it was due, or sent if nothing is ever due.
    pub(super) at: Instant,
}

/// A process on a machine that was not started anew since; not unique, only unlikely to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Run {
    host: u8,
    id: u16,
}

impl Run {
    /// This process' run. Reads a file: ask once.
    pub(super) fn of_this_process() -> Self {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let host = boot.iter().fold(0, |sum: u8, byte| sum.rotate_left(3) ^ byte);
        let [a, b, c, d] = nonce().to_le_bytes();
        Self { host, id: u16::from_le_bytes([a ^ c, b ^ d]) }
    }

    /// Whether both count time by the same clock.
    pub(super) fn is_of_same_host(self, other: Self) -> bool {
        self.host == other.host
    }
}

impl Head {
    /// Writes it to the front of `payload`, which has at least [`HEAD_BYTES`].
    pub(super) fn write(&self, payload: &mut [u8]) {
        payload[..2].copy_from_slice(&[MAGIC, self.run.host]);
        payload[2..4].copy_from_slice(&self.run.id.to_le_bytes());
        payload[4..8].copy_from_slice(&self.stream.to_le_bytes());
        payload[8..16].copy_from_slice(&self.number.to_le_bytes());
        payload[16..24].copy_from_slice(&self.at.0.to_le_bytes());
    }

    /// Reads it; `None` if the payload is not one of ours.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let head = payload.first_chunk::<HEAD_BYTES>()?;
        if head[0] != MAGIC {
            return None;
        }
        let u64_at = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| head[at + i]));
        Some(Self {
            run: Run { host: head[1], id: u16::from_le_bytes([head[2], head[3]]) },
            stream: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
            number: u64_at(8),
            at: Instant(u64_at(16)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let run = Run::of_this_process();
        let head = Head { run, stream: 7, number: u64::MAX - 1, at: Instant(12_345) };
        let mut payload = [0xff; HEAD_BYTES + 3];
        head.write(&mut payload);
        assert_eq!(Head::read(&payload), Some(head));
        assert_eq!(Head::read(&payload[..HEAD_BYTES - 1]), None, "cut short");
        assert_eq!(Head::read(&[b'x'; 100]), None, "somebody else's");
    }
}
