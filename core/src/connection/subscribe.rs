//! SUBSCRIBE and UNSUBSCRIBE.

use hashbrown::{HashMap, HashSet};

use crate::access::Action;
use crate::connection::refusal::{Refusal, Request};
use crate::connection::{Awaiting, Connection, Outputs, Settings, State};
use crate::event::{Event, Subscription};
use crate::identity::PacketId;
use crate::packet::{
    Packet, ProtocolVersion, QoS, RetainHandling, SubAck, Subscribe, SubscriptionOptions,
    Unsubscribe,
};
use crate::reason::ReasonCode;
use crate::topic::{self, TopicFilter};

/// Subscriptions, how many of them are shared, and what their Topic Filters count
/// ([`topic::filter_bytes`]).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Added {
    all: usize,
    shared: usize,
    bytes: usize,
}

impl Added {
    fn one(filter: &TopicFilter) -> Self {
        let shared = usize::from(filter.is_shared());
        Self { all: 1, shared, bytes: topic::filter_bytes(filter) }
    }

    fn and(self, other: Self) -> Self {
        let (all, shared) = (self.all + other.all, self.shared + other.shared);
        Self { all, shared, bytes: self.bytes + other.bytes }
    }
}

/// Places of wildcards in which the Topic Filters of one SUBSCRIBE that asks for what is retained may
/// differ. Filters with wildcards in the same places match no topic together, so this is how often
/// one retained message may be looked at.
const SHAPES_MAX: usize = 32;

/// What one SUBSCRIBE asks for, each only once: a packet of 1 MiB that says `#` 250,000 times would
/// else have all that is retained looked through as often.
#[derive(Default)]
struct Asked<'a> {
    /// In their order; none where it was said again.
    list: Vec<Option<Subscription>>,
    places: HashMap<(&'a str, SubscriptionOptions), usize>,
    /// The filters with wildcards, by the places of these.
    shapes: HashSet<Vec<u8>>,
}

impl<'a> Asked<'a> {
    fn add(&mut self, filter: &'a str, subscription: Subscription) {
        self.places.insert((filter, subscription.options), self.list.len());
        self.list.push(Some(subscription));
    }

    /// Whether what is retained may be looked through for `filter`, too.
    fn may_look_through(&mut self, filter: &str) -> bool {
        if !filter.contains(['+', '#']) {
            return true;
        }
        let level = |level: &str| match level {
            "+" => b'+',
            "#" => b'#',
            _ => b'/',
        };
        let shape: Vec<u8> = filter.split('/').map(level).collect();
        if self.shapes.len() == SHAPES_MAX && !self.shapes.contains(&shape) {
            return false;
        }
        self.shapes.insert(shape);
        true
    }

    /// Whether the same was granted before. It counts where it was said last. `[MQTT-3.8.4-5]`
    fn repeat(&mut self, filter: &'a str, options: SubscriptionOptions) -> bool {
        // Who asks for what is retained only if the subscription is new gets nothing twice.
        if options.retain_handling == RetainHandling::SendIfNew {
            return false;
        }
        let Some(place) = self.places.get_mut(&(filter, options)) else { return false };
        let end = self.list.len();
        let before = std::mem::replace(place, end);
        let subscription = self.list[before].take();
        self.list.push(subscription);
        true
    }
}

impl Connection {
    pub(super) fn on_subscribe(
        &mut self,
        subscribe: &Subscribe<'_>,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        // [MQTT-3.8.3-4]
        if subscribe.filters.iter().any(|(filter, options)| {
            options.no_local && TopicFilter::new(filter).is_ok_and(|filter| filter.is_shared())
        }) {
            return self.fail(ReasonCode::ProtocolError, out);
        }
        // [MQTT311-4.8.0-1]: 3.1.1 has no code that tells a malformed filter from one refused.
        if self.version != ProtocolVersion::V5
            && subscribe.filters.iter().any(|(filter, _)| TopicFilter::new(filter).is_err())
        {
            return self.drop_connection(ReasonCode::TopicFilterInvalid, out);
        }
        let codes = vec![ReasonCode::Success; subscribe.filters.len()];
        if !self.is_taken(&Packet::SubAck(answer(subscribe.packet_id, codes))) {
            return self.fail(ReasonCode::PacketTooLarge, out);
        }
        let mut subscriptions = Asked::default();
        let mut text = None;
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let held = Added {
            all: out.subscriptions(),
            shared: out.shared_subscriptions(),
            bytes: out.subscription_bytes(),
        };
        let held = held.and(self.subscriptions_under_way());
        let mut added = Added::default();
        for (filter, options) in &subscribe.filters {
            if subscriptions.repeat(filter, *options) {
                reasons.push(granted_code(options.qos));
                continue;
            }
            let granted = check(subscribe, filter, settings).and_then(|filter| {
                if !self.may(settings, Action::Subscribe, filter.as_str()) {
                    return Err(Refusal::NotAuthorized);
                }
                // A Shared Subscription gets nothing that is retained (section 4.8.2).
                let is_greeted =
                    options.retain_handling != RetainHandling::DoNotSend && !filter.is_shared();
                if is_greeted && out.is_unread() {
                    return Err(Refusal::Unread);
                }
                if is_greeted && !subscriptions.may_look_through(filter.as_str()) {
                    return Err(Refusal::Wildcards);
                }
                if out.is_subscribed(&filter) {
                    return Ok(filter);
                }
                let with = added.and(Added::one(&filter));
                let sum = held.and(with);
                let is_over_shared =
                    filter.is_shared() && sum.shared > settings.shared_subscriptions_max;
                if sum.all > settings.subscriptions_max || is_over_shared {
                    return Err(Refusal::Subscriptions);
                }
                if sum.bytes > settings.subscription_bytes_max {
                    return Err(Refusal::SubscriptionBytes);
                }
                added = with;
                Ok(filter)
            });
            match granted {
                Ok(granted) => {
                    reasons.push(granted_code(options.qos));
                    let identifier = subscribe.subscription_identifier;
                    let options = *options;
                    let subscription = Subscription { filter: granted, options, identifier };
                    subscriptions.add(filter, subscription);
                }
                Err(refusal) => {
                    out.refused(Request::Subscribe, refusal);
                    let (reason, why) = refusal.told(Request::Subscribe, settings);
                    reasons.push(reason);
                    text = text.or(why);
                }
            }
        }
        let packet_id = subscribe.packet_id;
        let subscriptions: Vec<_> = subscriptions.list.into_iter().flatten().collect();
        if subscriptions.is_empty() {
            return self.send_suback(packet_id, reasons, text, out);
        }
        self.awaiting.push_back(Awaiting::Subscribe { packet_id, reasons, text, added });
        out.append(Event::Subscribed { subscriptions });
    }

