//! What the connections of a shard hold in memory together, and who may hold more.

use crate::shard::Shard;
use crate::shard::client::{Client, Link};
use crate::shard::table::Token;

/// A connection may have this part of what all may have and nobody has: so some is left for the next.
const SHARE: usize = 16;
/// Output that a connection gets at a time once those that do not read hold half of what all may have.
const OUTPUT_BYTES_SHORT: usize = 16 << 10;
/// The same for one whose client reads, until they hold all of it.
const OUTPUT_BYTES_READ: usize = 128 << 10;
/// Answers that every client may leave unread, however much the others leave.
const ANSWERS_BYTES_MIN: usize = 4 << 10;

/// Bytes that connections hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Output that is to be written.
    pub output_bytes: usize,
    /// Output that a socket did not take.
    pub blocked_bytes: usize,
    /// What the references take that wait for them.
    pub references_bytes: usize,
    /// Packets that have not come whole.
    pub input_bytes: usize,
    /// Batches that references point into.
    pub pinned_bytes: usize,
}

impl Held {
    fn of(client: &Client) -> Self {
        let output = client.link.held_bytes();
        let is_blocked = client.link.is_blocked;
        Self {
            output_bytes: if is_blocked { 0 } else { output },
            blocked_bytes: if is_blocked { output } else { 0 },
            references_bytes: client.backlog.as_ref().map_or(0, |backlog| backlog.held_bytes()),
            input_bytes: client.input.capacity(),
            // Many hold the same one.
            pinned_bytes: 0,
        }
    }

    /// All of it.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        let output = self.output_bytes + self.blocked_bytes;
        output + self.references_bytes + self.input_bytes + self.pinned_bytes
    }

    /// Both together.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        self.each(other, usize::wrapping_add)
    }

    fn each(self, other: Self, of: impl Fn(usize, usize) -> usize) -> Self {
        Self {
            output_bytes: of(self.output_bytes, other.output_bytes),
            blocked_bytes: of(self.blocked_bytes, other.blocked_bytes),
            references_bytes: of(self.references_bytes, other.references_bytes),
            input_bytes: of(self.input_bytes, other.input_bytes),
            pinned_bytes: of(self.pinned_bytes, other.pinned_bytes),
        }
    }
}

impl Shard {
    /// What all connections hold.
    #[must_use]
    pub fn held(&self) -> Held {
        Held { pinned_bytes: self.pins.held_bytes(), ..self.held }
    }

    /// The socket of `token` takes nothing more for now.
    pub fn set_blocked(&mut self, token: Token) {
        if let Some(client) = self.table.get_mut(token) {
            client.link.set_blocked();
            self.weigh_held(token);
        }
    }

    /// Brings what a connection holds up to the moment in what all hold.
    pub(super) fn weigh_held(&mut self, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        let (now, before) = (Held::of(client), client.held);
        if now != before {
            client.held = now;
            let without = self.held.each(before, usize::wrapping_sub);
            self.held = without.plus(now);
        }
    }

    /// A connection is gone, with all that it held.
    pub(super) fn forget_held(&mut self, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        let before = std::mem::take(&mut client.held);
        self.release(token);
        self.held = self.held.each(before, usize::wrapping_sub);
    }

    /// Whether a message may be put into the output of a connection. Those whose sockets take nothing
    /// get no more: what they have is enough to begin with. The others share a half of what all may
    /// have, and have written theirs at the end of the turn.
    pub(super) fn has_output_room(&self, link: &Link) -> bool {
        let unwritten = link.unwritten().len();
        let is_stuck = link.is_blocked && unwritten > 0;
        !is_stuck
            && unwritten < self.output_max(link)
            && self.held.output_bytes < self.output_all_max() + self.overdraft_bytes
    }

    /// Bytes of output of a connection beyond which messages wait as references.
    pub(super) fn output_max(&self, link: &Link) -> usize {
        let all_max = self.output_all_max();
        let blocked = self.held.blocked_bytes;
        let most = match link.is_read() {
            _ if blocked <= all_max => self.limits.output_bytes_max,
            true if blocked <= 2 * all_max => OUTPUT_BYTES_READ,
            _ => OUTPUT_BYTES_SHORT,
        };
        let share = all_max.saturating_sub(self.held.output_bytes) / SHARE;
        share.clamp(1, most.min(self.limits.output_bytes_max))
    }

    /// Whether nobody gets output any more.
    pub(super) fn is_output_full(&self) -> bool {
        self.held.output_bytes >= self.output_all_max()
    }

    /// Bytes of output of a connection beyond which it is not read.
    pub(super) fn answers_max(&self, link: &Link) -> usize {
        let held = self.held.output_bytes + self.held.blocked_bytes;
        let share = self.limits.output_bytes_all_max.saturating_sub(held) / SHARE;
        // Messages that it may have unwritten are no reason not to read what it answers to them.
        let messages = self.output_max(link);
        share.max(messages + ANSWERS_BYTES_MIN).min(self.limits.answers_bytes_max)
    }

    /// Whether a connection whose references take `held` bytes may have more of them.
    pub(super) fn has_reference_room(&self, held: usize) -> bool {
        let all_max = self.limits.references_bytes_max;
        held <= all_max.saturating_sub(self.held.references_bytes) / SHARE
    }

    fn output_all_max(&self) -> usize {
        self.limits.output_bytes_all_max / 2
    }

    /// A new turn, in which a little may go beyond the bound of the output.
    pub(super) fn renew_overdraft(&mut self) {
        let over = self.held.output_bytes.saturating_sub(self.output_all_max());
        self.overdraft_bytes = over + self.limits.overdraft_bytes;
    }
}
