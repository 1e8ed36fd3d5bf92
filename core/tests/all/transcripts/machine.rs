//! The machine under test, and its outputs as lines.

use std::fmt::Write as _;
use std::mem;
use std::time::Duration;

use ledgermq_core::access::Rules;
use ledgermq_core::codec;
use ledgermq_core::connection::{
    Authentication, Connection, Outputs, PublishRate, Refusal, Request, Settings,
};
use ledgermq_core::event::{
    DeliveryPhase, DeliveryRef, Event, MessagePublished, Outstanding, SessionOpened, Subscription,
};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::{
    Ack, ConnAck, Disconnect, Packet, ProtocolVersion, Publish, RetainHandling, SubAck,
};
use ledgermq_core::reason::ReasonCode;
use ledgermq_core::topic::{TopicFilter, filter_bytes};

pub(super) struct Machine {
    pub(super) connection: Connection,
    pub(super) settings: Settings,
    pub(super) now: Timestamp,
    pub(super) lines: Lines,
}

/// Outputs, one line each.
pub(super) struct Lines {
    lines: Vec<String>,
    /// Filters of the session's subscriptions.
    pub(super) subscribed: Vec<String>,
    /// The client has a session.
    pub(super) has_session: bool,
    /// Much waits for the client.
    pub(super) is_unread: bool,
    /// The version in which what is sent has to be encodable.
    pub(super) version: ProtocolVersion,
    /// What the client has proved to be.
    pub(super) identity: Option<String>,
}

impl Default for Machine {
    fn default() -> Self {
        let now = Timestamp::from_secs(1000);
        Self {
            connection: Connection::new(now),
            settings: Settings {
                node: 1,
                connect_timeout: Duration::from_secs(10),
                server_keep_alive: 0,
                packet_bytes_max: 1 << 20,
                topic_levels_max: 5,
                receive_maximum: 20,
                inflight_out: 100,
                topic_aliases: 0,
                subscriptions_max: 100,
                shared_subscriptions_max: 10,
                subscription_bytes_max: 10_000,
                publish_rate: PublishRate::default(),
                user_properties_max: 10,
                response_information: "".into(),
                conceals_rules: false,
                elsewhere: None,
                takes_publishes: true,
                takes_sessions: true,
                shortage: Refusal::Storage,
                takes_persistent: true,
                takes_retained: true,
                authentication: Authentication { has_passwords: false, takes_anonymous: true },
                rules: Rules::open(),
            },
            now,
            lines: Lines {
                lines: Vec::new(),
                subscribed: Vec::new(),
                has_session: false,
                is_unread: false,
                version: ProtocolVersion::V5,
                identity: None,
            },
        }
    }
}

impl Machine {
    /// Turns the machine; what it puts out is kept.
    pub(super) fn turn<T>(
        &mut self,
        turn: impl FnOnce(&mut Connection, &Settings, &mut Lines) -> T,
    ) -> T {
        turn(&mut self.connection, &self.settings, &mut self.lines)
    }

    pub(super) fn say(&mut self, line: impl Into<String>) {
        self.lines.lines.push(line.into());
    }

    pub(super) fn outputs(&mut self) -> Vec<String> {
        mem::take(&mut self.lines.lines)
    }
}

impl Lines {
    /// The client's version has the packet, and a strict client takes it: its Reason Code is one of
    /// this packet.
    fn check(&self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        codec::encode(packet, self.version, &mut bytes).expect("the client's version has it");
        let decoded = codec::decode(&bytes, self.version, codec::PACKET_BYTES_MAX);
        let length = decoded.expect("a client takes it").map(|(_, length)| length);
        assert_eq!(length, Some(bytes.len()), "{packet:?}");
    }
}

impl Outputs for Lines {
    fn send(&mut self, packet: &Packet<'_>) {
        self.check(packet);
        let line = match packet {
            Packet::ConnAck(connack) => connack_line(connack),
            Packet::Publish(publish) => publish_line(publish),
            Packet::PubAck(ack) => ack_line("PUBACK", ack),
            Packet::PubRec(ack) => ack_line("PUBREC", ack),
            Packet::PubRel(ack) => ack_line("PUBREL", ack),
            Packet::PubComp(ack) => ack_line("PUBCOMP", ack),
            Packet::SubAck(suback) => suback_line("SUBACK", suback),
            Packet::UnsubAck(unsuback) => suback_line("UNSUBACK", unsuback),
            Packet::PingResp => "PINGRESP".to_owned(),
            Packet::Disconnect(disconnect) => disconnect_line(disconnect),
            other => panic!("a server does not send {other:?}"),
        };
        self.lines.push(format!("send {line}"));
    }