    /// SUBACK with the Reason String `text`, if the client wants one and takes so large a packet.
    /// `[MQTT-3.9.2-1]`
    fn send_suback(
        &self,
        packet_id: PacketId,
        reasons: Vec<ReasonCode>,
        text: Option<&'static str>,
        out: &mut impl Outputs,
    ) {
        let mut suback = answer(packet_id, reasons);
        suback.reason_string = self.reason_string(text);
        if suback.reason_string.is_some() && !self.is_taken(&Packet::SubAck(suback.clone())) {
            suback.reason_string = None;
        }
        out.send(&Packet::SubAck(suback));
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        unsubscribe: &Unsubscribe<'_>,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        let codes = vec![ReasonCode::Success; unsubscribe.filters.len()];
        if !self.is_taken(&Packet::UnsubAck(answer(unsubscribe.packet_id, codes))) {
            return self.fail(ReasonCode::PacketTooLarge, out);
        }
        let filters: Vec<_> = unsubscribe
            .filters
            .iter()
            .map(|filter| {
                if unsubscribe.user_properties.len() > settings.user_properties_max {
                    // UNSUBACK knows no code for it (section 3.11.3).
                    out.refused(Request::Subscribe, Refusal::UserProperties);
                    return Err(ReasonCode::ImplementationSpecificError);
                }
                TopicFilter::new(filter).map_err(|_| ReasonCode::TopicFilterInvalid)
            })
            .collect();
        let valid: Vec<_> = filters.iter().flatten().cloned().collect();
        // 3.1.1 has no codes in UNSUBACK: an invalid filter can only be answered by closing.
        if self.version != ProtocolVersion::V5 && valid.len() < filters.len() {
            return self.drop_connection(ReasonCode::TopicFilterInvalid, out);
        }
        let packet_id = unsubscribe.packet_id;
        if valid.is_empty() {
            let reasons = filters.into_iter().filter_map(Result::err).collect();
            return out.send(&Packet::UnsubAck(answer(packet_id, reasons)));
        }
        self.awaiting.push_back(Awaiting::Unsubscribe { packet_id, filters });
        out.append(Event::Unsubscribed { filters: valid });
    }

    /// The oldest `Subscribed` of this connection was committed and is applied here: sends SUBACK.
    pub fn on_subscribe_committed(&mut self, out: &mut impl Outputs) {
        if self.state != State::Open {
            return;
        }
        if let Some(Awaiting::Subscribe { packet_id, reasons, text, .. }) =
            self.awaiting.pop_front()
        {
            self.send_suback(packet_id, reasons, text, out);
        }
    }

    /// New subscriptions whose commit is awaited.
    fn subscriptions_under_way(&self) -> Added {
        self.awaiting.iter().fold(Added::default(), |all, awaiting| match awaiting {
            Awaiting::Subscribe { added, .. } => all.and(*added),
            Awaiting::Unsubscribe { .. } => all,
        })
    }

    /// The oldest `Unsubscribed` of this connection was committed: sends UNSUBACK. `existed` says
    /// of a filter whether there was such a subscription.
    pub fn on_unsubscribe_committed(
        &mut self,
        mut existed: impl FnMut(&TopicFilter) -> bool,
        out: &mut impl Outputs,
    ) {
        if self.state != State::Open {
            return;
        }
        let Some(Awaiting::Unsubscribe { packet_id, filters }) = self.awaiting.pop_front() else {
            return;
        };
        let reasons = filters
            .into_iter()
            .map(|filter| match filter {
                Ok(filter) if existed(&filter) => ReasonCode::Success,
                Ok(_) => ReasonCode::NoSubscriptionExisted,
                Err(reason) => reason,
            })
            .collect();
        out.send(&Packet::UnsubAck(answer(packet_id, reasons)));
    }
}

fn answer(packet_id: PacketId, reasons: Vec<ReasonCode>) -> SubAck<'static> {
    SubAck { packet_id, reason_string: None, user_properties: Vec::new(), reasons }
}

fn granted_code(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}

fn check(
    subscribe: &Subscribe<'_>,
    filter: &str,
    settings: &Settings,
) -> Result<TopicFilter, Refusal> {
    let filter = TopicFilter::new(filter).map_err(|_| Refusal::Topic)?;
    if !settings.takes_sessions {
        // A subscription grows the log and the views like a session does.
        return Err(settings.shortage);
    }
    if subscribe.user_properties.len() > settings.user_properties_max {
        return Err(Refusal::UserProperties);
    }
    if topic::levels(filter.pattern()) > settings.topic_levels_max {
        return Err(Refusal::Topic);
    }
    Ok(filter)
}
