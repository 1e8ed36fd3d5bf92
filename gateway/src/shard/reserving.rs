//! Memory for long packets: who has begun one reads on when there is room for the whole of it.

use std::collections::VecDeque;

use ledgermq_core::codec;
use ledgermq_core::connection::State;
use ledgermq_core::offset::Timestamp;

use crate::shard::client::Pause;
use crate::shard::table::Token;
use crate::shard::{Shard, Sources};

/// Bytes of a packet that every connection may hold without asking.
const FREE_BYTES: usize = 16 << 10;

/// What is set aside for packets that have begun to come.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    bytes: usize,
    /// Connections that are left unread until there is room, in turn.
    waiting: VecDeque<Token>,
}

impl Shard {
    /// Sets memory aside for the packet that has begun in the input of `token`, if it is a long one, or
    /// leaves the connection unread until there is some. A CONNECT has bounds of its own.
    pub(super) fn reserve(&mut self, token: Token) {
        let Some(client) = self.table.get(token) else { return };
        let is_short = client.input.len() <= FREE_BYTES;
        if is_short || client.link.is_ending || client.machine.state() == State::Connecting {
            return self.release(token);
        }
        if client.reserved_bytes > 0 || client.pause.is_some() {
            return;
        }
        let needed = codec::packet_bytes(&client.input).unwrap_or(client.input.len());
        // What waits in front of one that is paused for another reason has come already.
        if needed <= client.input.len() {
            return;
        }
        if self.reserved.waiting.is_empty() && self.fits(needed) {
            return self.set_aside(token, needed);
        }
        if let Some(client) = self.table.get_mut(token) {
            client.pause = Some(Pause::Memory);
        }
        self.reserved.waiting.push_back(token);
    }

    /// Nothing of a long packet is left.
    pub(super) fn release(&mut self, token: Token) {
        if let Some(client) = self.table.get_mut(token) {
            self.reserved.bytes -= std::mem::take(&mut client.reserved_bytes);
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
                self.set_aside(token, needed);
            }
            self.reserved.waiting.pop_front();
            self.resume_input(now, token, Pause::Memory, sources);
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        let Self { reserved, limits, .. } = self;
        reserved.bytes == 0 || reserved.bytes + bytes <= limits.input_bytes_all_max
    }

    fn set_aside(&mut self, token: Token, bytes: usize) {
        if let Some(client) = self.table.get_mut(token) {
            client.reserved_bytes = bytes;
            self.reserved.bytes += bytes;
        }
    }
}
