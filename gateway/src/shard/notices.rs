//! Notices of the projections: sessions that are ready, retained messages, sessions that ended.

use ledgermq_core::connection::{Ending, Resumed};
use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_projections::notice::{Notice, RetainedDelivery, SessionState};

use crate::shard::backlog::{Pending, Source};
use crate::shard::client::Pause;
use crate::shard::table::Token;
use crate::shard::{Shard, Sources};

impl Shard {
    /// Takes a notice. One that runs ahead of the shard's own tail waits for it.
    pub fn on_notice(&mut self, now: Timestamp, notice: Notice, sources: &mut impl Sources) {
        match notice {
            Notice::SessionReady { epoch, state, .. } => {
                if epoch >= self.reached {
                    self.early_sessions.insert(epoch, state);
                } else if let Some(token) = self.by_epoch.get(&epoch).copied() {
                    self.open(now, token, *state, sources);
                    self.drain(now, token, sources);
                }
            }
            Notice::Retained { epoch, at, messages, .. } => {
                if at >= self.reached {
                    self.early_retained.insert(at, messages);
                } else if let Some(token) = self.by_epoch.get(&epoch).copied() {
                    self.on_retained(now, token, at, messages, sources);
                }
            }
            Notice::Shared { epoch, index, deliveries, .. } => {
                self.on_shared(now, epoch, index, deliveries, sources);
            }
            Notice::SessionEnded { epoch, reason, .. } => {
                if let Some(token) = self.by_epoch.get(&epoch).copied() {
                    self.end(now, token, Ending::Server(reason));
                }
            }
        }
    }

    /// The session of `token` is there: subscriptions first, then CONNACK, then what is owed.
    pub(super) fn open(
        &mut self,
        now: Timestamp,
        token: Token,
        state: SessionState,
        sources: &mut impl Sources,
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        self.stats.opened += 1;
        for subscription in &state.subscriptions {
            self.subscriptions.insert(token, subscription);
        }
        client.subscriptions = state.subscriptions;
        client.count_subscriptions();
        if state.session_present {
            let backlog = client.backlog.get_or_insert_default();
            backlog.behind = Some(DeliveryRef::default());
            state.shared.into_iter().for_each(|delivery| backlog.bind(Pending::from(delivery)));
            self.starve(token);
        }
        let resumed = Resumed {
            session_present: state.session_present,
            inbound: state.inbound,
            cursor: state.cursor,
            outstanding: state.outstanding,
        };
        self.turn(now, token, |machine, sink, settings| {
            machine.on_session_ready(now, &resumed, settings, sink);
        });
        self.schedule(token);
        self.resume_input(now, token, Pause::Opening, sources);
    }

    pub(super) fn on_retained(
        &mut self,
        now: Timestamp,
        token: Token,
        at: Offset,
        messages: Vec<RetainedDelivery>,
        sources: &mut impl Sources,
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        client.link.subscribing = client.link.subscribing.saturating_sub(1);
        let backlog = client.backlog.get_or_insert_default();
        backlog.holds = backlog.holds.saturating_sub(1);
        // A session that is catching up finds what it is owed in the view.
        let owed_after = backlog.behind;
        let pending = messages.into_iter().map(|delivery| {
            let RetainedDelivery { message, qos, identifiers, nth } = delivery;
            let source = Source::Retained(message, identifiers.into());
            Pending::new(DeliveryRef { at, nth }, qos, true, source)
        });
        backlog.insert(pending.filter(|pending| {
            pending.qos == QoS::AtMostOnce
                || owed_after.is_none_or(|behind| pending.message <= behind)
        }));
        self.drain(now, token, sources);
        self.resume_input(now, token, Pause::Subscribing, sources);
    }
}
