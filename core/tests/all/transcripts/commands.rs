//! What a line of a transcript does.

use std::time::Duration;

use ledgermq_core::access::{self, Rules};
use ledgermq_core::codec::ForwardedProperty;
use ledgermq_core::connection::{Connection, Delivery, Ending, Handed, Refusal, Resumed, State};
use ledgermq_core::event::{DeliveryPhase, Outstanding};
use ledgermq_core::identity::PacketId;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, ForwardedProperties, Packet, ProtocolVersion, Publish,
    QoS, RetainHandling, SubAck, Subscribe, SubscriptionOptions, Unsubscribe, UserProperties, Will,
};
use ledgermq_core::reason::ReasonCode;

use super::machine::{self, Machine};
use super::words::{self, Words};

impl Machine {
    /// Does what the line says.
    pub(super) fn command(&mut self, line: &str) {
        let (verb, mut words) = Words::of(line);
        match verb {
            "new" => self.begin(&mut words),
            "settings" => self.set(&mut words),
            "wait" => {
                let seconds: f64 = words.word().unwrap().parse().unwrap();
                self.now = self.now.plus(Duration::from_secs_f64(seconds));
            }
            "set" => self.set(&mut words),
            "identity" => {
                let identity = words.word().map(str::to_owned);
                self.turn(|_, _, out| out.identity = identity);
            }
            "open" => self.open(&mut words),
            "opened" => {
                let epoch = words.message().at;
                self.turn(|machine, _, out| machine.on_opened(epoch, out));
            }
            "ready" => self.ready(&mut words),
            "authenticated" => {
                let verdict = words.reason().map_or(Ok(()), Err);
                self.turn(|machine, settings, out| {
                    machine.on_authenticated(verdict, settings, out);
                });
            }
            "void" => {
                self.turn(|machine, _, out| machine.on_opening_void(Refusal::NotAuthorized, out));
            }
            "late" => self.turn(|machine, _, out| machine.on_opening_void(Refusal::Quorum, out)),
            "rules" => {
                let text = words.rest().join(" ").replace(';', "\n");
                let list = access::parse(&text).unwrap();
                self.settings.rules = Rules::new(Some(&list));
            }
            "committed" => self.committed(&mut words),
            "deliver" => self.deliver(&mut words),
            "cycle" => self.cycle(&mut words),
            "skip" => {
                let message = words.message();
                let qos = words.qos();
                self.turn(|machine, _, out| machine.skip(message, qos, out));
            }
            "caught_up" => self.turn(|machine, _, out| machine.on_caught_up(out)),
            "flush" => self.turn(|machine, _, out| machine.flush_progress(out)),
            "fail" => {
                let reason = words.reason().unwrap();
                self.turn(|machine, _, out| machine.fail(reason, out));
            }
            "end" => {
                let ending = words.reason().map_or(Ending::TransportLost, Ending::Server);
                self.turn(|machine, _, out| machine.on_ended(ending, out));
            }
            "end_told" => {
                let ending = Ending::Told(words.reason().unwrap(), "why");
                self.turn(|machine, _, out| machine.on_ended(ending, out));
            }
            "refuse" => {
                let reason = words.reason().unwrap();
                self.turn(|machine, _, out| machine.refuse(reason, out));
            }
            "one_too_many" => {
                self.turn(|machine, _, _| machine.set_refusal(Refusal::Connections));
            }
            "ask" => self.ask(&mut words),
            "excuse" => {
                let now = self.now;
                self.turn(|machine, _, _| machine.excuse_silence(now));
            }
            packet => self.packet(packet, &mut words),
        }
    }

    fn begin(&mut self, words: &mut Words<'_>) {
        *self = Self::default();
        self.set(words);
    }

