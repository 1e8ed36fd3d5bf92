//! The thread with the sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::connection::{Broken, Connection, Place, Scratch, Stage, TURN_BYTES, set_up};
use super::link::{BELL, Shared, lock};
use super::resolve::{Resolved, Resolver};
use super::tls::Tls;
use crate::cluster::exchange::{Inbox, PeerInput};
use crate::cluster::frame::{Frame, FrameError, Hello, Join, Lane, Refusal, RefusalCode, admit};
use crate::cluster::peering::{Ended, Greeted, Me, Peering, Way};

const LISTENER: Token = Token(1);
/// Connections that have not greeted yet, at most.
const STRANGERS_MAX: usize = 64;
/// Nodes that wait to be let in, at most.
const JOINING_MAX: usize = 8;
/// The system must have reached a peer by then. It asks again after one second and after three: where
/// nothing answers, it is quicker to dial anew.
const DIALLING_MAX: Duration = Duration::from_millis(1_500);
/// A connection must have greeted by then.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// The log thread must have answered a request to join by then.
const JOINING_WAIT: Duration = Duration::from_secs(30);
/// So long may a refused peer take to hear why.
const LEAVING_MAX: Duration = Duration::from_secs(1);
/// The same complaint is not repeated before.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Complaints about strangers: not more often.
const STRANGER_INTERVAL: Duration = Duration::from_secs(1);

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

    fn accept(&mut self, now: Duration) {
        while self.is_acceptable {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_acceptable = false;
                    return;
                }
                Err(error) => {
                    // No descriptors, or a connection that is gone already: with the next event.
                    self.is_acceptable = false;
                    return self.complain(now, 0, &format!("cannot accept: {error}"));
                }
            };
            let strangers = self.connections.values().filter(|one| one.place.is_none()).count();
            if strangers >= STRANGERS_MAX {
                self.complain(now, 0, "too many connections that have not greeted");
                continue;
            }
            let tls = match self.tls.as_ref().map(Tls::accept).transpose() {
                Ok(tls) => tls,
                Err(error) => return self.complain(now, 0, &format!("TLS: {error}")),
            };
            if let Err(error) = set_up(&socket) {
                self.complain(now, 0, &format!("cannot set up a connection: {error}"));
                continue;
            }
            self.add(Connection::new(socket, tls, None, now + GREETING_MAX));
        }
    }

    fn add(&mut self, mut connection: Connection) {
        self.last_token += 1;
        let token = Token(self.last_token);
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut connection.socket, token, interest) {
            Ok(()) => {
                self.connections.insert(token.0, connection);
            }
            Err(error) => tracing::error!(%error, "a connection cannot be watched"),
        }
    }

    /// What other threads left for this one.
    fn take_orders(&mut self, now: Duration) {
        if let Some(local) = self.shared.take_update() {
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
        let Resolved { dial, address } = resolved;
        let (peer, session) = (dial.peer, dial.session);
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

    /// Everything that can be done with one connection now.
    fn turn(&mut self, now: Duration, token: usize, scratch: &mut Scratch) -> Result<(), End> {
        self.read(now, token, scratch)?;
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        if connection.stage == Stage::Dialling {
            return Ok(());
        }
        let mut bytes = 0;
        loop {
            if connection.stage == Stage::Open
                && connection.unwritten() == 0
                && let Some(place) = connection.place
            {
                self.shared.link(place.peer).take(place.lane, &mut connection.out);
            }
            let written = connection.write()?;
            if connection.stage == Stage::Open
                && let Some(place) = connection.place
            {
                self.shared.link(place.peer).set_taken(place.lane, connection.unwritten());
            }
            bytes += written;
            if written == 0 {
                break;
            }
            if bytes >= TURN_BYTES {
                // More may wait in the lane's buffer, and nobody rings for it again.
                self.is_busy = true;
                break;
            }
        }
        if connection.is_flushed() {
            if connection.stage == Stage::Leaving {
                connection.shut();
            }
        } else {
            self.is_busy |= connection.is_writable && !connection.is_securing();
        }
        Ok(())
    }

    fn read(&mut self, now: Duration, token: usize, scratch: &mut Scratch) -> Result<(), End> {
        let mut bytes = 0;
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
            match connection.stage {
                Stage::Dialling => {
                    if !connection.is_writable || !connection.is_connected()? {
                        return Ok(());
                    }
                    connection.stage = Stage::Securing;
                    connection.deadline = Some(now + GREETING_MAX);
                    continue;
                }
                Stage::Securing => {
                    if !connection.is_securing() {
                        connection.stage = Stage::Greeting;
                        if connection.is_dialled {
                            self.say_hello(token)?;
                        }
                        continue;
                    }
                }
                Stage::Greeting => {
                    if let Some((frame, _)) = first_frame(connection, self.tls.is_some())? {
                        self.greeted(now, token, frame)?;
                        continue;
                    }
                }
                // The other lanes first: what comes after the greeting belongs to the session.
                Stage::Waiting => return Ok(()),
                Stage::Open => {
                    let Some(place) = connection.place else { return Ok(()) };
                    if place.lane != Lane::Pulse && self.inbox.is_full() {
                        // The log thread rings when there is room.
                        return Ok(());
                    }
                    if let Some((frame, length)) = connection.decoder.next_frame()? {
                        if let Frame::Refusal(refusal) = frame {
                            return Err(End::Refused(*refusal));
                        }
                        admit(&frame, self.me, place.peer)?;
                        self.inbox.push_frame(place.peer, frame, place.lane, length);
                        continue;
                    }
                }
                Stage::Joining(_) => {
                    if connection.decoder.waiting() > 0 {
                        return Err(FrameError::TooLong { bytes: 1, max: 0 }.into());
                    }
                }
                Stage::Leaving => {
                    if connection.is_readable {
                        connection.discard(scratch)?;
                        self.is_busy |= connection.is_readable;
                    }
                    return Ok(());
                }
            }
            if !connection.is_readable {
                return Ok(());
            }
            if bytes >= TURN_BYTES {
                self.is_busy = true;
                return Ok(());
            }
            let read = connection.read(scratch)?;
            bytes += read;
            if read > 0
                && let Some(place) = connection.place
            {
                self.peering.heard(now, place.peer);
            }
        }
    }

    /// The one that dialled greets first.
    fn say_hello(&mut self, token: usize) -> Result<(), End> {
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        let Some(Place { peer, session, lane }) = connection.place else { return Ok(()) };
        let hello = self.peering.hello(peer, session, lane).ok_or(Broken::Closed)?;
        connection.queue(&Frame::Hello(Box::new(hello)));
        Ok(())
    }

    /// The first frame has come.
    fn greeted(&mut self, now: Duration, token: usize, frame: Frame) -> Result<(), End> {
        match frame {
            Frame::Hello(hello) => self.on_hello(now, token, *hello),
            Frame::Join(join) => self.on_join(now, token, *join),
            Frame::Refusal(refusal) => Err(End::Refused(*refusal)),
            // The decoder takes nothing else before a lane is known.
            _ => Err(Broken::Closed.into()),
        }
    }

    fn on_hello(&mut self, now: Duration, token: usize, hello: Hello) -> Result<(), End> {
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        let certificate = connection.certificate();
        if connection.has_tls() && certificate.is_none() {
            let text = "a member shows its certificate; only a request to join comes without one";
            return Err(End::Refuse(Refusal::new(RefusalCode::Certificate, text)));
        }
        let way = match connection.place {
            Some(Place { peer, session, lane }) if connection.is_dialled => {
                Way::Dialled { peer, session, lane }
            }
            _ => Way::Accepted,
        };
        let greeted = self.peering.greet(now, way, &hello, certificate).map_err(End::Refuse)?;
        let Greeted { peer, session, replaced, is_up } = greeted;
        connection.place = Some(Place { peer, session, lane: hello.lane });
        connection.decoder.set_lane(hello.lane);
        connection.stage = Stage::Waiting;
        connection.deadline = None;
        if way == Way::Accepted
            && let Some(hello) = self.peering.hello(peer, session, hello.lane)
        {
            connection.queue(&Frame::Hello(Box::new(hello)));
        }
        if let Some(ended) = replaced {
            self.end_session(now, ended, None);
        }
        if is_up {
            self.open(peer, hello, session);
        }
        Ok(())
    }

    /// All lanes are up.
    fn open(&mut self, peer: u64, hello: Hello, session: crate::cluster::peering::SessionId) {
        self.complaints.remove(&peer);
        self.shared.link(peer).set_up(true);
        self.inbox.push_event(PeerInput::Connected { peer, hello });
        for connection in self.connections.values_mut() {
            if connection.place.is_some_and(|place| place.session == session) {
                connection.stage = Stage::Open;
            }
        }
        // What has come behind the greetings is there already.
        self.is_busy = true;
        tracing::info!(peer, "connected");
    }

    fn on_join(&mut self, now: Duration, token: usize, join: Join) -> Result<(), End> {
        let joining = |one: &&Connection| matches!(one.stage, Stage::Joining(_));
        let count = self.connections.values().filter(joining).count();
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        let refuse = |code, text| Err(End::Refuse(Refusal::new(code, text)));
        if connection.is_dialled {
            return refuse(RefusalCode::Malformed, "whoever was dialled does not join");
        }
        if connection.certificate().is_some() {
            return refuse(RefusalCode::Join, "a member need not join");
        }
        if count >= JOINING_MAX {
            return refuse(RefusalCode::Busy, "too many nodes ask to be let in; ask again");
        }
        self.last_join += 1;
        connection.stage = Stage::Joining(self.last_join);
        connection.deadline = Some(now + JOINING_WAIT);
        connection.decoder.set_lane(Lane::Bulk);
        self.inbox.push_event(PeerInput::Join { id: self.last_join, request: join });
        Ok(())
    }

    fn end_late(&mut self, now: Duration) {
        let is_late = |one: &Connection| one.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, one)| is_late(one))
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            // Others ended with their session, which an earlier one of these took along.
            let Some(connection) = self.connections.get(&token) else { continue };
            let end = match connection.stage {
                Stage::Joining(_) => {
                    let text = "no leader has answered in time; ask again";
                    End::Refuse(Refusal::new(RefusalCode::Busy, text))
                }
                _ => Broken::Late.into(),
            };
            self.end(now, token, end);
        }
    }

    /// A connection ends, and its session with it.
    fn end(&mut self, now: Duration, token: usize, end: End) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if connection.stage == Stage::Leaving {
            self.remove(token);
            return;
        }
        let (place, has_tls) = (connection.place, connection.has_tls());
        let peer = place.map_or(0, |place| place.peer);
        let (complaint, refusal) = match end {
            End::Broken(broken @ (Broken::Frame(_) | Broken::Admit(_))) => {
                let code = match broken {
                    Broken::Frame(FrameError::Protocol { .. }) => RefusalCode::Protocol,
                    _ => RefusalCode::Malformed,
                };
                let text = broken.to_string();
                (text.clone(), Some(Refusal::new(code, text)))
            }
            End::Broken(broken) => (broken.to_string(), None),
            End::Refuse(refusal) => (format!("refused: {refusal}"), Some(refusal)),
            End::Refused(refusal) => {
                let complaint = format!("it refuses: {refusal}");
                if peer != 0 {
                    self.inbox.push_event(PeerInput::Refused { by: peer, refusal });
                }
                (complaint, None)
            }
        };
        let is_stranger_gone = peer == 0 && complaint == Broken::Closed.to_string();
        if !is_stranger_gone {
            self.complain(now, peer, &complaint);
        }
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if let Some(refusal) = refusal {
            connection.queue(&Frame::Refusal(Box::new(refusal)));
            leave(connection, now);
            self.is_busy = true;
        } else if has_tls {
            // TLS says what it did not like.
            connection.is_writable = true;
            leave(connection, now);
            self.is_busy = true;
        } else {
            self.remove(token);
        }
        if let Some(Place { peer, session, .. }) = place
            && let Some(ended) = self.peering.lost(now, peer, session)
        {
            self.end_session(now, ended, None);
        }
    }

    /// Closes what is left of a session.
    fn end_session(&mut self, now: Duration, ended: Ended, refusal: Option<&Refusal>) {
        let Ended { peer, session, was_up } = ended;
        let of_it = |(_, one): &(&usize, &Connection)| {
            one.stage != Stage::Leaving && one.place.is_some_and(|place| place.session == session)
        };
        let tokens: Vec<usize> =
            self.connections.iter().filter(of_it).map(|(token, _)| *token).collect();
        for token in tokens {
            match (refusal, self.connections.get_mut(&token)) {
                (Some(refusal), Some(connection)) => {
                    connection.queue(&Frame::Refusal(Box::new(refusal.clone())));
                    leave(connection, now);
                }
                _ => self.remove(token),
            }
        }
        if was_up {
            self.shared.link(peer).set_up(false);
            self.inbox.push_event(PeerInput::Disconnected { peer });
        }
    }

    fn remove(&mut self, token: usize) {
        if let Some(mut connection) = self.connections.remove(&token) {
            let _ = self.poll.registry().deregister(&mut connection.socket);
        }
    }

    /// Everybody is told that this node stops.
    fn take_leave(&mut self, now: Duration, until: Duration) {
        let refusal = Refusal::new(RefusalCode::Stopping, format!("node {} stops", self.me));
        let tokens: Vec<usize> = self.connections.keys().copied().collect();
        for token in tokens {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            match connection.stage {
                Stage::Leaving => {}
                Stage::Open => {
                    connection.queue(&Frame::Refusal(Box::new(refusal.clone())));
                    leave(connection, now);
                    connection.deadline = Some(until);
                }
                _ => self.remove(token),
            }
        }
    }

    /// Says what is wrong with a peer (0: a stranger), but not again and again.
    fn complain(&mut self, now: Duration, peer: u64, what: &str) {
        let interval = if peer == 0 { STRANGER_INTERVAL } else { COMPLAINT_INTERVAL };
        if let Some((last, at)) = self.complaints.get(&peer)
            && (peer == 0 || last == what)
            && now < *at + interval
        {
            return;
        }
        self.complaints.insert(peer, (what.to_owned(), now));
        match peer {
            0 => tracing::warn!(reason = what, "a connection to the cluster's address ended"),
            peer => tracing::warn!(peer, reason = what, "not connected"),
        }
    }
}

/// What is queued goes out, then the connection is closed.
fn leave(connection: &mut Connection, now: Duration) {
    connection.stage = Stage::Leaving;
    connection.deadline = Some(now + LEAVING_MAX);
}

/// The greeting, and a better word for the likeliest mistake.
fn first_frame(connection: &mut Connection, has_tls: bool) -> Result<Option<(Frame, usize)>, End> {
    match connection.decoder.next_frame() {
        Err(FrameError::TooLong { .. }) if !has_tls && connection.decoder.looks_like_tls() => {
            let text = "TLS is spoken to a node with cluster.insecure";
            Err(End::Refuse(Refusal::new(RefusalCode::Malformed, text)))
        }
        frame => Ok(frame?),
    }
}
