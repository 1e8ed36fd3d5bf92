//! A little language for events, and views as text.
//!
//! A line is a batch; its events are separated by `;`. References are `INDEX:ORDINAL[.NTH]`.
//!
//! ```text
//! time SECONDS                       open C [expiry=N] [clean] [will=TOPIC] [delay=N] [node=N]
//! close C [will] [expiry=N]          expire C
//! sub C FILTER [qos=N] [nl] [rap] [rh=N] [id=N]        unsub C FILTER
//! pub C|- TOPIC PAYLOAD [qos=N] [retain] [id=N] [expiry=N] [cause=OFFSET]
//! release C ID..                     start C ID=REF..
//! receive C ID..                     progress C REF [ID=REF[!]]..      (! is received)
//! drop C REF REF full|expired|large|purged             node|lost N START
//! settle C REF..                     sdrop FILTER OFFSET [expired] (groups: a REF is OFFSET.gNUMBER)
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use ledgermq_core::access::{self, RuleList};
use ledgermq_core::event::{
    BatchBuilder, DeliveryPhase, DeliveryRef, DropReason, Event, MessagePublished, NEVER_EXPIRES,
    Outstanding, SessionOpened, Subscription, WillMessage,
};
use ledgermq_core::identity::{ClientId, PacketId};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::{ProtocolVersion, QoS, RetainHandling, SubscriptionOptions};
use ledgermq_core::reason::ReasonCode;
use ledgermq_core::topic::TopicFilter;
use ledgermq_log::CommittedBatch;
use ledgermq_log::testing::History;
use ledgermq_projections::notice::{Notice, SharedDelivery};
use ledgermq_projections::views::due::Due;
use ledgermq_projections::views::owed::{Owed, OwedSource};
use ledgermq_projections::views::presence::Presence;
use ledgermq_projections::views::session::Session;
use ledgermq_projections::views::{Limits, Views};

/// Where the tests' time begins, in seconds.
pub(crate) const EPOCH: u64 = 1_700_000_000;

/// Folds the lines of `given` and compares the views with `expected`.
#[track_caller]
pub(crate) fn check(given: &str, expected: &str) -> World {
    let mut world = World::default();
    world.fold(given);
    assert_eq!(world.table().trim(), trim(expected).trim());
    world
}

