//! Who is owed what.

use std::collections::BTreeMap;

use ledgermq_core::event::{DeliveryRef, DropReason, MessagePublished, Subscription};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::{QoS, RetainHandling};

use crate::book::Uid;
use crate::oracle::groups::pattern;
use crate::oracle::{Oracle, OwedEntry};

impl Oracle {
    pub(super) fn owe_to_all(
        &mut self,
        at: Offset,
        now: Timestamp,
        uid: Uid,
        expires: Option<Timestamp>,
        publisher: Option<&str>,
        message: &MessagePublished<'_>,
    ) {
        let mut owed = Vec::new();
        let is_heard = self
            .sessions
            .values()
            .flat_map(|session| session.subscriptions.keys())
            .any(|filter| matches(pattern(filter), message.topic));
        if !is_heard {
            self.unheard.insert(uid);
        }
        for (client, session) in &self.sessions {
            let is_own = publisher == Some(client.as_str());
            let matching = || {
                session
                    .subscriptions
                    .values()
                    .filter(|subscription| !(subscription.options.no_local && is_own))
                    .filter(|subscription| matches(subscription.filter.as_str(), message.topic))
                    .map(|subscription| subscription.options)
            };
            let granted = matching().map(|options| options.qos).max();
            if let Some(granted) = granted
                && self.access.may(client, session.username.as_deref(), "read", message.topic)
            {
                let as_published = matching().any(|options| options.retain_as_published);
                let (qos, retain) = (granted.min(message.qos), message.retain && as_published);
                owed.push((session.life, qos, retain));
            }
        }
        for (life, qos, retain) in owed {
            self.owe(life, OwedEntry::new(at.into(), uid, qos, retain, expires, now));
        }
    }

    pub(super) fn on_subscribed(
        &mut self,
        at: Offset,
        now: Timestamp,
        client: &str,
        subscriptions: Vec<Subscription>,
    ) {
        let Some(session) = self.sessions.get_mut(client) else {
            return self.fault(format!("{client} subscribed at {at} without a session"));
        };
        let life = session.life;
        let mut answers: BTreeMap<Offset, (Uid, QoS, Option<Timestamp>)> = BTreeMap::new();
        for subscription in subscriptions {
            let filter = subscription.filter.as_str().to_owned();
            let options = subscription.options;
            *self.subscribed.entry((client.to_owned(), filter.clone())).or_default() += 1;
            let existed = session.subscriptions.insert(filter.clone(), subscription).is_some();
            let is_wanted = match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => !existed,
                RetainHandling::DoNotSend => false,
            };
            for (topic, retained) in &self.retained {
                let is_own = retained.publisher.as_deref() == Some(client);
                let is_expired = retained.expires.is_some_and(|expires| expires <= now);
                let may = self.access.may(client, session.username.as_deref(), "read", topic);
                let Some(uid) = retained.uid.filter(|_| {
                    may && is_wanted && matches(&filter, topic) && !(options.no_local && is_own)
                }) else {
                    continue;
                };
                if !is_expired {
                    let answer = (uid, options.qos.min(retained.qos), retained.expires);
                    let held = answers.entry(retained.at).or_insert(answer);
                    held.1 = held.1.max(answer.1);
                }
            }
        }
        for (nth, (uid, qos, expires)) in (1..).zip(answers.into_values()) {
            let message = DeliveryRef { at, nth };
            self.owe(life, OwedEntry::new(message, uid, qos, true, expires, now));
        }
    }

    fn owe(&mut self, life: usize, entry: OwedEntry) {
        let life = &mut self.lives[life];
        life.counts.entry(entry.uid).or_default()[entry.qos as usize] += 1;
        if entry.message.nth == 0 {
            life.first.entry((entry.uid, entry.qos)).or_insert(entry.message);
        }
        if entry.qos > QoS::AtMostOnce {
            life.owed.push(entry);
        }
    }

    pub(super) fn on_dropped(
        &mut self,
        client: &str,
        now: Timestamp,
        from: DeliveryRef,
        upto: DeliveryRef,
        reason: DropReason,
    ) {
        let Some(session) = self.sessions.get(client) else { return };
        let mut faults = Vec::new();
        for entry in &mut self.lives[session.life].owed {
            if !(from <= entry.message && entry.message <= upto) {
                continue;
            }
            let is_allowed = match reason {
                DropReason::QueueFull => self.may_drop,
                DropReason::Expired => true,
                DropReason::TooLarge | DropReason::Purged => false,
                // Rules changed back and forth may have met it on its way.
                DropReason::NotAuthorized => self.access.has_changed(),
            };
            // Saying it twice does no harm.
            if !is_allowed && !entry.is_dropped {
                faults.push(format!(
                    "m{} was owed to {client} and given up ({reason:?}) without need",
                    entry.uid
                ));
            }
            // An expiry names ranges: only what has expired goes with it.
            entry.is_dropped |=
                reason != DropReason::Expired || entry.expires.is_some_and(|at| at <= now);
        }
        self.faults.append(&mut faults);
    }
}

/// Whether `filter` matches `topic`, written without the broker's matching.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let mut levels = topic.split('/');
    let mut wanted = filter.split('/');
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) => return true,
            (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(want), Some(level)) if want == level => {}
            _ => return false,
        }
    }
}
