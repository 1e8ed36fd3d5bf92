//! Memory for long packets: who has begun one reads on when there is room for the whole of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ledgermq_core::codec;
use ledgermq_core::connection::{Ending, State};
use ledgermq_core::offset::Timestamp;
use ledgermq_core::reason::ReasonCode;

use crate::shard::client::Pause;
use crate::shard::table::Token;
use crate::shard::{Shard, Sources};

/// Bytes of a packet that every connection may hold without asking.
const FREE_BYTES: usize = 16 << 10;

/// While others wait for memory, nothing may come of a packet for so long.
const STALLED: Duration = Duration::from_secs(10);

/// What is set aside for packets that have begun to come.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    bytes: usize,
    /// Connections for which something is set aside, with the time at which something came last.
    holders: BTreeMap<Token, Timestamp>,
    /// Connections that are left unread until there is room, in turn.
    waiting: VecDeque<Token>,
}

impl Reserved {
    /// Whether connections wait for memory.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Shard {
    /// Sets memory aside for the packet that has begun in the input of `token`, if it is a long one, or
    /// leaves the connection unread until there is some. A CONNECT has bounds of its own.
    pub(super) fn reserve(&mut self, now: Timestamp, token: Token) {
        let Some(client) = self.table.get(token) else { return };
        let is_short = client.input.len() <= FREE_BYTES;
        if is_short || client.link.is_ending || client.machine.state() == State::Connecting {
            return self.release(token);
        }
        if client.pause.is_some() {
            return;
        }
        let needed = codec::packet_bytes(&client.input).unwrap_or(client.input.len());
        // What waits in front of one that is paused for another reason has come already.
        if needed <= client.input.len() {
            return;
        }
        if client.reserved_bytes >= needed {
            self.reserved.holders.insert(token, now);
            return;
        }
        // It was for the packet before.
        self.release(token);
        if self.reserved.waiting.is_empty() && self.fits(needed) {
            return self.set_aside(now, token, needed);
        }
        if let Some(client) = self.table.get_mut(token) {
            client.pause = Some(Pause::Memory);
        }
        self.reserved.waiting.push_back(token);
    }

    /// Nothing of a long packet is left.
    pub(super) fn release(&mut self, token: Token) {
        if let Some(client) = self.table.get_mut(token) {
            let bytes = std::mem::take(&mut client.reserved_bytes);
            if bytes > 0 {
                self.reserved.bytes -= bytes;
                self.reserved.holders.remove(&token);
            }
        }
    }

    /// Goes on with those that waited for memory, as far as there is some.
    pub(super) fn resume_waiting(&mut self, now: Timestamp, sources: &mut impl Sources) {
        while let Some(token) = self.reserved.waiting.front().copied() {
            if let Some(client) = self.table.get(token)
                && client.pause == Some(Pause::Memory)
            {
                let needed = codec::packet_bytes(&client.input).unwrap_or(client.input.len());
                if !self.fits(needed) {
                    return;
                }
                self.set_aside(now, token, needed);
            }
            self.reserved.waiting.pop_front();
            self.resume_input(now, token, Pause::Memory, sources);
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        let Self { reserved, limits, .. } = self;
        reserved.bytes == 0 || reserved.bytes + bytes <= limits.input_bytes_all_max
    }

    /// Ends connections that have begun a packet and send nothing more of it, while others wait for
    /// the memory that is set aside for them.
    pub(super) fn end_stalled(&mut self, now: Timestamp) {
        if !self.reserved.is_waited_for() {
            return;
        }
        let is_stalled = |since: &Timestamp| now.since(*since) > STALLED;
        let holders = self.reserved.holders.iter();
        let stalled: Vec<Token> =
            holders.filter(|(_, since)| is_stalled(since)).map(|(token, _)| *token).collect();
        for token in stalled {
            self.stats.silent += 1;
            self.end(now, token, Ending::Server(ReasonCode::ServerBusy));
            self.release(token);
        }
    }

    fn set_aside(&mut self, now: Timestamp, token: Token, bytes: usize) {
        if let Some(client) = self.table.get_mut(token) {
            client.reserved_bytes = bytes;
            self.reserved.bytes += bytes;
            self.reserved.holders.insert(token, now);
        }
    }
}
