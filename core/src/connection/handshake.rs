//! CONNECT to CONNACK.

use crate::connection::aliases::Aliases;
use crate::connection::refusal::{Refusal, Request, explain};
use crate::connection::{Connection, Outputs, Settings, State};
use crate::event::{DeliveryRef, NEVER_EXPIRES, Outstanding, SessionOpened, WillMessage};
use crate::identity::PacketId;
use crate::offset::{Offset, Timestamp};
use crate::packet::{ConnAck, Connect, Packet, ProtocolVersion, Will};
use crate::reason::ReasonCode;
use crate::topic;

/// A client whose Maximum Packet Size is smaller gets no Reason Strings: any of ours fits into this,
/// with the rest of its packet.
const EXPLAINED_BYTES: u32 = 256;

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
        self.packet_bytes_max = connect.maximum_packet_size.unwrap_or(u32::MAX);
        self.wants_reasons = connect.request_problem_information == Some(true);
        if let Some(elsewhere) = &settings.elsewhere {
            return self.send_elsewhere(elsewhere, out);
        }
        let checked = self.refusal.map_or_else(|| check(connect, settings, out), Err);
        if let Err(refusal) = checked {
            return self.refuse_connect(refusal, out);
        }
        self.wants_response_information = connect.request_response_information == Some(true);
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
        let client = client.as_deref().unwrap_or_default();
        let information =
            self.wants_response_information && !settings.response_information.is_empty();
        let information = information.then(|| settings.response_information.replace("%c", client));
        let mut connack = self.connack(client, resumed, settings);
        connack.response_information = information.as_deref();
        let connack = Packet::ConnAck(Box::new(connack));
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

    fn connack<'a>(&self, client: &'a str, resumed: &Resumed, settings: &Settings) -> ConnAck<'a> {
        let mut connack = ConnAck::new(resumed.session_present, ReasonCode::Success);
        if self.version == ProtocolVersion::V5 {
            connack.receive_maximum = Some(settings.receive_maximum);
            connack.maximum_packet_size = Some(settings.packet_bytes_max);
            connack.topic_alias_maximum =
                (settings.topic_aliases > 0).then_some(settings.topic_aliases);
            connack.server_keep_alive = (settings.server_keep_alive > 0
                && self.keep_alive == settings.server_keep_alive)
                .then_some(self.keep_alive);
            connack.assigned_client_identifier = self.assigned_id.then_some(client);
        }
        connack
    }

    /// Answers CONNECT with a failure and ends the connection. `[MQTT-3.1.4-2]`
    pub fn refuse(&mut self, reason: ReasonCode, out: &mut impl Outputs) {
        self.answer_refused(reason, explain(reason), out);
    }

    /// Whatever CONNECT says, it will be answered by `refusal`: the connection is one too many.
    pub fn set_refusal(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    pub(super) fn refuse_connect(&mut self, refusal: Refusal, out: &mut impl Outputs) {
        out.refused(Request::Connect, refusal);
        self.answer_refused(refusal.reason(Request::Connect), Some(refusal.text()), out);
    }

    /// Tells the client to use another server, and which, if one is known. (MQTT 5 section 4.13.2;
    /// 3.1.1 is told that this one is unavailable.)
    pub(super) fn send_elsewhere(&mut self, elsewhere: &str, out: &mut impl Outputs) {
        let refusal = Refusal::Draining;
        out.refused(Request::Connect, refusal);
        self.state = State::Closed;
        let mut connack = ConnAck::new(false, refusal.reason(Request::Connect));
        connack.reason_string = self.reason_string(Some(refusal.text()));
        let is_v5 = self.version == ProtocolVersion::V5;
        connack.server_reference = Some(elsewhere).filter(|place| is_v5 && !place.is_empty());
        let mut connack = Packet::ConnAck(Box::new(connack));
        if !self.is_taken(&connack) {
            let reason = refusal.reason(Request::Connect);
            connack = Packet::ConnAck(Box::new(ConnAck::new(false, reason)));
        }
        out.send(&connack);
        out.close();
    }

    fn answer_refused(
        &mut self,
        reason: ReasonCode,
        text: Option<&'static str>,
        out: &mut impl Outputs,
    ) {
        self.state = State::Closed;
        self.say_refused(reason, text, out);
        out.close();
    }

    /// Sends the CONNACK that refuses.
    pub(super) fn say_refused(
        &mut self,
        reason: ReasonCode,
        text: Option<&'static str>,
        out: &mut impl Outputs,
    ) {
        // [MQTT311-3.2.2-6]: none of the codes of 3.1.1 says that the Will Topic is wrong.
        if self.version == ProtocolVersion::V5 || reason != ReasonCode::TopicNameInvalid {
            let mut connack = ConnAck::new(false, reason);
            connack.reason_string = self.reason_string(text);
            out.send(&Packet::ConnAck(Box::new(connack)));
        }
    }

    /// `text`, if the client asked for Reason Strings and takes packets with one. `[MQTT-3.1.2-29]`
    pub(super) fn reason_string(&self, text: Option<&'static str>) -> Option<&'static str> {
        text.filter(|_| self.wants_reasons && self.packet_bytes_max >= EXPLAINED_BYTES)
    }
}

fn check(connect: &Connect<'_>, settings: &Settings, out: &impl Outputs) -> Result<(), Refusal> {
    if !settings.takes_sessions {
        return Err(settings.shortage);
    }
    if connect.authentication_method.is_some() {
        return Err(Refusal::AuthenticationMethod);
    }
    let is_valid = match connect.version {
        // 3.1 section 3.1: between 1 and 23 characters.
        ProtocolVersion::V31 => (1..=23).contains(&connect.client_id.chars().count()),
        // [MQTT311-3.1.3-8]: an empty identifier needs a clean session.
        ProtocolVersion::V311 => !connect.client_id.is_empty() || connect.clean_start,
        ProtocolVersion::V5 => true,
    };
    if !is_valid {
        return Err(Refusal::ClientIdentifier);
    }
    if connect.user_properties.len() > settings.user_properties_max {
        return Err(Refusal::UserProperties);
    }
    match &connect.will {
        Some(will) => check_will(will, settings, out),
        None => Ok(()),
    }
}

fn check_will(will: &Will<'_>, settings: &Settings, out: &impl Outputs) -> Result<(), Refusal> {
    if topic::check_name(will.topic).is_err()
        || topic::levels(will.topic) > settings.topic_levels_max
    {
        return Err(Refusal::Topic);
    }
    if topic::is_reserved(will.topic) {
        return Err(Refusal::NotAuthorized);
    }
    if will.forwarded.has_more_user_properties_than(settings.user_properties_max) {
        return Err(Refusal::UserProperties);
    }
    // Decided here, since a will is published by the log, which refuses nothing.
    let is_addition = will.retain
        && !will.payload.is_empty()
        && !settings.takes_retained
        && !out.is_retained(will.topic);
    if is_addition { Err(Refusal::Retained) } else { Ok(()) }
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
