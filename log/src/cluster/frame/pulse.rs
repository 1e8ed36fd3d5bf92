//! How a node stands.

use ledgermq_core::offset::{Index, Timestamp};

use super::FrameError;
use super::fields::{Reader, put_numbers};

/// In [`Pulse::gate`]: an operator drains the node, which lets no new clients in and leads no more.
pub const DRAINING: u8 = 0x80;
/// In [`Pulse::gate`]: the disk of the node has taken nothing for seconds. It hears what it is told,
/// but whoever waits for it waits for ever.
pub const HELD_UP: u8 = 0x40;
/// In [`Pulse::gate`]: the node has asked to be let in again, and gives its log up as soon as it is out: a
/// vote that it got meanwhile would go with the log.
pub const LEAVING: u8 = 0x20;

/// In [`Pulse::gate`]: the node has not said anything for a second before, for its disk did not answer, say.
/// Whoever has missed it need not doubt the way.
pub const AWAY: u8 = 0x10;

/// How the sender stands, a few times a second and whenever it changes.
///
/// Body: the numbers in their order, 64 bits each, then `gate` and `wants_snapshot`, 8 bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Its term.
    pub term: u64,
    /// The leader that it follows, or itself; 0 if it knows of none.
    pub leader: u64,
    /// What it knows to be committed.
    pub commit: Index,
    /// What it has folded.
    pub applied: Index,
    /// Kept free for its last checksum of the views: at which index. Nobody sets it yet.
    pub checkpoint: Index,
    /// And the checksum.
    pub checksum: u64,
    /// The highest log time that it has heard of.
    pub time: Timestamp,
    /// From the leader: a log time that a quorum has heard of.
    pub safe_time: Timestamp,
    /// How long its last fsync took, in microseconds.
    pub fsync_us: u64,
    /// Free bytes on its disk.
    pub bytes_free: u64,
    /// The last entry that it saw the receiver acknowledge, as a leader; 0 if none. Unlike what a
    /// greeting says, this counts everything that came before the session.
    pub acked: Index,
    /// The start with which the receiver has greeted it.
    pub greeted: u64,
    /// Its wall clock.
    pub wall: Timestamp,
    /// [`DRAINING`], [`HELD_UP`], [`LEAVING`] and [`AWAY`]. The lowest two bits are kept free for what its
    /// own gate refuses, others are 0.
    pub gate: u8,
    /// Kept free. Nobody sets it yet: raft says who needs a snapshot.
    pub wants_snapshot: bool,
}

impl Pulse {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(out, &[self.term, self.leader, self.commit, self.applied]);
        put_numbers(out, &[self.checkpoint, self.checksum, self.time.0, self.safe_time.0]);
        put_numbers(out, &[self.fsync_us, self.bytes_free, self.acked, self.greeted, self.wall.0]);
        out.extend_from_slice(&[self.gate, u8::from(self.wants_snapshot)]);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let pulse = Self {
            term: reader.u64()?,
            leader: reader.u64()?,
            commit: reader.u64()?,
            applied: reader.u64()?,
            checkpoint: reader.u64()?,
            checksum: reader.u64()?,
            time: Timestamp(reader.u64()?),
            safe_time: Timestamp(reader.u64()?),
            fsync_us: reader.u64()?,
            bytes_free: reader.u64()?,
            acked: reader.u64()?,
            greeted: reader.u64()?,
            wall: Timestamp(reader.u64()?),
            gate: reader.u8()?,
            wants_snapshot: reader.bool()?,
        };
        if pulse.gate & !(DRAINING | HELD_UP | LEAVING | AWAY) > 3 {
            return Err(FrameError::Content("has an unknown gate"));
        }
        reader.end()?;
        Ok(pulse)
    }
}