/// The lines of `text` without their indentation.
pub(crate) fn trim(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// Events in the making and the views that they make.
pub(crate) struct World {
    pub(crate) history: History,
    pub(crate) views: Views,
    pub(crate) notices: Vec<Notice>,
    pub(crate) batches: Vec<Arc<CommittedBatch>>,
    epochs: BTreeMap<String, (Offset, u32)>,
}

impl Default for World {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            history: History::default(),
            views: Views::new(limits),
            notices: Vec::new(),
            batches: Vec::new(),
            epochs: BTreeMap::new(),
        }
    }

    pub(crate) fn fold(&mut self, given: &str) {
        for line in given.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(seconds) = line.strip_prefix("time ") {
                let seconds = seconds.parse::<u64>().expect("seconds");
                self.history.set_time(Timestamp::from_secs(EPOCH + seconds));
                continue;
            }
            let mut batch = self.history.builder();
            for event in line.split(';') {
                self.write(event, &mut batch);
            }
            self.commit(&mut batch);
        }
    }

    pub(crate) fn commit(&mut self, batch: &mut BatchBuilder) {
        let batch = self.history.commit(batch);
        self.views.apply(&batch, &mut self.notices).expect("it can be folded");
        self.batches.push(batch);
    }

    /// Appends what is due at `seconds`, as the driver does, and returns it as text.
    pub(crate) fn due(&mut self, seconds: u64) -> String {
        let now = Timestamp::from_secs(EPOCH + seconds);
        let mut due = Vec::new();
        self.views.due(now, 1_000, &mut due);
        self.history.set_time(now);
        let mut batch = self.history.builder();
        due.iter().for_each(|due| due.write(&mut batch));
        if !batch.is_empty() {
            self.commit(&mut batch);
        }
        due.iter().map(due_text).collect::<Vec<_>>().join("\n")
    }

    /// The notices since the last call, as text.
    pub(crate) fn notices(&mut self) -> String {
        self.notices.drain(..).map(|notice| notice_text(&notice)).collect::<Vec<_>>().join("\n")
    }

    /// Sessions and retained messages as text.
    pub(crate) fn table(&self) -> String {
        table(&self.views)
    }

    fn write(&mut self, event: &str, batch: &mut BatchBuilder) {
        let words: Vec<&str> = event.split_whitespace().collect();
        let (verb, client, rest) = (words[0], words[1], &words[2..]);
        let options = Options(rest);
        let known = self.epochs.get(client).copied();
        let id: ClientId = client.into();
        let session = known.map(|(epoch, _)| (&id, epoch));
        let event = match verb {
            "open" => {
                let at = Offset::new(self.history.last_index() + 1, batch.len());
                let opened = opened(client, &options);
                self.epochs.insert(client.into(), (at, opened.session_expiry_interval));
                batch.push(None, None, &Event::SessionOpened(Box::new(opened)));
                return;
            }
            "node" | "lost" => {
                let (node, start) =
                    (client.parse().expect("node"), rest[0].parse().expect("start"));
                let event = match verb {
                    "node" => Event::NodeStarted { node, start },
                    _ => Event::NodeLost { node, start },
                };
                batch.push(None, None, &event);
                return;
            }
            "rules" => {
                let rules = rules(client);
                batch.push(None, None, &Event::AccessRulesReplaced { rules });
                return;
            }
            "sdrop" => {
                let (group, upto) = (filter(client), rest[0].parse().expect("offset"));
                let is_expired = options.has("expired");
                let reason = if is_expired { DropReason::Expired } else { DropReason::QueueFull };
                batch.push(None, None, &Event::SharedDropped { group, upto, reason });
                return;
            }
            "pub" => {
                let cause = options.get("cause").map(|cause| cause.parse().expect("offset"));
                batch.publish(session, cause, &message(rest, &options));
                return;
            }
            "close" => Event::SessionClosed {
                reason: if options.has("will") {
                    ReasonCode::KeepAliveTimeout
                } else {
                    ReasonCode::Success
                },
                publish_will: options.has("will"),
                session_expiry_interval: options
                    .number("expiry")
                    .unwrap_or(known.map_or(0, |(_, interval)| interval)),
            },
            "expire" => Event::SessionExpired,
            "sub" => Event::Subscribed { subscriptions: vec![subscription(rest[0], &options)] },
            "unsub" => Event::Unsubscribed { filters: vec![filter(rest[0])] },
            "release" => Event::MessageReleased { packet_ids: packet_ids(rest) },
            "settle" => Event::SharedSettled {
                deliveries: rest.iter().map(|word| reference(word)).collect(),
            },
            "receive" => Event::DeliveryReceived { packet_ids: packet_ids(rest) },
            "start" => Event::DeliveryStarted {
                deliveries: rest.iter().map(|pair| delivery(pair)).collect(),
            },
            "progress" => Event::DeliveryProgressed {
                upto: reference(rest[0]),
                outstanding: rest[1..].iter().map(|pair| outstanding(pair)).collect(),
            },
            "drop" => Event::MessageDropped {
                from: reference(rest[0]),
                upto: reference(rest[1]),
                reason: match rest[2] {
                    "full" => DropReason::QueueFull,
                    "expired" => DropReason::Expired,
                    "large" => DropReason::TooLarge,
                    "rights" => DropReason::NotAuthorized,
                    _ => DropReason::Purged,
                },
            },
            other => unreachable!("what is {other}?"),
        };
        batch.push(session, None, &event);
    }
}

/// `open`, or patterns for everyone: `read:a/#,deny:a/b`.
fn rules(text: &str) -> Option<RuleList> {
    let lines = text.split(',').map(|rule| format!("pattern {}\n", rule.replacen(':', " ", 1)));
    (text != "open").then(|| access::parse(&lines.collect::<String>()).expect("rules"))
}

/// Sessions and retained messages as text.
pub(crate) fn table(views: &Views) -> String {
    let mut text = String::new();
    for session in views.sessions().iter(None) {
        session_line(views, session, &mut text);
    }
    for message in views.retained().iter(None) {
        let payload = String::from_utf8_lossy(&message.payload);
        let _ = writeln!(text, "{} = {payload}", message.topic);
    }
    text
}

