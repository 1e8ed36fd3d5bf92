//! The sockets: whoever has them waits at them, reads, and writes what is to be said.

mod accepting;
mod ending;
mod greeting;
mod turning;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::connection::{Broken, Connection, Place, Scratch, Stage};
use super::link::{BELL, Bell, Links};
use super::resolve::{Resolved, Resolver};
use super::tls::Tls;
use crate::cluster::exchange::{Inbox, JoinAnswer, Local, PeerInput, Peers, Sent, Traffic};
use crate::cluster::frame::{Frame, Lane, Refusal, RefusalCode};
use crate::cluster::members::Members;
use crate::cluster::peering::{Me, Peering};
use crate::wake::Wake;
use ending::{LEAVING_MAX, leave};

const LISTENER: Token = Token(1);
/// The system must have reached a peer by then. It asks again after one second and after three: where
/// nothing answers, it is quicker to dial anew.
const DIALLING_MAX: Duration = Duration::from_millis(1_500);
/// A connection must have greeted by then.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// Whoever did not look at the sockets for so long has been away: its disk did not answer.
const AWAY: Duration = Duration::from_secs(1);

/// The connections to all peers. One turn of theirs: [`Sockets::wait`] until something comes,
/// [`Sockets::read`] it and take it by [`Sockets::drain`], send what it leads to ([`Peers::send`]), and
/// have that go ([`Peers::flush`]).
pub struct Sockets {
    poll: Poll,
    events: Events,
    bell: Arc<Bell>,
    listener: mio::net::TcpListener,
    is_acceptable: bool,
    me: u64,
    tls: Option<Tls>,
    links: Links,
    inbox: Inbox,
    /// A lane was not read since the inbox is full.
    is_held_back: bool,
    peering: Peering,
    /// The members that were told last.
    members: Arc<Members>,
    resolver: Resolver,
    connections: BTreeMap<usize, Connection>,
    last_token: usize,
    /// Addresses at which members are.
    members_at: BTreeSet<IpAddr>,
    /// Connections that wait for [`Peers::answer`], by their number.
    last_join: u64,
    start: Instant,
    last_read: Duration,
    /// It was away, and has looked once since.
    looks_twice: bool,
    /// There is more to do than waiting.
    is_busy: bool,
    complaints: BTreeMap<u64, (String, Duration)>,
    scratch: Scratch,
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

impl Sockets {
    #[expect(clippy::disallowed_methods, reason = "whoever waits reads the clock")]
    pub(super) fn new(
        listener: TcpListener,
        me: Me,
        tls: Option<Tls>,
        inbox_bytes: usize,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let bell = Arc::new(Bell::new(&poll)?);
        listener.set_nonblocking(true)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            listener,
            // Not before the members are known: see `update`.
            is_acceptable: false,
            me: me.node,
            tls,
            resolver: Resolver::new(Arc::clone(&bell) as Arc<dyn Wake>),
            bell,
            links: Links::default(),
            inbox: Inbox::new(inbox_bytes),
            is_held_back: false,
            peering: Peering::new(me),
            members: Arc::default(),
            connections: BTreeMap::new(),
            last_token: LISTENER.0,
            members_at: BTreeSet::new(),
            last_join: 0,
            start: Instant::now(),
            last_read: Duration::ZERO,
            looks_twice: false,
            is_busy: true,
            complaints: BTreeMap::new(),
            scratch: Scratch::default(),
        })
    }

    /// Ends a wait, the one under way or the next.
    #[must_use]
    pub fn bell(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.bell) as Arc<dyn Wake>
    }

    /// Waits until something comes or there is something to do, for `max` at most (in whole
    /// milliseconds, rounded up).
    ///
    /// # Errors
    ///
    /// If the system refuses to wait for sockets.
    pub fn wait(&mut self, max: Duration) -> io::Result<()> {
        let now = self.start.elapsed();
        let next = self.deadlines().chain(self.peering.next()).min();
        self.poll(next.map_or(max, |next| next.saturating_sub(now).min(max)))
    }

    /// Reads what has come, lets in who knocks, and dials whom it is time to dial.
    pub fn read(&mut self) {
        let now = self.start.elapsed();
        let was_away = now.saturating_sub(self.last_read) > AWAY;
        self.last_read = now;
        if was_away {
            // Nobody was silent meanwhile, as far as is known here.
            let connections = self.connections.values_mut();
            connections.for_each(|one| one.heard_at = one.heard_at.map(|_| now));
        }
        self.read_all(now);
        self.accept(now);
        for resolved in self.resolver.take() {
            self.connect(now, resolved);
        }
        if was_away && !std::mem::replace(&mut self.looks_twice, true) {
            // Who seems to be late may have answered long ago; it takes more than one look to see it.
            self.is_busy = true;
            return;
        }
        self.looks_twice = false;
        self.dial(now);
        self.end_late(now);
    }

    /// What has come. Frames were checked by [`crate::cluster::frame::admit`].
    pub fn drain(&mut self) -> impl Iterator<Item = PeerInput> {
        // Nobody tells of what is there already.
        self.is_busy |= std::mem::take(&mut self.is_held_back);
        self.inbox.drain()
    }

    /// Whether something has come that was not taken yet.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Takes leave of everybody, which takes half a second at most.
    ///
    /// # Errors
    ///
    /// If the system refuses to wait for sockets.
    pub fn close(mut self) -> io::Result<()> {
        let mut now = self.start.elapsed();
        let until = now + LEAVING_MAX / 2;
        self.take_leave(now, until);
        loop {
            self.flush();
            if self.connections.is_empty() || now >= until {
                return Ok(());
            }
            let next = self.deadlines().min().unwrap_or(until).min(until);
            self.poll(next.saturating_sub(now))?;
            now = self.start.elapsed();
            self.read_all(now);
            self.end_late(now);
        }
    }

    fn deadlines(&self) -> impl Iterator<Item = Duration> {
        self.connections.values().filter_map(|connection| connection.deadline)
    }

    fn tokens(&self) -> Vec<usize> {
        self.connections.keys().copied().collect()
    }

    /// Waits, and notes at which sockets there is something.
    fn poll(&mut self, pause: Duration) -> io::Result<()> {
        let pause = if self.is_busy { Duration::ZERO } else { pause };
        match self.poll.poll(&mut self.events, Some(pause)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        self.is_busy = false;
        self.bell.answer();
        for event in &self.events {
            match event.token() {
                BELL => {}
                LISTENER => self.is_acceptable = !self.members.nodes.is_empty(),
                Token(token) => {
                    if let Some(connection) = self.connections.get_mut(&token) {
                        connection.is_ended |= event.is_read_closed();
                        connection.is_readable |= event.is_readable() || connection.is_ended;
                        connection.is_writable |= event.is_writable() || event.is_write_closed();
                    }
                }
            }
        }
        Ok(())
    }

    fn read_all(&mut self, now: Duration) {
        for token in self.tokens() {
            if let Err(end) = self.read_one(now, token) {
                self.end(now, token, end);
            }
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
            if !self.peering.is_open(peer, session) {
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

impl Peers for Sockets {
    fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        match self.links.send(to, frame) {
            // Perhaps the system takes what waits: a turn may send more than a lane holds.
            Sent::Full if self.make_room(to, frame.lane()) => self.links.send(to, frame),
            sent => sent,
        }
    }

    fn flush(&mut self) {
        let now = self.start.elapsed();
        for token in self.tokens() {
            if let Err(end) = self.write_one(token) {
                self.end(now, token, end);
            }
        }
    }

    fn update(&mut self, local: &Local) {
        let now = self.start.elapsed();
        if !Arc::ptr_eq(&self.members, &local.members) {
            self.members = Arc::clone(&local.members);
            for member in local.members.nodes.values() {
                if let Ok(address) = member.address.parse::<SocketAddr>() {
                    self.note_member_at(address.ip());
                }
            }
            // Somebody else may have to be dialled, and who knocks is told from strangers.
            self.is_busy = true;
            self.is_acceptable = !self.members.nodes.is_empty();
        }
        for ended in self.peering.update(now, local.clone()) {
            let text = format!("node {} has left the cluster", ended.peer);
            let refusal = Refusal::new(RefusalCode::Retired, text);
            self.end_session(now, ended, Some(&refusal));
        }
    }

    fn traffic(&self, peer: u64) -> Traffic {
        self.links.traffic(peer)
    }

    fn answer(&mut self, id: u64, answer: JoinAnswer) {
        let now = self.start.elapsed();
        let asking = |one: &&mut Connection| one.stage == Stage::Joining(id);
        let Some(connection) = self.connections.values_mut().find(asking) else { return };
        connection.queue(&match answer {
            Ok(joined) => Frame::Joined(Box::new(joined)),
            Err(refusal) => Frame::Refusal(Box::new(refusal)),
        });
        leave(connection, now);
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets")
            .field("node", &self.me)
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}
