//! The first frame on a connection: who speaks, and whether it is heard.

use std::time::Duration;

use super::{End, Sockets};
use crate::cluster::exchange::PeerInput;
use crate::cluster::frame::{Frame, Hello, Join, Lane, Refusal, RefusalCode};
use crate::cluster::peering::{Greeted, SessionId, Way};
use crate::peers::connection::{Broken, Connection, Place, Stage, set_up_lane};

/// Nodes that wait to be let in, at most.
const JOINING_MAX: usize = 8;
/// The log thread must have answered a request to join by then.
const JOINING_WAIT: Duration = Duration::from_secs(30);

impl Sockets {
    /// The one that dialled greets first.
    pub(super) fn say_hello(&mut self, token: usize) -> Result<(), End> {
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        let Some(Place { peer, session, lane }) = connection.place else { return Ok(()) };
        let hello = self.peering.hello(peer, session, lane).ok_or(Broken::Closed)?;
        connection.queue(&Frame::Hello(Box::new(hello)));
        Ok(())
    }

    /// The first frame has come.
    pub(super) fn greeted(
        &mut self,
        now: Duration,
        token: usize,
        (frame, bytes): (Frame, usize),
    ) -> Result<(), End> {
        match frame {
            Frame::Hello(hello) => self.on_hello(now, token, *hello),
            Frame::Join(join) => self.on_join(now, token, *join, bytes),
            Frame::Refusal(refusal) => Err(End::Refused(*refusal)),
            // The decoder takes nothing else before a lane is known.
            _ => Err(Broken::Closed.into()),
        }
    }

    pub(super) fn on_hello(
        &mut self,
        now: Duration,
        token: usize,
        hello: Hello,
    ) -> Result<(), End> {
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
        let Greeted { peer, session, replaced, is_up, knows_more } = greeted;
        connection.place = Some(Place { peer, session, lane: hello.lane });
        connection.decoder.set_lane(hello.lane);
        set_up_lane(&connection.socket, hello.lane)?;
        connection.stage = Stage::Waiting;
        connection.deadline = None;
        if way == Way::Accepted
            && let Some(hello) = self.peering.hello(peer, session, hello.lane)
        {
            connection.queue(&Frame::Hello(Box::new(hello)));
        }
        if let Ok(address) = connection.socket.peer_addr() {
            self.note_member_at(address.ip());
        }
        if let Some(ended) = replaced {
            self.end_session(now, ended, None);
        }
        if is_up {
            self.open(peer, hello, session);
        } else if knows_more {
            self.inbox.push_event(PeerInput::Greeted { peer, members: hello.members_index });
        }
        Ok(())
    }

    /// All lanes are up.
    pub(super) fn open(&mut self, peer: u64, hello: Hello, session: SessionId) {
        self.complaints.remove(&peer);
        self.links.to(peer).set_up(true);
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

    pub(super) fn on_join(
        &mut self,
        now: Duration,
        token: usize,
        join: Join,
        bytes: usize,
    ) -> Result<(), End> {
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
        // Whoever goes away leaves its request behind.
        if count >= JOINING_MAX || self.inbox.is_full() {
            return refuse(RefusalCode::Busy, "too many nodes ask to be let in; ask again");
        }
        self.last_join += 1;
        connection.stage = Stage::Joining(self.last_join);
        connection.deadline = Some(now + JOINING_WAIT);
        connection.decoder.set_lane(Lane::Bulk);
        self.inbox.push_join(self.last_join, join, bytes);
        Ok(())
    }
}