fn session_line(views: &Views, session: &Session, text: &mut String) {
    let presence = match session.presence() {
        Presence::Online { .. } => "online",
        Presence::Offline { .. } => "offline",
    };
    let _ = write!(text, "{} {} {presence}", session.client(), session.epoch());
    if let Some(at) = session.expires() {
        let _ = write!(text, " until {}", at.0 / 1_000_000 - EPOCH);
    }
    for held in session.subscriptions() {
        let _ = write!(text, ", {} qos {}", held.filter, held.options.qos as u8);
    }
    if !session.inbound().is_empty() {
        let _ = write!(text, ", inbound {:?}", session.inbound());
    }
    if session.cursor() != DeliveryRef::default() {
        let _ = write!(text, ", upto {}", ref_text(session.cursor()));
    }
    for held in session.outstanding() {
        let mark = if held.phase == DeliveryPhase::Received { "!" } else { "" };
        let _ = write!(text, ", {}={}{mark}", held.packet_id, ref_text(held.message));
    }
    let owed = owed(views, session.client(), DeliveryRef::default());
    assert_eq!(owed.len(), session.owed_messages());
    if !owed.is_empty() {
        let owed: Vec<String> = owed.iter().map(owed_text).collect();
        let _ = write!(text, ", owed {} ({} bytes)", owed.join(" "), session.owed_bytes());
    }
    text.push('\n');
}

pub(crate) fn owed(views: &Views, client: &str, after: DeliveryRef) -> Vec<Owed> {
    let mut out = Vec::new();
    views.owed(client, after, usize::MAX, &mut out);
    out
}

fn owed_text(owed: &Owed) -> String {
    let retain = if owed.retain { "r" } else { "" };
    let source = match &owed.source {
        OwedSource::Log | OwedSource::Kept => String::new(),
        OwedSource::Answer(message) => format!("={}", String::from_utf8_lossy(&message.payload)),
    };
    format!("{}/{}{retain}{source}", ref_text(owed.message), owed.qos as u8)
}

fn due_text(due: &Due) -> String {
    match due {
        Due::Will { cause, session, message } => {
            let delayed = if session.is_some() { " delayed" } else { "" };
            format!("will {} of {cause}{delayed}", message.topic)
        }
        Due::SessionExpired { session: (client, _) } => format!("expired {client}"),
        Due::MessageDropped { session: (client, _), from, upto, reason } => {
            format!("dropped {client} {} {} {reason:?}", ref_text(*from), ref_text(*upto))
        }
        Due::SharedDropped { group, upto, reason } => format!("dropped {group} {upto} {reason:?}"),
    }
}

fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::SessionReady { epoch, client, state, .. } => format!(
            "ready {client} {epoch} present={} subs={} inbound={} outstanding={} upto={} owed={}{}",
            state.session_present,
            state.subscriptions.len(),
            state.inbound.len(),
            state.outstanding.len(),
            ref_text(state.cursor),
            state.owed,
            shared_text(&state.shared),
        ),
        Notice::Shared { epoch, index, deliveries, .. } => {
            format!("shared {epoch} by {index}{}", shared_text(deliveries))
        }
        Notice::Retained { epoch, at, messages, .. } => {
            let messages = messages.iter().map(|held| {
                let ids = &held.identifiers;
                format!(" {}:{}/{}{ids:?}", held.nth, held.message.topic, held.qos as u8)
            });
            format!("retained {epoch} at {at}{}", messages.collect::<String>())
        }
        Notice::SessionEnded { client, epoch, reason, .. } => {
            format!("ended {client} {epoch} {reason:?}")
        }
    }
}

/// Messages of groups: reference, QoS, RETAIN, identifier.
pub(crate) fn shared_text(deliveries: &[SharedDelivery]) -> String {
    let each = deliveries.iter().map(|given| {
        let retain = if given.retain { "r" } else { "" };
        let identifier = given.identifier.map(|id| format!("#{id}")).unwrap_or_default();
        format!(" {}/{}{retain}{identifier}", ref_text(given.message), given.qos as u8)
    });
    each.collect()
}

