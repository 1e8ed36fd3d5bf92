//! `$SYS`: what the node says of itself to its own clients. It is no event: nothing of it is
//! logged, and every node answers for itself.

use std::sync::Arc;

use ledgermq_core::connection::Delivery;
use ledgermq_core::event::{DeliveryRef, Subscription};
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::QoS;

use crate::shard::table::Token;
use crate::shard::{Shard, stats};

/// A value of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysValue {
    /// Topic Name, which begins with `$SYS/`.
    pub topic: Box<str>,
    /// The value as text.
    pub value: Box<str>,
}

impl Shard {
    /// Takes the node's values; those that changed go to the clients that subscribed to them, at
    /// QoS 0.
    pub fn on_sys(&mut self, now: Timestamp, values: &Arc<[SysValue]>) {
        let before = std::mem::replace(&mut self.sys, Arc::clone(values));
        let mut before = before.iter();
        for value in values.iter() {
            // They come in the same order each time.
            let old = before.next().filter(|old| old.topic == value.topic);
            if old != Some(value) {
                self.route_sys(now, value);
            }
        }
    }

    pub(super) fn route_sys(&mut self, now: Timestamp, value: &SysValue) {
        for found in &*self.matches(&value.topic).found {
            if let Some(grant) = found.grant(None) {
                self.send_sys(now, found.token, value, false, &grant.identifiers);
            }
        }
    }

    /// Answers new subscriptions with the values of the moment, like retained messages.
    pub(super) fn answer_sys(
        &mut self,
        now: Timestamp,
        token: Token,
        subscriptions: &[Subscription],
    ) {
        let values = Arc::clone(&self.sys);
        for subscription in subscriptions {
            for value in values.iter().filter(|value| subscription.filter.matches(&value.topic)) {
                let identifiers: Vec<_> = subscription.identifier.into_iter().collect();
                self.send_sys(now, token, value, true, &identifiers);
            }
        }
    }

    pub(super) fn send_sys(
        &mut self,
        now: Timestamp,
        token: Token,
        value: &SysValue,
        retain: bool,
        identifiers: &[u32],
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        if !client.may_receive(&self.settings.rules, &value.topic) {
            return;
        }
        if client.link.unwritten().len() >= self.limits.output_bytes_max {
            self.stats.dropped_queue_full += 1;
            return;
        }
        let delivery = Delivery {
            message: DeliveryRef::default(),
            qos: QoS::AtMostOnce,
            retain,
            topic: &value.topic,
            message_expiry_interval: None,
            identifiers,
            properties: &[],
            payload: value.value.as_bytes(),
        };
        self.turn(now, token, |machine, sink, _| {
            let _ = machine.deliver(&delivery, sink);
        });
        self.stats.sent[stats::by(QoS::AtMostOnce)] += 1;
    }
}
