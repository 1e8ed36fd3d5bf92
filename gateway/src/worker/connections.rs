//! What a worker does with one connection: take it, read through its layers, write, close.

use ledgermq_core::offset::Timestamp;

use crate::inbox::Accepted;
use crate::shard::Token;
use crate::transport::Ended;
use crate::worker::sockets::Wrote;
use crate::worker::{READ_BYTES, Turning, Worker};

impl Turning {
    /// Takes a new connection.
    pub(super) fn accept(&mut self, now: Timestamp, accepted: Accepted) {
        let Accepted { stream, peer, layers, read, refusal } = accepted;
        let worker = &mut self.worker;
        if self.draining.is_some() {
            // It came from HTTP, which may be open for a moment longer.
            worker.census.leave();
            return;
        }
        let token = worker.shard.accept(now, peer);
        if let Some(refusal) = refusal {
            worker.shard.set_refusal(token, refusal);
        }
        if let Err(error) = self.sockets.insert(token, stream, layers, worker.poll.registry()) {
            tracing::warn!(%error, %peer, "cannot take a connection");
            worker.shard.on_transport_closed(now, token);
            worker.census.leave();
        } else if !read.is_empty() {
            let bytes = read.len().min(READ_BYTES);
            self.buffer[..bytes].copy_from_slice(&read[..bytes]);
            self.receive(now, token, bytes);
        }
    }

    /// Gives bytes in the buffer to the layers of `token`, and what they make of them to the shard.
    pub(super) fn receive(&mut self, now: Timestamp, token: Token, bytes: usize) {
        let received = self.sockets.receive(token, &mut self.buffer[..bytes], &mut self.plain);
        let Worker { shard, sources, .. } = &mut self.worker;
        if let Some(peer) = received.peer {
            shard.set_peer(token, peer);
        }
        if let Some(identity) = received.identity {
            shard.set_identity(token, identity);
        }
        if !received.payload.is_empty() {
            shard.on_bytes(now, token, received.payload, sources);
        }
        if let Some(ended) = received.ended {
            self.end(now, token, &ended);
        } else if self.sockets.has_pending(token) {
            self.unblocked.push(token);
        }
    }

    /// Ends a connection that was ended below MQTT.
    fn end(&mut self, now: Timestamp, token: Token, ended: &Ended) {
        let peer = self.worker.shard.peer(token);
        tracing::debug!(?peer, %ended, "connection ended below MQTT");
        self.worker.census.count_failed(ended);
        self.worker.shard.on_transport_closed(now, token);
        // One attempt to say why; who does not take it has no claim to it.
        self.sockets.finish(token);
        while self.sockets.has_pending(token)
            && matches!(self.sockets.write(token, &[]), Wrote::Bytes(_))
        {}
        self.part(now, token);
    }

    /// Writes what waits for `token`, as long as its socket takes all of it.
    pub(super) fn write_one(&mut self, now: Timestamp, token: Token) {
        loop {
            let shard = &mut self.worker.shard;
            let output = shard.output(token);
            if output.is_empty() && !self.sockets.has_pending(token) {
                if !shard.is_ending(token) {
                    return;
                }
                if !self.sockets.finish(token) {
                    shard.forget(token);
                    return self.part(now, token);
                }
                continue;
            }
            match self.sockets.write(token, output) {
                Wrote::Bytes(bytes) => {
                    shard.written(now, token, bytes, &mut self.worker.sources);
                }
                Wrote::Blocked => return shard.set_blocked(token),
                Wrote::Closed => {
                    shard.on_transport_closed(now, token);
                    return self.close(token);
                }
            }
        }
    }

    /// Closes a connection on which everything was said, so that the peer can hear it.
    fn part(&mut self, now: Timestamp, token: Token) {
        let Some(stream) = self.sockets.take(token) else { return self.close(token) };
        if !self.lingering.keep(now, stream, self.worker.poll.registry()) {
            self.worker.census.leave();
        }
    }

    pub(super) fn close(&mut self, token: Token) {
        if self.sockets.remove(token, self.worker.poll.registry()) {
            self.worker.census.leave();
        }
    }
}
