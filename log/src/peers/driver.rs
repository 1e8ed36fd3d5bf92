//! The thread with the sockets: it waits, and lets each connection have its turn.

mod accepting;
mod ending;
mod greeting;
mod turning;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::connection::{Broken, Connection, Place, Scratch, Stage};
use super::link::{BELL, Shared, lock};
use super::resolve::{Resolved, Resolver};
use super::tls::Tls;
use crate::cluster::exchange::Inbox;
use crate::cluster::frame::{Frame, Lane, Refusal, RefusalCode};
use crate::cluster::peering::{Me, Peering};
use ending::{LEAVING_MAX, leave};

const LISTENER: Token = Token(1);
/// The system must have reached a peer by then. It asks again after one second and after three: where
/// nothing answers, it is quicker to dial anew.
const DIALLING_MAX: Duration = Duration::from_millis(1_500);
/// A connection must have greeted by then.
const GREETING_MAX: Duration = Duration::from_secs(5);

pub(super) struct Driver {
    poll: Poll,
    listener: mio::net::TcpListener,
    is_acceptable: bool,
    me: u64,
    tls: Option<Tls>,
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    peering: Peering,
    resolver: Resolver,
    connections: BTreeMap<usize, Connection>,
    last_token: usize,
    /// Addresses at which members are.
    members_at: BTreeSet<IpAddr>,
    /// Connections that wait for an answer of the log thread, by their number.
    last_join: u64,
    start: Instant,
    /// There is more to do than waiting.
    is_busy: bool,
    complaints: BTreeMap<u64, (String, Duration)>,
}

/// How a connection's turn ends it.
enum End {
    /// It broke.
    Broken(Broken),
    /// It is told why it is closed.
    Refuse(Refusal),
    /// The peer has said why.
    Refused(Refusal),
}

impl<E: Into<Broken>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl Driver {
    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    pub(super) fn new(
        poll: Poll,
        listener: TcpListener,
        me: Me,
        tls: Option<Tls>,
        shared: Arc<Shared>,
        inbox: Arc<Inbox>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            is_acceptable: true,
            me: me.node,
            tls,
            resolver: Resolver::new(Arc::clone(&shared)),
            shared,
            inbox,
            peering: Peering::new(me),
            connections: BTreeMap::new(),
            last_token: LISTENER.0,
            members_at: BTreeSet::new(),
            last_join: 0,
            start: Instant::now(),
            is_busy: true,
            complaints: BTreeMap::new(),
        })
    }

    /// Until it is asked to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut scratch = Scratch::default();
        let mut leaving: Option<Duration> = None;
        loop {
            let now = self.start.elapsed();
            match self.poll.poll(&mut events, self.pause(now, leaving)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let now = self.start.elapsed();
            self.is_busy = false;
            self.note(&events);
            self.shared.bell().answer();
            if self.shared.is_stopping.load(Ordering::SeqCst) {
                let until = *leaving.get_or_insert(now + LEAVING_MAX / 2);
                self.take_leave(now, until);
                if now >= until || self.connections.is_empty() {
                    return Ok(());
                }
            } else {
                self.accept(now);
                self.take_orders(now);
                self.dial(now);
            }
            self.end_late(now);
            let tokens: Vec<usize> = self.connections.keys().copied().collect();
            for token in tokens {
                if let Err(end) = self.turn(now, token, &mut scratch) {
                    self.end(now, token, end);
                }
            }
        }
    }

    fn pause(&self, now: Duration, leaving: Option<Duration>) -> Option<Duration> {
        if self.is_busy {
            return Some(Duration::ZERO);
        }
        let deadlines = self.connections.values().filter_map(|connection| connection.deadline);
        let next = deadlines.chain(self.peering.next()).chain(leaving).min()?;
        // Rounded up: the system waits in whole milliseconds.
        Some(next.saturating_sub(now) + Duration::from_millis(1))
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                BELL => {}
                LISTENER => self.is_acceptable = true,
                Token(token) => {
                    if let Some(connection) = self.connections.get_mut(&token) {
                        connection.is_readable |= event.is_readable() || event.is_read_closed();
                        connection.is_writable |= event.is_writable() || event.is_write_closed();
                    }
                }
            }
        }
    }

    /// What other threads left for this one.
    fn take_orders(&mut self, now: Duration) {
        if let Some(local) = self.shared.take_update() {
            for member in local.members.nodes.values() {
                if let Ok(address) = member.address.parse::<SocketAddr>() {
                    self.note_member_at(address.ip());
                }
            }
            for ended in self.peering.update(now, local) {
                let text = format!("node {} has left the cluster", ended.peer);
                let refusal = Refusal::new(RefusalCode::Retired, text);
                self.end_session(now, ended, Some(&refusal));
            }
        }
        let answers = std::mem::take(&mut *lock(&self.shared.answers));
        for (id, answer) in answers {
            let asking = |one: &&mut Connection| one.stage == Stage::Joining(id);
            let Some(connection) = self.connections.values_mut().find(asking) else { continue };
            connection.queue(&match answer {
                Ok(joined) => Frame::Joined(Box::new(joined)),
                Err(refusal) => Frame::Refusal(Box::new(refusal)),
            });
            leave(connection, now);
        }
        let resolved = std::mem::take(&mut *lock(&self.shared.resolved));
        for resolved in resolved {
            self.connect(now, resolved);
        }
    }

    fn dial(&mut self, now: Duration) {
        for ended in self.peering.overdue(now) {
            self.complain(now, ended.peer, "it does not answer");
            self.end_session(now, ended, None);
        }
        for dial in self.peering.dial(now) {
            if let Some(resolved) = self.resolver.resolve(dial) {
                self.connect(now, resolved);
            }
        }
    }

    /// Opens the connections of a session.
    fn connect(&mut self, now: Duration, resolved: Resolved) {
        let Resolved { dial, addresses } = resolved;
        let (peer, session) = (dial.peer, dial.session);
        for address in addresses.iter().flatten() {
            self.note_member_at(address.ip());
        }
        let address = addresses.and_then(|addresses| {
            let chosen = self.resolver.choose(peer, &addresses);
            chosen.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
        });
        let mut connect = |lane| -> Result<(), Broken> {
            if self.peering.hello(peer, session, lane).is_none() {
                // It was given up while its name was looked for.
                return Ok(());
            }
            let address = address
                .as_ref()
                .map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
            let tls = self.tls.as_ref().map(|tls| tls.dial(peer)).transpose()?;
            let socket = TcpStream::connect(*address)?;
            let place = Place { peer, session, lane };
            self.add(Connection::new(socket, tls, Some(place), now + DIALLING_MAX));
            Ok(())
        };
        let connected = Lane::ALL.into_iter().try_for_each(&mut connect);
        if let Err(error) = connected {
            self.complain(now, peer, &format!("{} cannot be reached: {error}", dial.address));
            if let Some(ended) = self.peering.lost(now, peer, session) {
                self.end_session(now, ended, None);
            }
        }
    }
}
