//! CONNECT to CONNACK.

use crate::connection::aliases::Aliases;
use crate::connection::{Connection, Outputs, Settings, State};
use crate::event::{DeliveryRef, NEVER_EXPIRES, Outstanding, SessionOpened, WillMessage};
use crate::identity::PacketId;
use crate::offset::{Offset, Timestamp};
use crate::packet::{ConnAck, Connect, Packet, ProtocolVersion, Will};
use crate::reason::ReasonCode;
use crate::topic;

/// What the session brings along from before.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Whether there was a session to resume.
    pub session_present: bool,
    /// QoS 2 messages received and not yet released.
    pub inbound: Vec<PacketId>,
    /// The last message that was handed to the client.
    pub cursor: DeliveryRef,
    /// Deliveries begun and not settled, all up to `cursor`.
    pub outstanding: Vec<Outstanding>,
}

impl Connection {
    pub(super) fn on_connect(
        &mut self,
        connect: &Connect<'_>,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        self.version = connect.version;
        if let Err(reason) = check(connect, settings, out) {
            return self.refuse(reason, out);
        }
        let is_v5 = connect.version == ProtocolVersion::V5;
        self.assigned_id = connect.client_id.is_empty();
        let client =
            if self.assigned_id { out.assign_client_id() } else { connect.client_id.into() };
        self.client = Some(client.clone());
        self.session_expiry_interval = match (is_v5, connect.clean_start) {
            (true, _) => connect.session_expiry_interval.unwrap_or(0),
            (false, true) => 0,
            (false, false) => NEVER_EXPIRES,
        };
        self.keep_alive = match settings.server_keep_alive {
            server if is_v5 && server > 0 && !(1..=server).contains(&connect.keep_alive) => server,
            _ => connect.keep_alive,
        };
        self.packet_bytes_max = connect.maximum_packet_size.unwrap_or(u32::MAX);
        let aliases = connect.topic_alias_maximum.unwrap_or(0).min(settings.topic_aliases);
        if aliases > 0 {
            self.aliases = Some(Box::new(Aliases::new(aliases)));
        }
        self.has_will = connect.will.is_some();
        let window = connect.receive_maximum.unwrap_or(u16::MAX).min(settings.inflight_out);
        self.deliver.set_window(window);
        let opened = SessionOpened {
            client,
            username: None,
            is_proven: false,
            node: settings.node,
            protocol: connect.version,
            clean_start: connect.clean_start,
            session_expiry_interval: self.session_expiry_interval,
            keep_alive: self.keep_alive,
            peer: out.peer(),
            will: connect.will.as_ref().map(will_message),
        };
        self.identify(connect, opened, settings, out);
    }

    /// The `SessionOpened` of this connection was committed at `epoch`. If the connection ended
    /// meanwhile, its session is closed again.
    pub fn on_opened(&mut self, epoch: Offset, out: &mut impl Outputs) {
        self.epoch = epoch;
        if self.state == State::Closed {
            out.append(self.close_event(self.ended, self.session_expiry_interval));
        }
    }

    /// The `SessionOpened` of this connection was committed ([`Connection::on_opened`]) and folded:
    /// sends CONNACK.
    ///
    /// Deliveries that were begun before are sent again by the worker with
    /// [`Connection::deliver`], which finds their identifiers; those whose PUBREC had come get
    /// their PUBREL here. `[MQTT-4.4.0-1]`
    pub fn on_session_ready(
        &mut self,
        now: Timestamp,
        resumed: &Resumed,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        if self.state != State::Opening {
            return;
        }
        debug_assert!(self.epoch != Offset::ZERO, "it is committed before it is folded");
        let client = self.client.clone();
        let connack = Packet::ConnAck(Box::new(self.connack(client.as_deref(), resumed, settings)));
        if !self.is_taken(&connack) {
            return self.drop_connection(ReasonCode::PacketTooLarge, out);
        }
        self.state = State::Open;
        self.last_input = now;
        self.is_resumed = resumed.session_present;
        self.receive.resume(&resumed.inbound);
        out.send(&connack);
        self.deliver.resume(resumed, out);
    }

    fn connack<'a>(
        &self,
        client: Option<&'a str>,
        resumed: &Resumed,
        settings: &Settings,
    ) -> ConnAck<'a> {
        let mut connack = ConnAck::new(resumed.session_present, ReasonCode::Success);
        if self.version == ProtocolVersion::V5 {
            connack.receive_maximum = Some(settings.receive_maximum);
            connack.maximum_packet_size = Some(settings.packet_bytes_max);
            connack.topic_alias_maximum =
                (settings.topic_aliases > 0).then_some(settings.topic_aliases);
            connack.shared_subscription_available = Some(false);
            connack.server_keep_alive = (settings.server_keep_alive > 0
                && self.keep_alive == settings.server_keep_alive)
                .then_some(self.keep_alive);
            connack.assigned_client_identifier = client.filter(|_| self.assigned_id);
        }
        connack
    }

    /// Answers CONNECT with a failure and ends the connection. `[MQTT-3.1.4-2]`
    pub fn refuse(&mut self, reason: ReasonCode, out: &mut impl Outputs) {
        self.state = State::Closed;
        // [MQTT311-3.2.2-6]: none of the codes of 3.1.1 says that the Will Topic is wrong.
        if self.version == ProtocolVersion::V5 || reason != ReasonCode::TopicNameInvalid {
            out.send(&Packet::ConnAck(Box::new(ConnAck::new(false, reason))));
        }
        out.close();
    }
}

fn check(connect: &Connect<'_>, settings: &Settings, out: &impl Outputs) -> Result<(), ReasonCode> {
    if !settings.takes_sessions {
        return Err(ReasonCode::QuotaExceeded);
    }
    if connect.authentication_method.is_some() {
        return Err(ReasonCode::BadAuthenticationMethod);
    }
    let is_valid = match connect.version {
        // 3.1 section 3.1: between 1 and 23 characters.
        ProtocolVersion::V31 => (1..=23).contains(&connect.client_id.chars().count()),
        // [MQTT311-3.1.3-8]: an empty identifier needs a clean session.
        ProtocolVersion::V311 => !connect.client_id.is_empty() || connect.clean_start,
        ProtocolVersion::V5 => true,
    };
    if !is_valid {
        return Err(ReasonCode::ClientIdentifierNotValid);
    }
    let Some(will) = &connect.will else { return Ok(()) };
    if topic::check_name(will.topic).is_err()
        || topic::levels(will.topic) > settings.topic_levels_max
    {
        return Err(ReasonCode::TopicNameInvalid);
    }
    if topic::is_reserved(will.topic) {
        return Err(ReasonCode::NotAuthorized);
    }
    // Decided here, since a will is published by the log, which refuses nothing.
    if will.retain
        && !will.payload.is_empty()
        && !settings.takes_retained
        && !out.is_retained(will.topic)
    {
        return Err(ReasonCode::QuotaExceeded);
    }
    Ok(())
}

fn will_message(will: &Will<'_>) -> WillMessage {
    WillMessage {
        topic: will.topic.to_owned(),
        payload: will.payload.to_vec(),
        qos: will.qos,
        retain: will.retain,
        delay_interval: will.delay_interval,
        message_expiry_interval: will.message_expiry_interval,
        properties: will.forwarded.0.to_vec(),
    }
}
