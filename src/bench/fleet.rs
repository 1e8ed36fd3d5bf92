//! All clients of a run on one poll.

use std::time::Duration;

use ledgermq_core::packet::Packet;
use mio::{Events, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::clock::Instant;
use super::connection::{Connection, Output};
use super::pacer::Alarm;
use super::{BenchError, Brokers};

/// Silence after which a run is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for input.
const WAIT_MAX: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 256 << 10;
const EVENTS: usize = 1024;
const ALARM: Token = Token(usize::MAX - 1);

/// The clients, by slot.
pub(super) struct Fleet<'a> {
    pub(super) brokers: &'a Brokers,
    poll: Poll,
    events: Events,
    alarm: Alarm,
    clients: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Slots of clients with something to write, each maybe more than once.
    dirty: Vec<usize>,
    buffer: Vec<u8>,
    last_input: Instant,
    next_ping: Instant,
    /// Slot of the client that was last to be pinged.
    pinged: usize,
}

impl<'a> Fleet<'a> {
    /// A fleet without clients.
    pub(super) fn new(brokers: &'a Brokers) -> Result<Self, BenchError> {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // If it is refused, connecting says so.
        _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let poll = Poll::new()?;
        Ok(Self {
            brokers,
            alarm: Alarm::new(ALARM, poll.registry())?,
            poll,
            events: Events::with_capacity(EVENTS),
            clients: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES],
            last_input: Instant::now(),
            next_ping: Instant::now(),
            pinged: 0,
        })
    }

    /// Begins to connect a client, and says in which slot: the first that is free.
    pub(super) fn add(&mut self, client_id: String, target: usize) -> Result<usize, BenchError> {
        let target = &self.brokers.targets[target % self.brokers.targets.len()];
        let slot = self.free.pop().unwrap_or(self.clients.len());
        let registry = self.poll.registry();
        let version = self.brokers.version;
        let connection = Connection::open(target, client_id, version, Token(slot), registry)?;
        if slot == self.clients.len() {
            self.clients.push(None);
        }
        self.clients[slot] = Some(connection);
        Ok(slot)
    }

    /// The client in that slot, which is not closed.
    pub(super) fn client(&mut self, slot: usize) -> &mut Connection {
        self.clients[slot].as_mut().expect("a client that is not closed")
    }

    /// What that client writes next.
    pub(super) fn output(&mut self, slot: usize) -> &mut Output {
        self.dirty.push(slot);
        self.client(slot).output()
    }

    /// Writes what is left and closes.
    pub(super) fn close(&mut self, slot: usize) -> Result<(), BenchError> {
        if let Some(mut connection) = self.clients[slot].take() {
            self.free.push(slot);
            connection.flush()?;
        }
        Ok(())
    }

    /// Writes what waits: once for each client, however much it has to say.
    pub(super) fn flush(&mut self) -> Result<(), BenchError> {
        for slot in self.dirty.drain(..) {
            if let Some(connection) = &mut self.clients[slot]
                && connection.wants_write()
            {
                connection.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what waits, waits for input (at most until `until`, or a tenth of a second) and gives
    /// each packet with the slot of its client to `take`, which may answer.
    pub(super) fn turn(
        &mut self,
        until: Option<Instant>,
        mut take: impl FnMut(usize, &Packet<'_>, &mut Output) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        self.ping()?;
        self.flush()?;
        self.wait(until)?;
        for event in &self.events {
            let Token(slot) = event.token();
            let Some(Some(connection)) = self.clients.get_mut(slot) else { continue };
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let (buffer, is_closed) = (&mut self.buffer, event.is_read_closed());
                connection.read(buffer, is_closed, |packet, output| take(slot, packet, output))?;
                self.last_input = Instant::now();
            }
            if event.is_writable() || connection.wants_write() {
                self.dirty.push(slot);
            }
        }
        Ok(())
    }

    /// Has every client say that it is alive, one after the other, each twice in its Keep Alive.
    fn ping(&mut self) -> Result<(), BenchError> {
        let period = u64::from(self.brokers.keep_alive) * 500_000_000;
        let clients = self.clients.len() as u64;
        if period == 0 || clients == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let each = period / clients;
        // Whoever was away does not make up for it.
        self.next_ping = self.next_ping.max(Instant(now.0.saturating_sub(period)));
        while self.next_ping <= now {
            self.next_ping = self.next_ping.after(Duration::from_nanos(each.max(1)));
            self.pinged = (self.pinged + 1) % self.clients.len();
            let slot = self.pinged;
            // Who has something to say is heard by that.
            if let Some(connection) = &mut self.clients[slot]
                && connection.is_open()
                && !connection.wants_write()
            {
                connection.output().send(&Packet::PingReq)?;
                self.dirty.push(slot);
            }
        }
        Ok(())
    }

    fn wait(&mut self, until: Option<Instant>) -> Result<(), BenchError> {
        let mut timeout = WAIT_MAX;
        if let Some(until) = until {
            let left = until.since(Instant::now());
            if left.is_zero() {
                timeout = Duration::ZERO;
            } else if left < WAIT_MAX {
                self.alarm.set(until)?;
            }
        }
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Fails if nothing came for too long while the run waits for `what`.
    pub(super) fn check_silence(&self, what: &str) -> Result<(), BenchError> {
        if Instant::now().since(self.last_input) > SILENCE_MAX {
            return Err(BenchError::Silent(what.to_owned()));
        }
        Ok(())
    }

    /// How long nothing has come.
    pub(super) fn silence(&self) -> Duration {
        Instant::now().since(self.last_input)
    }

    /// Counts silence from now on: the run did not ask for anything before.
    pub(super) fn break_silence(&mut self) {
        self.last_input = Instant::now();
    }
}
