//! The bare relay: what disk, sockets and one core can do, without anything that makes a broker.
//!
//! One thread and one readiness loop. Each turn reads what is there, stages the messages, writes
//! them to the file with one sync, and only then lets acknowledgements and deliveries leave. No
//! sessions, retained messages, wills or keep-alive; MQTT 3.1.1 only. Brokers are compared with it, so
//! it must not be slow: the frequent packets are read by hand and copied as they came.
//!
//! The CPU of a message is a limit. The rate is that of one thread that waits for each sync, and a
//! broker that reads meanwhile can pass it. The file grows with every turn; a log that writes over
//! blocks of old files can be quicker by a third of a sync (300 us became 200 where it was measured).

mod connection;
mod frame;
mod packet_ids;
mod topics;
mod turn;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use connection::Connection;
use topics::Topics;
use turn::Stage;

/// Bytes read of a connection in one turn.
const READ_BYTES: usize = 64 << 10;
/// Largest packet that is taken.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// Bytes of a turn's messages beyond which the rest waits for the next.
const STAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes that wait for one connection; a client beyond it is cut off.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Topics that the relay knows; a client that names one more is cut off.
const TOPICS_MAX: usize = 1 << 20;
/// Filters with wildcards, of all clients.
const PATTERNS_MAX: usize = 1 << 16;
/// Connections at once.
const CONNECTIONS_MAX: usize = 1 << 20;

const LISTENER: Token = Token(usize::MAX);

/// A relay that listens.
pub(crate) struct Relay {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    log: Option<File>,
    topics: Topics,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    stage: Stage,
    buffer: Vec<u8>,
    /// Connections that may have more to read than was read.
    again: Vec<usize>,
    /// Those to be read in this turn.
    ready: Vec<usize>,
    /// Those to be written or closed at the end of the turn.
    dirty: Vec<usize>,
}

impl Relay {
    /// Listens at `address`. With `log`, every message is at the end of that file and synced before
    /// it is acknowledged or delivered.
    pub(crate) fn bind(address: SocketAddr, log: Option<&Path>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let log = log.map(|path| File::options().create(true).append(true).open(path));
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            listener,
            log: log.transpose()?,
            topics: Topics::default(),
            connections: Vec::new(),
            free: Vec::new(),
            stage: Stage::default(),
            buffer: vec![0; READ_BYTES + PACKET_BYTES_MAX],
            again: Vec::new(),
            ready: Vec::new(),
            dirty: Vec::new(),
        })
    }

    /// Serves until the disk fails. `tell` hears of clients that were cut off.
    pub(crate) fn run(&mut self, tell: &mut dyn FnMut(&str)) -> io::Result<()> {
        loop {
            self.turn(tell)?;
        }
    }

    /// One turn of the loop; the steps are in the order that the promise asks for.
    fn turn(&mut self, tell: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.wait(tell)?;
        self.read_ready();
        self.stage.commit(self.log.as_mut())?;
        self.stage.deliver(&mut self.topics, &mut self.connections, &mut self.dirty);
        self.write_dirty(tell);
        Ok(())
    }

    /// Waits for readiness and accepts who knocks.
    fn wait(&mut self, tell: &mut dyn FnMut(&str)) -> io::Result<()> {
        let patience = (!self.again.is_empty()).then_some(Duration::ZERO);
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.ready.append(&mut self.again);
        let mut knocks = false;
        for event in &self.events {
            let slot = event.token().0;
            if event.token() == LISTENER {
                knocks = true;
                continue;
            }
            let Some(Some(connection)) = self.connections.get_mut(slot) else { continue };
            if event.is_writable() && connection.unblock() {
                self.dirty.push(slot);
            }
            if event.is_read_closed() {
                connection.expect_end();
            }
            if event.is_readable() && connection.mark_ready() {
                self.ready.push(slot);
            }
        }
        if knocks {
            self.accept(tell);
        }
        Ok(())
    }

    fn accept(&mut self, tell: &mut dyn FnMut(&str)) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // There is no further readiness for those that wait: the next one brings them in.
                Err(error) => return tell(&format!("cannot accept: {error}")),
            };
            if self.free.is_empty() && self.connections.len() == CONNECTIONS_MAX {
                tell("too many connections");
                continue;
            }
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            match Connection::open(stream, Token(slot), self.poll.registry()) {
                Ok(connection) => self.connections[slot] = Some(connection),
                Err(error) => {
                    self.free.push(slot);
                    tell(&format!("cannot take a connection: {error}"));
                }
            }
        }
    }

    fn read_ready(&mut self) {
        for slot in self.ready.drain(..) {
            let Some(connection) = &mut self.connections[slot] else { continue };
            if self.stage.is_full() {
                self.again.push(slot);
                continue;
            }
            let has_more =
                connection.read(slot, &mut self.buffer, &mut self.stage, &mut self.topics);
            if has_more && connection.mark_ready() {
                self.again.push(slot);
            }
            if connection.mark_dirty() {
                self.dirty.push(slot);
            }
        }
    }

    fn write_dirty(&mut self, tell: &mut dyn FnMut(&str)) {
        for slot in self.dirty.drain(..) {
            let Some(connection) = &mut self.connections[slot] else { continue };
            connection.write();
            let Some(end) = connection.end() else { continue };
            if let Some(reason) = end.reason() {
                tell(&format!("closed {}: {reason}", connection.peer()));
            }
            self.topics.forget(slot, connection.subscribed());
            self.connections[slot] = None;
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
impl Relay {
    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
