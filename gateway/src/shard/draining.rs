//! What waits for a connection goes on: from its backlog, from the owed view, from the log.

use std::sync::Arc;

use ledgermq_core::connection::Delivery;
use ledgermq_core::event::{DeliveryRef, DropReason, EventRef, MessagePublished};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_core::topic::TopicFilter;
use ledgermq_log::CommittedBatch;
use ledgermq_projections::views::retained::RetainedMessage;

use crate::shard::backlog::{Backlog, Lane, Pending, Source};
use crate::shard::client::Client;
use crate::shard::cursor::Cursor;
use crate::shard::delivery::remaining;
use crate::shard::table::Token;
use crate::shard::{Fetched, Shard, Sources};

/// Messages asked of the owed view at a time.
const OWED_MESSAGES_MAX: usize = 256;

/// A message at the head of a backlog with its content.
enum Next {
    Content(Pending, Content),
    /// The log was purged beyond it, and it was not kept.
    Purged(Pending),
    /// The client has it already.
    Answered,
}

/// Where a message's content is at hand.
enum Content {
    Message(Arc<RetainedMessage>),
    Batch(Arc<CommittedBatch>),
}

impl Shard {
    /// Delivers what waits for a connection, as far as it and its client have room.
    ///
    /// Whoever makes room calls it: an acknowledgement, output that was written, an answer to a
    /// subscription, an identifier that was logged, a batch or a view that was waited for
    /// ([`Shard::retry`]). A connection that waits for none of these has nothing to wait for.
    pub(super) fn drain(&mut self, now: Timestamp, token: Token, sources: &mut impl Sources) {
        self.drain_some(now, token, sources);
        self.weigh_held(token);
    }

    fn drain_some(&mut self, now: Timestamp, token: Token, sources: &mut impl Sources) {
        let (mut is_lagging, mut is_caught_up) = (false, false);
        loop {
            let Some(client) = self.table.get(token) else { return };
            let Some(backlog) = &client.backlog else { return };
            if client.link.is_ending || backlog.holds > 0 {
                return;
            }
            if !self.has_output_room(&client.link) {
                // What it has to write goes first; if that is nothing, the node has no room.
                let has_more = !backlog.is_empty() || backlog.behind.is_some();
                if client.link.unwritten().is_empty() && has_more {
                    self.starve(token);
                }
                return;
            }
            let Some(client) = self.table.get_mut(token) else { return };
            let Some(backlog) = &client.backlog else { return };
            if !is_lagging
                && backlog.is_own_empty()
                && let Some(after) = backlog.behind
            {
                // The view lags: what groups gave need not wait for it.
                is_lagging = !self.refill(token, after, sources);
            } else if !is_lagging && backlog.is_own_empty() && !is_caught_up {
                is_caught_up = true;
                self.turn(now, token, |machine, sink, _| machine.on_caught_up(sink));
            } else if backlog.is_empty() {
                // A member of a group needs it again, soon.
                if backlog.is_done() && client.shared_subscriptions == 0 {
                    client.backlog = None;
                }
                return;
            } else if !self.copy_waiting(now, token) {
                let Some(next) = self.take_next(token, sources) else { return };
                self.deliver_next(now, token, next);
            }
        }
    }

    /// Reads on in the owed view. Answers whether [`Shard::drain`] can go on.
    fn refill(&mut self, token: Token, after: DeliveryRef, sources: &mut impl Sources) -> bool {
        let routed = self.routed_index();
        let Some(client) = self.table.get_mut(token) else { return false };
        let Some(session) = &client.link.session else { return false };
        let mut owed = Vec::new();
        let applied = sources.owed(&session.client, after, OWED_MESSAGES_MAX, &mut owed);
        let backlog = client.backlog.get_or_insert_default();
        // What was not routed yet comes live.
        owed.retain(|owed| owed.message.at < self.reached);
        if let Some(last) = owed.last() {
            backlog.behind = Some(last.message);
            backlog.insert(owed.into_iter().map(Pending::from));
            return true;
        }
        if applied >= routed {
            backlog.behind = None;
            return true;
        }
        self.starve(token);
        false
    }

    pub(super) fn starve(&mut self, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        if !client.link.is_starving {
            client.link.is_starving = true;
            self.starving.push(token);
        }
    }

    /// Takes a head of the backlog for which the client has room, if its content is at hand.
    fn take_next(&mut self, token: Token, sources: &mut impl Sources) -> Option<Next> {
        let client = self.table.get_mut(token)?;
        let (backlog, machine) = (client.backlog.as_mut()?, &client.machine);
        let may_go = |Pending { message, qos, .. }: &Pending| {
            *qos == QoS::AtMostOnce
                || machine.is_under_way(*message)
                || machine.has_room_for(*message)
        };
        let lane =
            backlog.lanes().into_iter().find(|lane| backlog.front(*lane).is_some_and(may_go))?;
        let Pending { message, qos, .. } = *backlog.front(lane)?;
        if qos > QoS::AtMostOnce && machine.is_under_way(message) {
            backlog.pop(lane);
            return Some(Next::Answered);
        }
        match look_up(backlog, lane, sources)? {
            Fetched::Ready(content) => {
                backlog.pop(lane).map(|pending| Next::Content(pending, content))
            }
            Fetched::Gone => backlog.pop(lane).map(Next::Purged),
            Fetched::Loading => {
                self.starve(token);
                None
            }
        }
    }

