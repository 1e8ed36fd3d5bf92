//! Subscriptions come and go; what they find retained.

use std::sync::Arc;

use ledgermq_core::access::{Action, Identity};
use ledgermq_core::event::{DeliveryRef, Subscription};
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::{QoS, RetainHandling};
use ledgermq_core::topic::TopicFilter;

use crate::notice::{Notice, RetainedDelivery};
use crate::views::Views;
use crate::views::dirty::Row;
use crate::views::fold::Place;
use crate::views::retained::RetainedMessage;
use crate::views::sessions::Slot;

/// Answers below which it does not matter that some stand there more than once.
const MERGED_MIN: usize = 1024;

/// A retained message with what the subscriptions that match it say.
struct Answer {
    /// That of the message, which need not be looked at to sort by it.
    offset: Offset,
    message: Arc<RetainedMessage>,
    granted: QoS,
    identifiers: Vec<u32>,
}

/// In the order in which they were published, each message once: with the highest QoS that was granted
/// for it and the identifiers of all subscriptions that brought it.
fn merged(mut answers: Vec<Answer>) -> Vec<Answer> {
    answers.sort_by_cached_key(|answer| answer.offset);
    answers.dedup_by(|again, first| {
        let is_same = again.offset == first.offset;
        if is_same {
            first.granted = first.granted.max(again.granted);
            for identifier in again.identifiers.drain(..) {
                if !first.identifiers.contains(&identifier) {
                    first.identifiers.push(identifier);
                }
            }
        }
        is_same
    });
    answers
}

impl Views {
    pub(super) fn subscribed(
        &mut self,
        place: &Place,
        slot: Slot,
        subscriptions: Vec<Subscription>,
        notices: &mut Vec<Notice>,
    ) {
        let (mut answers, mut merged_at) = (Vec::new(), MERGED_MIN);
        for subscription in subscriptions {
            self.subscribe(place, slot, subscription, &mut answers);
            // Filters that overlap must not gather what they have in common many times.
            if answers.len() > merged_at * 2 {
                answers = merged(answers);
                merged_at = answers.len().max(MERGED_MIN);
            }
        }
        let Some(session) = self.sessions.by_slot(slot) else { return };
        let (producer, epoch) = (session.head.producer, session.epoch());
        let messages = self.owe_answers(place, slot, merged(answers));
        notices.push(Notice::Retained { producer, epoch, at: place.at, messages });
    }

    pub(super) fn unsubscribed(&mut self, slot: Slot, filters: &[TopicFilter]) {
        for filter in filters {
            let Some(session) = self.sessions.by_slot_mut(slot) else { return };
            let is_persistent = session.is_persistent();
            let Some(old) = session.unsubscribe(filter) else { continue };
            self.counters.unsubscribed += 1;
            self.interest.remove(filter);
            self.dirty.touch(Row::Subscription(slot, filter.clone()));
            if filter.is_shared() {
                self.leave_group(slot, filter);
            } else if is_persistent {
                self.subscriptions.remove(slot, &old);
            }
        }
    }

    fn subscribe(
        &mut self,
        place: &Place,
        slot: Slot,
        subscription: Subscription,
        answers: &mut Vec<Answer>,
    ) {
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        let existed = session.subscribe(subscription.clone()).is_some();
        self.counters.subscribed += 1;
        if !existed {
            self.interest.add(&subscription.filter);
        }
        self.dirty.touch(Row::Subscription(slot, subscription.filter.clone()));
        if subscription.filter.is_shared() {
            // It gets no retained messages (MQTT 5 section 4.8.2).
            return self.join_group(slot, &subscription);
        }
        if session.is_persistent() {
            self.subscriptions.insert(slot, &subscription);
        }
        // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
        let is_wanted = match subscription.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !existed,
            RetainHandling::DoNotSend => false,
        };
        if !is_wanted {
            return;
        }
        let client = session.head.client.clone();
        let username = session.head.username.clone();
        let identity = Identity { client: &client, username: username.as_deref() };
        let rules = self.access.rules();
        let Subscription { options, identifier, .. } = subscription;
        let is_own = |message: &RetainedMessage| message.publisher.as_ref() == Some(&client);
        self.retained.for_each_match(subscription.filter.as_str(), &mut |message| {
            if !rules.may(&identity, Action::Receive, &message.topic) {
                return;
            }
            if message.is_expired(place.time) || (options.no_local && is_own(message)) {
                return;
            }
            let message = Arc::clone(message);
            let identifiers = identifier.into_iter().collect();
            answers.push(Answer {
                offset: message.offset,
                message,
                granted: options.qos,
                identifiers,
            });
        });
    }

    /// The answers in the order in which they were published. Those with a QoS above 0 are owed
    /// to a persistent session.
    fn owe_answers(
        &mut self,
        place: &Place,
        slot: Slot,
        answers: Vec<Answer>,
    ) -> Vec<RetainedDelivery> {
        let mut messages = Vec::with_capacity(answers.len());
        for (nth, answer) in (1..).zip(answers) {
            let qos = answer.message.qos.min(answer.granted);
            let message = answer.message;
            if qos > QoS::AtMostOnce {
                self.owe_answer(slot, DeliveryRef { at: place.at, nth }, qos, &message);
            }
            let identifiers = answer.identifiers;
            messages.push(RetainedDelivery { message, qos, identifiers, nth });
        }
        messages
    }

    fn owe_answer(
        &mut self,
        slot: Slot,
        message: DeliveryRef,
        qos: QoS,
        content: &Arc<RetainedMessage>,
    ) {
        let touched = &mut self.dirty.owed(slot);
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        if session.is_persistent() {
            session.owed.push_answer(message, qos, Arc::clone(content), touched);
            self.hints.owed(slot, session, 1, content.expires());
        }
    }
}