    fn publish(&mut self, message: &MessagePublished<'_>) {
        let MessagePublished { qos, packet_id, topic, payload, .. } = message;
        let mut line = format!("append MessagePublished qos={} topic={topic}", *qos as u8);
        push_some(&mut line, "id", *packet_id);
        push_flag(&mut line, "retain", message.retain);
        push_some(&mut line, "expiry", message.message_expiry_interval);
        if !message.properties.is_empty() {
            write!(line, " properties={:02x?}", message.properties).unwrap();
        }
        write!(line, " payload={}", String::from_utf8_lossy(payload)).unwrap();
        self.lines.push(line);
    }

    fn control(&mut self, topic: &str, payload: &[u8]) {
        self.lines.push(format!("control {topic} {}", String::from_utf8_lossy(payload)));
    }

    fn append(&mut self, event: Event) {
        self.lines.push(format!("append {}", event_line(&event)));
    }

    fn subscriptions(&self) -> usize {
        self.subscribed.len()
    }

    fn shared_subscriptions(&self) -> usize {
        self.subscribed.iter().filter(|held| held.starts_with("$share/")).count()
    }

    fn subscription_bytes(&self) -> usize {
        let filters = self.subscribed.iter().map(|held| TopicFilter::new(held).unwrap());
        filters.map(|filter| filter_bytes(&filter)).sum()
    }

    fn is_subscribed(&self, filter: &TopicFilter) -> bool {
        self.subscribed.iter().any(|held| held == filter.as_str())
    }

    fn has_session(&self) -> bool {
        self.has_session
    }

    fn is_unread(&self) -> bool {
        self.is_unread
    }

    fn is_retained(&self, topic: &str) -> bool {
        topic.starts_with("retained/")
    }

    fn refused(&mut self, _request: Request, refusal: Refusal) {
        self.lines.push(format!("refused {}", refusal.name()));
    }

    fn authenticate(&mut self, username: &str, password: &[u8]) {
        let password = String::from_utf8_lossy(password);
        self.lines.push(format!("authenticate {username} {password}"));
    }

    fn close(&mut self) {
        self.lines.push("close".to_owned());
    }

    fn peer(&self) -> String {
        "peer".to_owned()
    }

    fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    fn assign_client_id(&mut self) -> ClientId {
        ClientId::from("assigned-1")
    }
}

fn connack_line(connack: &ConnAck<'_>) -> String {
    let mut line = format!("CONNACK {}", code(connack.reason));
    push_flag(&mut line, "present", connack.session_present);
    push_some(&mut line, "receive_maximum", connack.receive_maximum);
    push_some(&mut line, "packet_bytes", connack.maximum_packet_size);
    push_some(&mut line, "keep_alive", connack.server_keep_alive);
    push_some(&mut line, "client", connack.assigned_client_identifier);
    push_some(&mut line, "shared", connack.shared_subscription_available);
    push_some(&mut line, "aliases", connack.topic_alias_maximum);
    push_some(&mut line, "expiry", connack.session_expiry_interval);
    push_some(&mut line, "auth", connack.authentication_method);
    push_some(&mut line, "response", connack.response_information);
    push_some(&mut line, "server", connack.server_reference);
    push_text(&mut line, connack.reason_string);
    line
}

fn disconnect_line(disconnect: &Disconnect<'_>) -> String {
    let mut line = format!("DISCONNECT {}", code(disconnect.reason));
    push_some(&mut line, "expiry", disconnect.session_expiry_interval);
    push_text(&mut line, disconnect.reason_string);
    line
}

fn publish_line(publish: &Publish<'_>) -> String {
    let mut line = format!("PUBLISH qos={} topic={}", publish.qos as u8, publish.topic);
    push_some(&mut line, "id", publish.packet_id);
    push_flag(&mut line, "dup", publish.dup);
    push_flag(&mut line, "retain", publish.retain);
    push_some(&mut line, "expiry", publish.message_expiry_interval);
    push_some(&mut line, "alias", publish.topic_alias);
    if !publish.subscription_identifiers.is_empty() {
        write!(line, " identifiers={:?}", publish.subscription_identifiers).unwrap();
    }
    write!(line, " payload={}", String::from_utf8_lossy(publish.payload)).unwrap();
    line
}

fn ack_line(name: &str, ack: &Ack<'_>) -> String {
    let mut line = match ack.reason {
        ReasonCode::Success => format!("{name} {}", ack.packet_id),
        reason => format!("{name} {} {}", ack.packet_id, code(reason)),
    };
    push_text(&mut line, ack.reason_string);
    line
}

