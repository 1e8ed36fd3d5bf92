//! The end of a connection, from either side.

use crate::connection::refusal::explain;
use crate::connection::{Connection, Outputs, State};
use crate::event::Event;
use crate::offset::Offset;
use crate::packet::{Disconnect, Packet, ProtocolVersion};
use crate::reason::ReasonCode;

/// Why the Network Connection of an open session ended without the client's DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The transport was closed or failed.
    TransportLost,
    /// The server ended it, with this reason.
    Server(ReasonCode),
    /// The same, with what the Reason String tells a client that asked for one: the code alone says
    /// too little.
    Told(ReasonCode, &'static str),
}

impl Connection {
    pub(super) fn on_disconnect(&mut self, disconnect: &Disconnect<'_>, out: &mut impl Outputs) {
        if let Some(interval) = disconnect.session_expiry_interval {
            // MQTT 5 section 3.14.2.2.2
            if self.session_expiry_interval == 0 && interval > 0 {
                return self.fail(ReasonCode::ProtocolError, out);
            }
            self.end(disconnect.reason, interval, out);
        } else {
            self.end(disconnect.reason, self.session_expiry_interval, out);
        }
        out.close();
    }

    /// The client broke the protocol: tells it why (MQTT 5) and ends the connection.
    pub fn fail(&mut self, reason: ReasonCode, out: &mut impl Outputs) {
        self.on_ended(Ending::Server(reason), out);
    }

    /// The connection ended, or is to end, for a reason of the transport or the server. The
    /// session is closed and its will published; [`ReasonCode::SessionTakenOver`] leaves both
    /// to the session's next epoch.
    pub fn on_ended(&mut self, ending: Ending, out: &mut impl Outputs) {
        let (reason, text) = match ending {
            Ending::TransportLost => (ReasonCode::UnspecifiedError, None),
            Ending::Server(reason) => (reason, explain(reason)),
            Ending::Told(reason, text) => (reason, Some(text)),
        };
        if ending != Ending::TransportLost {
            self.tell_ended(reason, text, out);
        }
        if reason == ReasonCode::SessionTakenOver {
            self.state = State::Closed;
        } else {
            self.end(reason, self.session_expiry_interval, out);
        }
        out.close();
    }

    /// Says why the server ends the connection: by DISCONNECT, or by CONNACK while CONNECT is not
    /// answered yet. `[MQTT-3.14.0-1]`
    fn tell_ended(
        &mut self,
        reason: ReasonCode,
        text: Option<&'static str>,
        out: &mut impl Outputs,
    ) {
        match self.state {
            State::Open if self.version == ProtocolVersion::V5 => {
                let mut disconnect = Disconnect::new(reason);
                disconnect.reason_string = self.reason_string(text);
                out.send(&Packet::Disconnect(disconnect));
            }
            State::Authenticating | State::Opening if is_passing(reason) => {
                // A client that was never let in has no will.
                self.has_will = false;
                self.say_refused(ReasonCode::ServerUnavailable, text, out);
            }
            State::Connecting
            | State::Authenticating
            | State::Opening
            | State::Open
            | State::Closed => {}
        }
    }

    /// Ends the Network Connection without a word.
    pub(super) fn drop_connection(&mut self, reason: ReasonCode, out: &mut impl Outputs) {
        self.end(reason, self.session_expiry_interval, out);
        out.close();
    }

    /// Closes the session, if its epoch is known; otherwise [`Connection::on_opened`] does.
    fn end(&mut self, reason: ReasonCode, interval: u32, out: &mut impl Outputs) {
        self.flush_progress(out);
        let has_session = matches!(self.state, State::Opening | State::Open);
        if has_session && self.epoch != Offset::ZERO {
            out.append(self.close_event(reason, interval));
        }
        self.ended = reason;
        self.state = State::Closed;
    }

    /// The event that closes the session of this connection with `reason`.
    pub(super) fn close_event(&self, reason: ReasonCode, session_expiry_interval: u32) -> Event {
        Event::SessionClosed {
            reason,
            // [MQTT-3.14.4-3]: a normal DISCONNECT discards the will.
            publish_will: self.has_will && reason != ReasonCode::Success,
            session_expiry_interval,
        }
    }
}

/// Whether the server ends a connection for what has nothing to do with the client, who may come
/// again or go elsewhere.
const fn is_passing(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::ServerBusy | ReasonCode::ServerShuttingDown | ReasonCode::ServerUnavailable
    )
}