    fn set(&mut self, words: &mut Words<'_>) {
        let settings = &mut self.settings;
        if let Some(seconds) = words.number("server_keep_alive") {
            settings.server_keep_alive = seconds;
        }
        if let Some(messages) = words.number("receive_maximum") {
            settings.receive_maximum = messages;
        }
        if let Some(messages) = words.number("inflight_out") {
            settings.inflight_out = messages;
        }
        if let Some(most) = words.number("topic_aliases") {
            settings.topic_aliases = most;
        }
        if let Some(most) = words.number("subscriptions_max") {
            settings.subscriptions_max = most;
        }
        if let Some(most) = words.number("shared_subscriptions_max") {
            settings.shared_subscriptions_max = most;
        }
        if let Some(most) = words.number("subscription_bytes_max") {
            settings.subscription_bytes_max = most;
        }
        if let Some(most) = words.number("user_properties_max") {
            settings.user_properties_max = most;
        }
        if let Some(messages) = words.number("publish_rate") {
            settings.publish_rate.messages = messages;
        }
        if let Some(bytes) = words.number("publish_bytes") {
            settings.publish_rate.bytes = bytes;
        }
        settings.conceals_rules |= words.flag("conceals_rules");
        if let Some(text) = words.text("response_information") {
            settings.response_information = text.into();
        }
        if let Some(place) = words.text("elsewhere") {
            settings.elsewhere = (place != "no").then(|| place.replace("none", "").into());
        }
        if let Some(filters) = words.text("subscribed") {
            self.lines.subscribed = filters.split(',').map(str::to_owned).collect();
        }
        for (name, setting) in [
            ("unread", &mut self.lines.is_unread),
            ("session", &mut self.lines.has_session),
            ("takes_persistent", &mut settings.takes_persistent),
            ("takes_publishes", &mut settings.takes_publishes),
            ("takes_sessions", &mut settings.takes_sessions),
            ("takes_retained", &mut settings.takes_retained),
            ("has_passwords", &mut settings.authentication.has_passwords),
            ("takes_anonymous", &mut settings.authentication.takes_anonymous),
        ] {
            if let Some(value) = words.text(name) {
                *setting = value == "yes";
            }
        }
    }

    /// CONNECT, its commit and its fold in one line; says only what the line's own words ask for.
    fn open(&mut self, words: &mut Words<'_>) {
        let epoch = words::message("5:0").at;
        let resumed = resumed(words);
        self.connect(words);
        let (now, silent) = (self.now, self.outputs());
        self.turn(|machine, settings, out| {
            machine.on_opened(epoch, out);
            machine.on_session_ready(now, &resumed, settings, out);
        });
        assert!(silent.iter().all(|line| !line.contains("close")), "{silent:?}");
        let lines = self.outputs().into_iter().filter(|line| !line.starts_with("send CONNACK"));
        lines.for_each(|line| self.say(line));
        assert_eq!(self.connection.state(), State::Open);
    }

    fn ready(&mut self, words: &mut Words<'_>) {
        let (now, resumed) = (self.now, resumed(words));
        self.turn(|machine, settings, out| machine.on_session_ready(now, &resumed, settings, out));
    }

    fn committed(&mut self, words: &mut Words<'_>) {
        let ids = |words: &mut Words<'_>| vec![words.id()];
        match words.word().unwrap() {
            "PUBLISH" => {
                let (qos, id) = (words.qos(), words.id());
                let is_heard = !words.flag("unheard");
                self.turn(|machine, _, out| machine.on_publish_committed(qos, id, is_heard, out));
            }
            "MessageReleased" => {
                let ids = ids(words);
                self.turn(|machine, _, out| machine.on_release_committed(&ids, out));
            }
            "DeliveryStarted" => {
                let id = words.id();
                self.turn(|machine, _, _| machine.on_started_committed(id));
            }
            "DeliveryReceived" => {
                let ids = ids(words);
                self.turn(|machine, _, out| machine.on_received_committed(&ids, out));
            }
            "Subscribed" => self.turn(|machine, _, out| machine.on_subscribe_committed(out)),
            "Unsubscribed" => {
                let existed = words.rest();
                self.turn(|machine, _, out| {
                    let existed =
                        |filter: &_| existed.iter().any(|text| format!("{filter}") == **text);
                    machine.on_unsubscribe_committed(existed, out);
                });
            }
            other => panic!("no event of a client: {other}"),
        }
    }

    fn deliver(&mut self, words: &mut Words<'_>) {
        let identifiers: Vec<u32> = words
            .text("identifiers")
            .map(|list| list.split(',').map(|text| text.parse().unwrap()).collect())
            .unwrap_or_default();
        let padding = "x".repeat(words.number("bytes").unwrap_or(1));
        let delivery = Delivery {
            qos: words.qos(),
            retain: words.flag("retain"),
            topic: words.text("topic").unwrap_or("t"),
            message_expiry_interval: words.number("expiry"),
            identifiers: &identifiers,
            properties: &[],
            payload: words.text("payload").unwrap_or(&padding).as_bytes(),
            message: words.message(),
        };
        let has_room =
            delivery.qos == QoS::AtMostOnce || self.connection.has_room_for(delivery.message);
        if !has_room {
            return self.say("no room");
        }
        if delivery.qos > QoS::AtMostOnce && self.connection.is_under_way(delivery.message) {
            return self.say("under way");
        }
        match self.turn(|machine, _, out| machine.deliver(&delivery, out)) {
            Handed::Sent => {}
            Handed::Starting(id) => self.say(format!("starting {id}")),
            Handed::TooLarge => self.say("too large"),
        }
    }