fn suback_line(name: &str, suback: &SubAck<'_>) -> String {
    let codes: Vec<_> = suback.reasons.iter().map(|reason| code(*reason)).collect();
    let mut line = format!("{name} {} {}", suback.packet_id, codes.join(" "));
    push_text(&mut line, suback.reason_string);
    line
}

fn event_line(event: &Event) -> String {
    match event {
        Event::SessionOpened(opened) => opened_line(opened),
        Event::SessionClosed { reason, publish_will, session_expiry_interval } => {
            let will = if *publish_will { " will" } else { "" };
            format!("SessionClosed {}{will} expiry={session_expiry_interval}", code(*reason))
        }
        Event::Subscribed { subscriptions } => {
            let lines: Vec<_> = subscriptions.iter().map(subscription_text).collect();
            format!("Subscribed {}", lines.join(" "))
        }
        Event::Unsubscribed { filters } => format!("Unsubscribed {filters:?}"),
        Event::MessageReleased { packet_ids } => format!("MessageReleased {packet_ids:?}"),
        Event::DeliveryReceived { packet_ids } => format!("DeliveryReceived {packet_ids:?}"),
        Event::DeliveryStarted { deliveries } => {
            let each = deliveries.iter().map(|(id, message)| format!("{id}={}", text(message)));
            format!("DeliveryStarted {}", each.collect::<Vec<_>>().join(" "))
        }
        Event::DeliveryProgressed { upto, outstanding } => {
            let each = outstanding.iter().map(outstanding_text);
            let outstanding = each.collect::<Vec<_>>().join(",");
            format!("DeliveryProgressed upto={} outstanding=[{outstanding}]", text(upto))
        }
        Event::SharedSettled { deliveries } => {
            let each = deliveries.iter().map(text).collect::<Vec<_>>();
            format!("SharedSettled {}", each.join(" "))
        }
        other => panic!("a connection machine does not append {other:?}"),
    }
}

fn opened_line(opened: &SessionOpened) -> String {
    let mut line = format!("SessionOpened client={} {:?}", opened.client, opened.protocol);
    push_flag(&mut line, "clean", opened.clean_start);
    write!(line, " expiry={}", opened.session_expiry_interval).unwrap();
    write!(line, " keep_alive={}", opened.keep_alive).unwrap();
    push_some(&mut line, "username", opened.username.as_deref());
    push_flag(&mut line, "proven", opened.is_proven);
    if let Some(will) = &opened.will {
        let payload = String::from_utf8_lossy(&will.payload);
        write!(line, " will={}:{payload} will_qos={}", will.topic, will.qos as u8).unwrap();
        push_flag(&mut line, "will_retain", will.retain);
        write!(line, " will_delay={}", will.delay_interval).unwrap();
    }
    line
}

fn subscription_text(subscription: &Subscription) -> String {
    let Subscription { filter, options, identifier } = subscription;
    let mut text = format!("{filter}:{}", options.qos as u8);
    for (flag, is_set) in [("nl", options.no_local), ("rap", options.retain_as_published)] {
        text.push_str(if is_set { "+" } else { "" });
        text.push_str(if is_set { flag } else { "" });
    }
    if options.retain_handling != RetainHandling::Send {
        write!(text, "+rh{}", options.retain_handling as u8).unwrap();
    }
    if let Some(identifier) = identifier {
        write!(text, "#{identifier}").unwrap();
    }
    text
}

fn outstanding_text(outstanding: &Outstanding) -> String {
    let phase = match outstanding.phase {
        DeliveryPhase::Published => "published",
        DeliveryPhase::Received => "received",
    };
    format!("{}={}/{phase}", outstanding.packet_id, text(&outstanding.message))
}

pub(super) fn text(message: &DeliveryRef) -> String {
    match (message.group(), message.nth) {
        (Some(group), _) => format!("{}/g{group}", message.at),
        (None, 0) => message.at.to_string(),
        (None, nth) => format!("{}/{nth}", message.at),
    }
}

pub(super) fn code(reason: ReasonCode) -> String {
    format!("{:#04x}", reason as u8)
}

fn push_flag(line: &mut String, name: &str, is_set: bool) {
    if is_set {
        line.push(' ');
        line.push_str(name);
    }
}

/// A Reason String.
fn push_text(line: &mut String, text: Option<&str>) {
    if let Some(text) = text {
        write!(line, " {text:?}").unwrap();
    }
}

fn push_some(line: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        write!(line, " {name}={value}").unwrap();
    }
}
