//! Reading and writing one connection.

use std::time::Duration;

use super::{Driver, End, GREETING_MAX};
use crate::cluster::frame::{Frame, FrameError, Lane, Refusal, RefusalCode, admit};
use crate::peers::connection::{Connection, Scratch, Stage, TURN_BYTES};

impl Driver {
    /// Everything that can be done with one connection now.
    pub(super) fn turn(
        &mut self,
        now: Duration,
        token: usize,
        scratch: &mut Scratch,
    ) -> Result<(), End> {
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

    pub(super) fn read(
        &mut self,
        now: Duration,
        token: usize,
        scratch: &mut Scratch,
    ) -> Result<(), End> {
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
                        self.shared.link(place.peer).received(place.lane, length);
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