    /// So many messages of QoS 1, each acknowledged before the next.
    fn cycle(&mut self, words: &mut Words<'_>) {
        let count: u32 = words.word().unwrap().parse().unwrap();
        for _ in 0..count {
            self.command("deliver 8:0 qos=1");
            let sent = self.outputs().pop().unwrap();
            let id = sent.split_whitespace().find_map(|word| word.strip_prefix("id=")).unwrap();
            self.command(&format!("PUBACK {id}"));
        }
    }

    /// Says what the machine answers to a question.
    fn ask(&mut self, words: &mut Words<'_>) {
        let connection = &self.connection;
        let answer = match words.word().unwrap() {
            "state" => format!("{:?}", connection.state()),
            "takes_input" => connection.takes_input().to_string(),
            "is_persistent" => connection.is_persistent().to_string(),
            "has_room" => connection.has_room().to_string(),
            "is_resumed" => connection.is_resumed(words.message()).to_string(),
            "upto" => machine::text(&connection.delivered_upto()),
            "unlogged" => connection.unlogged_progress().to_string(),
            "unlogged_shared" => connection.unlogged_shared().to_string(),
            "publishes_again" => match connection.publishes_again(self.now) {
                Some(at) => format!("in {} ms", at.since(self.now).as_millis()),
                None => "now".to_owned(),
            },
            "epoch" => connection.epoch().to_string(),
            "silent_until" => match connection.silent_until(&self.settings) {
                None => "for ever".to_owned(),
                Some(at) => {
                    let seconds = at.since(Timestamp::from_secs(1000)).as_secs_f64();
                    format!("{seconds} s")
                }
            },
            other => panic!("nobody answers {other}"),
        };
        self.say(answer);
    }

    fn packet(&mut self, name: &str, words: &mut Words<'_>) {
        let ack = |words: &mut Words<'_>| {
            Ack::new(words.id(), words.reason().unwrap_or(ReasonCode::Success))
        };
        match name {
            "CONNECT" => self.connect(words),
            "CONNACK" => {
                self.take(&Packet::ConnAck(Box::new(ConnAck::new(false, ReasonCode::Success))));
            }
            "PUBLISH" => self.publish(words),
            "PUBACK" => self.take(&Packet::PubAck(ack(words))),
            "PUBREC" => self.take(&Packet::PubRec(ack(words))),
            "PUBREL" => self.take(&Packet::PubRel(ack(words))),
            "PUBCOMP" => self.take(&Packet::PubComp(ack(words))),
            "SUBSCRIBE" => self.subscribe(words),
            "SUBACK" => self.take(&Packet::SubAck(suback(words))),
            "UNSUBSCRIBE" => {
                let user_properties = user_properties(words);
                let (packet_id, filters) = (words.id(), words.rest());
                self.take(&Packet::Unsubscribe(Unsubscribe {
                    packet_id,
                    user_properties,
                    filters,
                }));
            }
            "UNSUBACK" => self.take(&Packet::UnsubAck(suback(words))),
            "PINGREQ" => self.take(&Packet::PingReq),
            "PINGRESP" => self.take(&Packet::PingResp),
            "DISCONNECT" => {
                let interval = words.number("expiry");
                let mut disconnect = Disconnect::new(words.reason().unwrap_or(ReasonCode::Success));
                disconnect.session_expiry_interval = interval;
                self.take(&Packet::Disconnect(disconnect));
            }
            "AUTH" => self.take(&Packet::Auth(Auth {
                reason: ReasonCode::ReAuthenticate,
                authentication_method: Some("m"),
                authentication_data: None,
                reason_string: None,
                user_properties: Vec::new(),
            })),
            other => panic!("no command: {other}"),
        }
    }

    /// A driver asks before it hands a packet over.
    fn take(&mut self, packet: &Packet<'_>) {
        if !self.connection.takes_input() {
            return self.say("not taken");
        }
        let now = self.now;
        self.turn(|machine: &mut Connection, settings, out| {
            if let Packet::Connect(connect) = packet
                && machine.state() == State::Connecting
            {
                out.version = connect.version;
            }
            machine.handle(now, packet, settings, out);
        });
    }

    fn connect(&mut self, words: &mut Words<'_>) {
        let version = match (words.flag("v31"), words.flag("v3")) {
            (true, _) => ProtocolVersion::V31,
            (_, true) => ProtocolVersion::V311,
            _ => ProtocolVersion::V5,
        };
        let will = words.text("will").map(|will| {
            let (topic, payload) = will.split_once(':').unwrap();
            Will {
                topic,
                payload: payload.as_bytes(),
                qos: QoS::from_bits(words.number("will_qos").unwrap_or(0)).unwrap(),
                retain: words.flag("will_retain"),
                delay_interval: words.number("will_delay").unwrap_or(0),
                message_expiry_interval: None,
                forwarded: ForwardedProperties::default(),
            }
        });
        self.take(&Packet::Connect(Box::new(Connect {
            version,
            clean_start: words.flag("clean"),
            keep_alive: words.number("keep_alive").unwrap_or(0),
            client_id: words.text("client").unwrap_or("c"),
            username: words.text("username"),
            password: words.text("password").map(str::as_bytes),
            will,
            session_expiry_interval: words.number("expiry"),
            receive_maximum: words.number("receive_maximum"),
            maximum_packet_size: words.number("packet_bytes"),
            topic_alias_maximum: words.number("alias_maximum"),
            request_response_information: words.flag("wants_response").then_some(true),
            request_problem_information: words.flag("wants_reasons").then_some(true),
            authentication_method: words.text("auth"),
            authentication_data: None,
            user_properties: user_properties(words),
        })));
    }

    fn publish(&mut self, words: &mut Words<'_>) {
        let identifiers = words.number("identifier");
        self.take(&Packet::Publish(Publish {
            dup: words.flag("dup"),
            qos: words.qos(),
            retain: words.flag("retain"),
            topic: words.text("topic").unwrap_or("t"),
            packet_id: words.number("id").and_then(PacketId::new),
            message_expiry_interval: words.number("expiry"),
            topic_alias: words.number("alias"),
            subscription_identifiers: identifiers.into_iter().collect(),
            forwarded: forwarded(words),
            payload: words.text("payload").unwrap_or("x").as_bytes(),
        }));
    }

    fn subscribe(&mut self, words: &mut Words<'_>) {
        let subscription_identifier = words.number("identifier");
        let user_properties = user_properties(words);
        let packet_id = words.id();
        let filters = words.rest().into_iter().map(filter).collect();
        self.take(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_identifier,
            user_properties,
            filters,
        }));
    }
}

