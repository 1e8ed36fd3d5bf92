//! The MQTT connection machine: one Network Connection with the live part of its Session.
//!
//! Pure: `handle` takes `now` and a packet and answers through [`Outputs`]; it knows no socket and
//! no clock. An acknowledgement is never an answer to a packet but to the commit of the event that
//! the packet became: PUBACK, PUBREC, SUBACK and CONNACK are born in the `on_..committed` methods
//! and in [`Connection::on_session_ready`], nowhere else. Only what becomes no event is answered at
//! once: refusals, PINGREQ, and a repetition of what was committed before.
//!
//! ```text
//! bytes -> codec -> handle ---Outputs::publish/append---> log -> on_*_committed -> Outputs::send
//! log -> (worker: matching) -> deliver -> Outputs::send PUBLISH -> handle(PUBACK) -> progress
//! ```

mod aliases;
mod closing;
mod deliver;
mod handshake;
mod identify;
mod inflight;
mod outputs;
mod rate;
mod receive;
mod refusal;
mod settle;
mod subscribe;

pub use closing::Ending;
pub use deliver::{Delivery, Handed};
pub use handshake::Resumed;
pub use identify::Authentication;
pub use outputs::{Outputs, Settings};
pub use rate::PublishRate;
pub use refusal::{Refusal, Request};

use std::collections::VecDeque;
use std::time::Duration;

use crate::access::Memo;
use crate::codec;
use crate::event::SessionOpened;
use crate::identity::{ClientId, PacketId};
use crate::offset::{Offset, Timestamp};
use crate::packet::{Packet, ProtocolVersion};
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;

use aliases::Aliases;
use inflight::Deliver;
use rate::Published;
use receive::Receive;
use subscribe::Added;

/// One Network Connection and the live part of its Session.
#[derive(Debug)]
pub struct Connection {
    state: State,
    version: ProtocolVersion,
    keep_alive: u16,
    session_expiry_interval: u32,
    packet_bytes_max: u32,
    client: Option<ClientId>,
    username: Option<Box<str>>,
    /// What waits for the client's password to be compared.
    opening: Option<Box<SessionOpened>>,
    may_publish: Memo,
    epoch: Offset,
    last_input: Timestamp,
    /// Why it ended, as a DISCONNECT would say it.
    ended: ReasonCode,
    assigned_id: bool,
    has_will: bool,
    is_resumed: bool,
    /// The client wants Reason Strings.
    wants_reasons: bool,
    wants_response_information: bool,
    /// CONNECT is answered by this, whatever it says.
    refusal: Option<Refusal>,
    /// None as long as neither side uses one.
    aliases: Option<Box<Aliases>>,
    /// None as long as there is no limit.
    published: Option<Box<Published>>,
    receive: Receive,
    deliver: Deliver,
    awaiting: VecDeque<Awaiting>,
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for CONNECT.
    Connecting,
    /// The client's password is being compared; no further packet is taken.
    Authenticating,
    /// `SessionOpened` is on its way through the log; no further packet is taken.
    Opening,
    /// CONNACK was sent.
    Open,
    /// Nothing more is taken or delivered; the Network Connection is about to end.
    Closed,
}

/// An answer that waits for the commit of the event it belongs to, in the order of the appends.
#[derive(Debug)]
enum Awaiting {
    /// `added` are the new ones among the subscriptions.
    Subscribe {
        packet_id: PacketId,
        reasons: Vec<ReasonCode>,
        text: Option<&'static str>,
        added: Added,
    },
    Unsubscribe {
        packet_id: PacketId,
        filters: Vec<Result<TopicFilter, ReasonCode>>,
    },
}