pub(crate) fn ref_text(message: DeliveryRef) -> String {
    if let Some(group) = message.group() {
        format!("{}.g{group}", message.at)
    } else if message.nth == 0 {
        message.at.to_string()
    } else {
        format!("{}.{}", message.at, message.nth)
    }
}

pub(crate) fn reference(text: &str) -> DeliveryRef {
    let (at, nth) = text.split_once('.').unwrap_or((text, "0"));
    let at = at.parse().expect("offset");
    match nth.strip_prefix('g') {
        Some(group) => DeliveryRef::shared(at, group.parse().expect("group")),
        None => DeliveryRef { at, nth: nth.parse().expect("nth") },
    }
}

fn packet_ids(words: &[&str]) -> Vec<PacketId> {
    words.iter().map(|word| word.parse().expect("packet id")).collect()
}

fn delivery(pair: &str) -> (PacketId, DeliveryRef) {
    let (id, message) = pair.split_once('=').expect("ID=REF");
    (id.parse().expect("packet id"), reference(message))
}

fn outstanding(pair: &str) -> Outstanding {
    let is_received = pair.ends_with('!');
    let (packet_id, message) = delivery(pair.trim_end_matches('!'));
    let phase = if is_received { DeliveryPhase::Received } else { DeliveryPhase::Published };
    Outstanding { message, packet_id, phase }
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).expect("a filter")
}

fn subscription(text: &str, options: &Options<'_>) -> Subscription {
    let retain_handling = match options.number("rh") {
        Some(1) => RetainHandling::SendIfNew,
        Some(2) => RetainHandling::DoNotSend,
        _ => RetainHandling::Send,
    };
    Subscription {
        filter: filter(text),
        options: SubscriptionOptions {
            qos: options.qos(),
            no_local: options.has("nl"),
            retain_as_published: options.has("rap"),
            retain_handling,
        },
        identifier: options.number("id"),
    }
}

fn message<'a>(words: &[&'a str], options: &Options<'a>) -> MessagePublished<'a> {
    let payload = words.get(1).filter(|word| !word.contains('=')).copied().unwrap_or("");
    MessagePublished {
        qos: options.qos(),
        retain: options.has("retain"),
        packet_id: options.get("id").map(|id| id.parse().expect("packet id")),
        topic: words[0],
        message_expiry_interval: options.number("expiry"),
        properties: &[],
        payload: if payload == "empty" { &[] } else { payload.as_bytes() },
    }
}

fn opened(client: &str, options: &Options<'_>) -> SessionOpened {
    let will = options.get("will").map(|topic| WillMessage {
        topic: topic.to_owned(),
        payload: b"gone".to_vec(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: options.number("delay").unwrap_or(0),
        message_expiry_interval: None,
        properties: Vec::new(),
    });
    let interval = match options.get("expiry") {
        Some("never") => NEVER_EXPIRES,
        _ => options.number("expiry").unwrap_or(0),
    };
    SessionOpened {
        client: client.into(),
        username: None,
        is_proven: false,
        node: options.number("node").unwrap_or(1).into(),
        protocol: ProtocolVersion::V5,
        clean_start: options.has("clean"),
        session_expiry_interval: interval,
        keep_alive: 60,
        peer: "192.0.2.1:5000".to_owned(),
        will,
    }
}

struct Options<'a>(&'a [&'a str]);

impl<'a> Options<'a> {
    fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.get(name).and_then(|number| number.parse().ok())
    }

    fn qos(&self) -> QoS {
        match self.number("qos") {
            Some(1) => QoS::AtLeastOnce,
            Some(2) => QoS::ExactlyOnce,
            _ => QoS::AtMostOnce,
        }
    }
}

/// A retained message of QoS 0.
pub(crate) fn retained_message<'a>(topic: &'a str, payload: &'a [u8]) -> MessagePublished<'a> {
    MessagePublished {
        qos: QoS::AtMostOnce,
        retain: true,
        packet_id: None,
        topic,
        message_expiry_interval: None,
        properties: &[],
        payload,
    }
}