/// `user_properties=NUMBER`
fn user_properties(words: &mut Words<'_>) -> UserProperties<'static> {
    vec![("name", "value"); words.number("user_properties").unwrap_or(0)]
}

fn forwarded(words: &mut Words<'_>) -> ForwardedProperties<'static> {
    let properties = user_properties(words);
    let properties =
        properties.into_iter().map(|(name, value)| ForwardedProperty::UserProperty(name, value));
    ForwardedProperties::new(properties).unwrap()
}

/// `FILTER:QOS+nl+rap+rh1`
fn filter(text: &str) -> (&str, SubscriptionOptions) {
    let (filter, rest) = text.rsplit_once(':').unwrap();
    let mut options = SubscriptionOptions::default();
    for option in rest.split('+') {
        match option {
            "nl" => options.no_local = true,
            "rap" => options.retain_as_published = true,
            "rh1" => options.retain_handling = RetainHandling::SendIfNew,
            "rh2" => options.retain_handling = RetainHandling::DoNotSend,
            qos => options.qos = QoS::from_bits(qos.parse().unwrap()).unwrap(),
        }
    }
    (filter, options)
}

fn suback(words: &mut Words<'_>) -> SubAck<'static> {
    SubAck {
        packet_id: words.id(),
        reason_string: None,
        user_properties: Vec::new(),
        reasons: vec![ReasonCode::Success],
    }
}

/// `present inbound=1,2 cursor=4:0 outstanding=3=4:0/published,...`
fn resumed(words: &mut Words<'_>) -> Resumed {
    let ids = |list: &str| list.split(',').map(|id| id.parse().unwrap()).collect();
    let outstanding = |text: &str| {
        let (id, rest) = text.split_once('=').unwrap();
        let (message, phase) = rest.rsplit_once('/').unwrap();
        Outstanding {
            packet_id: id.parse().unwrap(),
            message: words::message(message),
            phase: match phase {
                "published" => DeliveryPhase::Published,
                "received" => DeliveryPhase::Received,
                other => panic!("no phase: {other}"),
            },
        }
    };
    Resumed {
        session_present: words.flag("present"),
        inbound: words.text("inbound").map(ids).unwrap_or_default(),
        cursor: words.text("cursor").map(words::message).unwrap_or_default(),
        outstanding: words
            .text("outstanding")
            .map(|list| list.split(',').map(outstanding).collect())
            .unwrap_or_default(),
    }
}
