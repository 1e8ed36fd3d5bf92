//! From a record to the view that it concerns.

use ledgermq_core::event::batch::{Batch, BatchSession, Record};
use ledgermq_core::event::{Event, EventRef};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Offset, Timestamp};

use crate::notice::Notice;
use crate::views::Views;

/// A record that cannot be. The log checks what it hands out, so this is a fault of the program or
/// of the memory: the node stops rather than skip an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event at {at} cannot be folded: {what}")]
pub struct Broken {
    /// Where.
    pub at: Offset,
    /// What is wrong.
    pub what: &'static str,
}

/// Where in the log an event stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) at: Offset,
    pub(crate) time: Timestamp,
    pub(crate) producer: ProducerId,
}

/// The sessions that a batch names, read when the first record asks for one.
pub(crate) struct Sources<'a> {
    batch: Batch<'a>,
    sessions: Option<Vec<BatchSession<'a>>>,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(batch: Batch<'a>) -> Self {
        Self { batch, sessions: None }
    }

    /// The session of a record.
    pub(crate) fn get(
        &mut self,
        at: Offset,
        record: &Record<'_>,
    ) -> Result<Option<BatchSession<'a>>, Broken> {
        let Some(number) = record.session else {
            return Ok(None);
        };
        if self.sessions.is_none() {
            let sessions: Result<Vec<_>, _> = self.batch.sessions().collect();
            self.sessions = Some(sessions.map_err(|error| Broken { at, what: error.0 })?);
        }
        let sessions = self.sessions.as_ref().expect("it was just read");
        let session = sessions.get(usize::from(number));
        session.copied().map(Some).ok_or(Broken { at, what: "it names no session of its batch" })
    }
}

impl Views {
    pub(super) fn fold(
        &mut self,
        place: &Place,
        record: &Record<'_>,
        sources: &mut Sources<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Broken> {
        let event = record.event().map_err(|error| Broken { at: place.at, what: error.0 })?;
        match event {
            EventRef::MessagePublished(message) => self.published(place, record, &message, sources),
            EventRef::Other(event) => {
                self.owe_run();
                let source = sources.get(place.at, record)?;
                self.fold_event(place, source, event, notices);
                Ok(())
            }
        }
    }

    fn fold_event(
        &mut self,
        place: &Place,
        source: Option<BatchSession<'_>>,
        event: Event,
        notices: &mut Vec<Notice>,
    ) {
        match event {
            Event::NodeStarted { node, start } => {
                return self.node_started(place, node, start);
            }
            Event::NodeLost { node, start } => return self.node_lost(place, node, start),
            Event::SessionOpened(opened) => return self.session_opened(place, *opened, notices),
            Event::SharedDropped { group, upto, reason } => {
                return self.shared_dropped(place, &group, upto, reason);
            }
            Event::AccessRulesReplaced { rules } => {
                return self.access_rules_replaced(place, rules.as_ref());
            }
            Event::SessionClosed { .. }
            | Event::SessionExpired
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::MessageReleased { .. }
            | Event::DeliveryStarted { .. }
            | Event::DeliveryReceived { .. }
            | Event::DeliveryProgressed { .. }
            | Event::MessageDropped { .. }
            | Event::SharedSettled { .. } => {}
        }
        // What comes behind the end of its session (a late progress) has nothing to change.
        let current = source.and_then(|source| self.sessions.current(source.client, source.epoch));
        let Some(slot) = current else {
            return;
        };
        match event {
            Event::NodeStarted { .. }
            | Event::NodeLost { .. }
            | Event::SessionOpened(_)
            | Event::SharedDropped { .. }
            | Event::AccessRulesReplaced { .. } => {}
            Event::SessionClosed { reason, publish_will, session_expiry_interval } => {
                self.session_closed(place, slot, reason, publish_will, session_expiry_interval);
            }
            Event::SessionExpired => self.session_expired(place, slot, notices),
            Event::Subscribed { subscriptions } => {
                self.subscribed(place, slot, subscriptions, notices);
            }
            Event::Unsubscribed { filters } => self.unsubscribed(slot, &filters),
            Event::MessageReleased { packet_ids } => self.message_released(slot, &packet_ids),
            Event::DeliveryStarted { deliveries } => self.delivery_started(slot, &deliveries),
            Event::DeliveryReceived { packet_ids } => self.delivery_received(slot, &packet_ids),
            Event::DeliveryProgressed { upto, outstanding } => {
                self.delivery_progressed(slot, upto, outstanding);
            }
            Event::MessageDropped { from, upto, reason } => {
                self.message_dropped(slot, from, upto, reason);
            }
            Event::SharedSettled { deliveries } => self.shared_settled(slot, &deliveries),
        }
    }
}