    fn deliver_next(&mut self, now: Timestamp, token: Token, next: Next) {
        match next {
            Next::Answered => {}
            Next::Purged(Pending { message, qos, .. }) => {
                self.give_up(now, token, message, qos, DropReason::Purged);
            }
            Next::Content(pending, Content::Message(kept)) => {
                let content = MessagePublished {
                    qos: kept.qos,
                    retain: kept.retain,
                    packet_id: None,
                    topic: &kept.topic,
                    message_expiry_interval: kept.message_expiry_interval,
                    properties: &kept.properties,
                    payload: &kept.payload,
                };
                self.send_pending(now, token, pending, &content, kept.time);
            }
            Next::Content(pending, Content::Batch(batch)) => {
                match content_of(&batch, &pending, &mut self.read) {
                    Some(content) => self.send_pending(now, token, pending, &content, batch.time),
                    None => {
                        let Pending { message, qos, .. } = pending;
                        self.give_up(now, token, message, qos, DropReason::Purged);
                    }
                }
            }
        }
    }

    fn send_pending(
        &mut self,
        now: Timestamp,
        token: Token,
        pending: Pending,
        content: &MessagePublished<'_>,
        published: Timestamp,
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        let Pending { message, qos, retain, .. } = pending;
        if !client.may_receive(&self.settings.rules, content.topic) {
            return self.give_up(now, token, message, qos, DropReason::NotAuthorized);
        }
        let expiry = match remaining(content.message_expiry_interval, published, self.log_time) {
            Some(expiry) => expiry,
            // What was sent once is sent again, expired or not.
            None if client.machine.is_resumed(message) => Some(0),
            None => return self.give_up(now, token, message, qos, DropReason::Expired),
        };
        let identifiers = match &pending.source {
            _ if message.group().is_some() => pending.identifier.into_iter().collect(),
            Source::Retained(_, identifiers) => identifiers.to_vec(),
            _ => identifiers(client, content.topic),
        };
        let delivery = Delivery {
            message,
            qos,
            retain,
            topic: content.topic,
            message_expiry_interval: expiry,
            identifiers: &identifiers,
            properties: content.properties,
            payload: content.payload,
        };
        self.hand(now, token, &delivery, |_, _| pending);
    }
}

/// Looks for the content of the first message of a queue. Only what is neither in the log nor kept
/// is gone: a copy was there before the purge.
fn look_up(backlog: &Backlog, lane: Lane, sources: &mut impl Sources) -> Option<Fetched<Content>> {
    let Pending { message, source, .. } = backlog.front(lane)?;
    let at = message.at;
    Some(match source {
        Source::Answer(message) | Source::Retained(message, _) => {
            Fetched::Ready(Content::Message(Arc::clone(message)))
        }
        Source::Pinned(pin, _) => Fetched::Ready(Content::Batch(Arc::clone(&pin.batch))),
        Source::Logged => logged(at, sources).or_else(|| kept(at, backlog, lane, sources)),
        Source::Kept => kept(at, backlog, lane, sources).or_else(|| logged(at, sources)),
    })
}

fn logged(at: Offset, sources: &mut impl Sources) -> Fetched<Content> {
    sources.batch(at.index).map(Content::Batch)
}

fn kept(at: Offset, backlog: &Backlog, lane: Lane, sources: &mut impl Sources) -> Fetched<Content> {
    let ahead = backlog.kept(lane, at);
    sources.kept(at, ahead).map(Content::Message)
}

/// The message that `pending` refers to in its batch.
fn content_of<'a>(
    batch: &'a CommittedBatch,
    pending: &Pending,
    cursor: &mut Cursor,
) -> Option<MessagePublished<'a>> {
    let place = match &pending.source {
        Source::Pinned(_, place) => *place,
        _ => cursor.find(batch, pending.message.at.ordinal)?,
    };
    match batch.batch().record_at(place).ok()?.event().ok()? {
        EventRef::MessagePublished(message) => Some(message),
        EventRef::Other(_) => None,
    }
}

/// Identifiers of the subscriptions of `client`, but for shared ones, that match `topic`.
pub(super) fn identifiers(client: &Client, topic: &str) -> Vec<u32> {
    let matching = |filter: &TopicFilter| !filter.is_shared() && filter.matches(topic);
    client
        .subscriptions
        .iter()
        .filter(|subscription| subscription.identifier.is_some() && matching(&subscription.filter))
        .filter_map(|subscription| subscription.identifier)
        .collect()
}
