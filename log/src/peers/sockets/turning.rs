//! Reading and writing one connection.

use std::time::Duration;

use super::{End, GREETING_MAX, Sockets};
use crate::cluster::frame::{AWAY, Frame, FrameError, Lane, Refusal, RefusalCode, admit};
use crate::peers::connection::{Broken, Connection, PULSELESS_MAX, Stage, TURN_BYTES};

impl Sockets {
    /// Writes what waits on a lane; whether the system took some of it.
    pub(super) fn make_room(&mut self, peer: u64, lane: Lane) -> bool {
        let is_it = |one: &Connection| {
            let place = one.place.filter(|place| (place.peer, place.lane) == (peer, lane));
            place.is_some() && one.stage == Stage::Open && one.is_writable
        };
        let found = self.connections.iter().find(|(_, one)| is_it(one)).map(|(token, _)| *token);
        // An error is found again when it is time to end the connection.
        found.is_some_and(|token| self.write_one(token).is_ok())
    }

    /// Writes what waits for one connection.
    pub(super) fn write_one(&mut self, token: usize) -> Result<(), End> {
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
                self.links.to(place.peer).take(place.lane, &mut connection.out);
            }
            let written = connection.write()?;
            if connection.stage == Stage::Open
                && let Some(place) = connection.place
            {
                self.links.to(place.peer).set_taken(place.lane, connection.unwritten());
            }
            bytes += written;
            if written == 0 {
                break;
            }
            if bytes >= TURN_BYTES {
                // More may wait in the lane's buffer, and nobody tells of it again.
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

    /// Reads what has come on one connection.
    pub(super) fn read_one(&mut self, now: Duration, token: usize) -> Result<(), End> {
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
                    if let Some(first) = first_frame(connection, self.tls.is_some())? {
                        self.greeted(now, token, first)?;
                        continue;
                    }
                }
                // Nothing comes of its session any more.
                Stage::Waiting if connection.is_ended => return Err(Broken::Closed.into()),
                // The other lanes first: what comes after the greeting belongs to the session.
                Stage::Waiting => return Ok(()),
                Stage::Open => {
                    let Some(place) = connection.place else { return Ok(()) };
                    if place.lane != Lane::Pulse && self.inbox.is_full() {
                        self.is_held_back = true;
                        return Ok(());
                    }
                    if let Some((frame, length)) = connection.decoder.next_frame()? {
                        if let Frame::Refusal(refusal) = frame {
                            return Err(End::Refused(*refusal));
                        }
                        if let Frame::Pulse(pulse) = &frame
                            && std::mem::take(&mut connection.was_silent)
                            && pulse.gate & AWAY == 0
                        {
                            return Err(Broken::Silent.into());
                        }
                        admit(&frame, self.me, place.peer)?;
                        self.links.to(place.peer).received(place.lane, length);
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
                        connection.discard(&mut self.scratch)?;
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
            let read = connection.read(&mut self.scratch)?;
            bytes += read;
            if read > 0
                && let Some(place) = connection.place
            {
                self.peering.heard(now, place.peer);
                if connection.stage == Stage::Open && place.lane == Lane::Pulse {
                    let before = connection.heard_at.replace(now);
                    connection.was_silent |=
                        before.is_some_and(|at| now.saturating_sub(at) > PULSELESS_MAX);
                }
            }
        }
    }
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
