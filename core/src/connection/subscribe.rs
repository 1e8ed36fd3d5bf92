//! SUBSCRIBE and UNSUBSCRIBE.

use crate::access::Action;
use crate::connection::{Awaiting, Connection, Outputs, Settings, State};
use crate::event::{Event, Subscription};
use crate::identity::PacketId;
use crate::packet::{Packet, ProtocolVersion, QoS, SubAck, Subscribe, Unsubscribe};
use crate::reason::ReasonCode;
use crate::topic::{self, TopicFilter};

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
        let mut subscriptions = Vec::with_capacity(subscribe.filters.len());
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let under_way = out.subscriptions() + self.subscriptions_under_way();
        let mut added = 0;
        for (filter, options) in &subscribe.filters {
            let granted = check(filter, settings).and_then(|filter| {
                if !self.may(settings, Action::Subscribe, filter.as_str()) {
                    return Err(ReasonCode::NotAuthorized);
                }
                if out.is_subscribed(&filter) {
                    return Ok(filter);
                }
                if under_way + added >= settings.subscriptions_max {
                    return Err(ReasonCode::QuotaExceeded);
                }
                added += 1;
                Ok(filter)
            });
            reasons.push(match granted {
                Ok(_) => granted_code(options.qos),
                Err(reason) => reason,
            });
            if let Ok(filter) = granted {
                subscriptions.push(Subscription {
                    filter,
                    options: *options,
                    identifier: subscribe.subscription_identifier,
                });
            }
        }
        let packet_id = subscribe.packet_id;
        if subscriptions.is_empty() {
            return out.send(&Packet::SubAck(answer(packet_id, reasons)));
        }
        self.awaiting.push_back(Awaiting::Subscribe { packet_id, reasons, added });
        out.append(Event::Subscribed { subscriptions });
    }

    pub(super) fn on_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>, out: &mut impl Outputs) {
        let codes = vec![ReasonCode::Success; unsubscribe.filters.len()];
        if !self.is_taken(&Packet::UnsubAck(answer(unsubscribe.packet_id, codes))) {
            return self.fail(ReasonCode::PacketTooLarge, out);
        }
        let filters: Vec<_> = unsubscribe
            .filters
            .iter()
            .map(|filter| TopicFilter::new(filter).map_err(|_| ReasonCode::TopicFilterInvalid))
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
        if let Some(Awaiting::Subscribe { packet_id, reasons, .. }) = self.awaiting.pop_front() {
            out.send(&Packet::SubAck(answer(packet_id, reasons)));
        }
    }

    /// New subscriptions whose commit is awaited.
    fn subscriptions_under_way(&self) -> usize {
        let added = self.awaiting.iter().map(|awaiting| match awaiting {
            Awaiting::Subscribe { added, .. } => *added,
            Awaiting::Unsubscribe { .. } => 0,
        });
        added.sum()
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

fn check(filter: &str, settings: &Settings) -> Result<TopicFilter, ReasonCode> {
    let filter = TopicFilter::new(filter).map_err(|_| ReasonCode::TopicFilterInvalid)?;
    if !settings.takes_sessions {
        // A subscription grows the log and the views like a session does.
        return Err(ReasonCode::QuotaExceeded);
    }
    if filter.is_shared() {
        return Err(ReasonCode::SharedSubscriptionsNotSupported);
    }
    if topic::levels(filter.as_str()) > settings.topic_levels_max {
        return Err(ReasonCode::TopicFilterInvalid);
    }
    Ok(filter)
}