impl Connection {
    /// A connection on which nothing was received yet.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: State::Connecting,
            version: ProtocolVersion::V5,
            keep_alive: 0,
            session_expiry_interval: 0,
            packet_bytes_max: u32::MAX,
            client: None,
            username: None,
            opening: None,
            may_publish: Memo::default(),
            epoch: Offset::ZERO,
            last_input: now,
            ended: ReasonCode::UnspecifiedError,
            assigned_id: false,
            has_will: false,
            is_resumed: false,
            wants_reasons: false,
            wants_response_information: false,
            refusal: None,
            aliases: None,
            published: None,
            receive: Receive::default(),
            deliver: Deliver::default(),
            awaiting: VecDeque::new(),
        }
    }

    /// Takes one packet. Call it only while [`Connection::takes_input`].
    pub fn handle(
        &mut self,
        now: Timestamp,
        packet: &Packet<'_>,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        self.last_input = now;
        match (self.state, packet) {
            (State::Connecting, Packet::Connect(connect)) => {
                self.on_connect(connect, settings, out);
            }
            // [MQTT-3.1.0-1]: the first packet is a CONNECT; anything else is answered by silence.
            (State::Connecting, _) => self.drop_connection(ReasonCode::ProtocolError, out),
            (State::Open, packet) => self.on_packet(packet, settings, out),
            (State::Authenticating | State::Opening | State::Closed, _) => {}
        }
    }

    fn on_packet(&mut self, packet: &Packet<'_>, settings: &Settings, out: &mut impl Outputs) {
        match packet {
            Packet::Publish(publish) => self.on_publish(publish, settings, out),
            Packet::PubAck(ack) => self.on_puback(ack.packet_id, out),
            Packet::PubRec(ack) => self.on_pubrec(ack.packet_id, ack.reason, out),
            Packet::PubRel(ack) => self.on_pubrel(ack.packet_id, out),
            Packet::PubComp(ack) => self.on_pubcomp(ack.packet_id, out),
            Packet::Subscribe(subscribe) => self.on_subscribe(subscribe, settings, out),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(unsubscribe, settings, out),
            Packet::PingReq => out.send(&Packet::PingResp),
            Packet::Disconnect(disconnect) => self.on_disconnect(disconnect, out),
            // [MQTT-3.1.0-2]: a second CONNECT is a protocol error. The others are sent by servers
            // only, and AUTH needs an Authentication Method, which CONNECT did not agree on.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Auth(_) => self.fail(ReasonCode::ProtocolError, out),
        }
    }

    /// Whether a packet may be given to [`Connection::handle`] now. While it may not, the bytes stay
    /// unread: a client may send before it sees CONNACK, but its events need the session's epoch.
    #[must_use]
    pub fn takes_input(&self) -> bool {
        matches!(self.state, State::Connecting | State::Open)
    }

    /// Whether `packet` is within the client's Maximum Packet Size. `[MQTT-3.1.2-24]`
    fn is_taken(&self, packet: &Packet<'_>) -> bool {
        if self.packet_bytes_max == u32::MAX {
            return true;
        }
        let mut bytes = Vec::new();
        let encoded = codec::encode(packet, self.version, &mut bytes);
        encoded.is_ok() && bytes.len() <= self.packet_bytes_max as usize
    }

    /// Where the connection stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Protocol version; before CONNECT that of the newest.
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// The client, once CONNECT named it.
    #[must_use]
    pub fn client(&self) -> Option<&ClientId> {
        self.client.as_ref()
    }

    /// Epoch of the session; [`Offset::ZERO`] before its opening was committed.
    #[must_use]
    pub fn epoch(&self) -> Offset {
        self.epoch
    }

    /// Whether deliveries to the session are logged: it outlives the connection, or was resumed.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.session_expiry_interval > 0 || self.is_resumed
    }

    /// The instant at which the client was silent for too long; `None` if nothing is awaited.
    ///
    /// Before CONNECT that is the time allowed for it, afterwards one and a half times the Keep
    /// Alive. `[MQTT-3.1.2-22]`
    #[must_use]
    pub fn silent_until(&self, settings: &Settings) -> Option<Timestamp> {
        match self.state {
            State::Connecting => Some(self.last_input.plus(settings.connect_timeout)),
            State::Open if self.keep_alive > 0 => {
                let allowed = Duration::from_millis(u64::from(self.keep_alive) * 1500);
                Some(self.last_input.plus(allowed))
            }
            State::Open | State::Authenticating | State::Opening | State::Closed => None,
        }
    }

    /// Restarts the client's silence at `now`: its socket was not read by our own will.
    pub fn excuse_silence(&mut self, now: Timestamp) {
        self.last_input = self.last_input.max(now);
    }
}
