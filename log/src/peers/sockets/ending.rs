//! The end of connections and sessions, and what is said about it.

use std::time::Duration;

use super::{End, Sockets};
use crate::cluster::exchange::PeerInput;
use crate::cluster::frame::{Frame, FrameError, Refusal, RefusalCode};
use crate::cluster::peering::Ended;
use crate::peers::connection::{Broken, Connection, Place, Stage};

/// So long may a refused peer take to hear why.
pub(super) const LEAVING_MAX: Duration = Duration::from_secs(1);
/// The same complaint is not repeated before.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Complaints about strangers: not more often.
const STRANGER_INTERVAL: Duration = Duration::from_secs(1);

impl Sockets {
    pub(super) fn end_late(&mut self, now: Duration) {
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
    pub(super) fn end(&mut self, now: Duration, token: usize, end: End) {
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
            End::Refuse(refusal) => {
                self.peering.refused(peer, refusal.code);
                (format!("refused: {refusal}"), Some(refusal))
            }
            End::Refused(refusal) => {
                if refusal.code == RefusalCode::Stopping {
                    self.read_last_words(now, place);
                }
                self.peering.refused(peer, refusal.code);
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

    /// A peer that stops has said what it had to say on all lanes: what is there is taken.
    fn read_last_words(&mut self, now: Duration, place: Option<Place>) {
        let Some(Place { session, .. }) = place else { return };
        let of_it = |one: &Connection| one.place.is_some_and(|place| place.session == session);
        for token in self.tokens() {
            if self.connections.get(&token).is_some_and(of_it) {
                // How it ends is the same refusal.
                let _ = self.read_one(now, token);
            }
        }
    }

    /// Closes what is left of a session.
    pub(super) fn end_session(&mut self, now: Duration, ended: Ended, refusal: Option<&Refusal>) {
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
        if !was_up {
            self.resolver.failed(peer);
        }
        if was_up {
            self.links.to(peer).set_up(false);
            self.inbox.push_event(PeerInput::Disconnected { peer });
        }
    }

    pub(super) fn remove(&mut self, token: usize) {
        if let Some(mut connection) = self.connections.remove(&token) {
            let _ = self.poll.registry().deregister(&mut connection.socket);
        }
    }

    /// Everybody is told that this node stops.
    pub(super) fn take_leave(&mut self, now: Duration, until: Duration) {
        let refusal = Refusal::new(RefusalCode::Stopping, format!("node {} stops", self.me));
        let tokens: Vec<usize> = self.connections.keys().copied().collect();
        for token in tokens {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            match connection.stage {
                Stage::Leaving => {}
                Stage::Open => {
                    if let Some(Place { peer, lane, .. }) = connection.place {
                        self.links.to(peer).take_rest(lane, &mut connection.out);
                    }
                    connection.queue(&Frame::Refusal(Box::new(refusal.clone())));
                    leave(connection, now);
                    connection.deadline = Some(until);
                }
                _ => self.remove(token),
            }
        }
    }

    /// Says what is wrong with a peer (0: a stranger), but not again and again.
    pub(super) fn complain(&mut self, now: Duration, peer: u64, what: &str) {
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
pub(super) fn leave(connection: &mut Connection, now: Duration) {
    connection.stage = Stage::Leaving;
    connection.deadline = Some(now + LEAVING_MAX);
}
