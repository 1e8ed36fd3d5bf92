//! What time or a limit demands: the events that the driver is to append.

use ledgermq_core::event::batch::TARGET_BYTES;
use ledgermq_core::event::{BatchBuilder, DeliveryRef, DropReason, Event, WillMessage};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::topic::TopicFilter;

use crate::views::delivery::published as outstanding_refs;
use crate::views::hints::exceeds;
use crate::views::message;
use crate::views::owed::OwedSet;
use crate::views::session::Session;
use crate::views::sessions::Slot;
use crate::views::shared::{Group, Number};
use crate::views::{Limits, Views};

/// Most ranges of expired messages named for one session at a time.
const RANGES_MAX: usize = 64;

/// An event that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// A will is to be published.
    Will {
        /// Offset of the `SessionOpened` that carried it: the cause by which the fold knows it.
        cause: Offset,
        /// The session, while a new connection can still call the will off.
        session: Option<(ClientId, Offset)>,
        /// The message.
        message: WillMessage,
    },
    /// A session's interval has passed.
    SessionExpired {
        /// Client and epoch.
        session: (ClientId, Offset),
    },
    /// Messages owed to a session are to be given up.
    MessageDropped {
        /// Client and epoch.
        session: (ClientId, Offset),
        /// The first.
        from: DeliveryRef,
        /// The last.
        upto: DeliveryRef,
        /// Why.
        reason: DropReason,
    },
    /// Messages that wait in a group are to be given up.
    SharedDropped {
        /// The group.
        group: TopicFilter,
        /// The last.
        upto: Offset,
        /// Why.
        reason: DropReason,
    },
}

impl Due {
    /// About how many bytes the event takes in a batch.
    pub(crate) fn bytes(&self) -> usize {
        const RECORD: usize = 64;
        match self {
            Self::Will { message, .. } => {
                RECORD + message.topic.len() + message.properties.len() + message.payload.len()
            }
            Self::SessionExpired { .. } | Self::MessageDropped { .. } => RECORD,
            Self::SharedDropped { group, .. } => RECORD + group.as_str().len(),
        }
    }

    /// Appends the event to a batch.
    pub fn write(&self, batch: &mut BatchBuilder) {
        match self {
            Self::Will { cause, session, message } => {
                let session = session.as_ref().map(|(client, epoch)| (client, *epoch));
                batch.publish(session, Some(*cause), &message::published(message));
            }
            Self::SessionExpired { session: (client, epoch) } => {
                batch.push(Some((client, *epoch)), None, &Event::SessionExpired);
            }
            Self::MessageDropped { session: (client, epoch), from, upto, reason } => {
                let (from, upto, reason) = (*from, *upto, *reason);
                let event = Event::MessageDropped { from, upto, reason };
                batch.push(Some((client, *epoch)), None, &event);
            }
            Self::SharedDropped { group, upto, reason } => {
                let (group, upto, reason) = (group.clone(), *upto, *reason);
                batch.push(None, None, &Event::SharedDropped { group, upto, reason });
            }
        }
    }
}

impl Views {
    /// The instant at which something is or becomes due; none if nothing waits for time. May be
    /// too early (then [`Views::due`] finds nothing), never too late.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let hints = &self.hints;
        let is_over = !hints.over_limit.is_empty() || !hints.groups_over_limit.is_empty();
        if is_over || hints.owes_too_much() {
            return Some(Timestamp(0));
        }
        let owed = self.hints.expiries.first().map(|(expiry, _)| *expiry);
        let shared = self.hints.group_expiries.first().map(|(expiry, _)| *expiry);
        let due = [self.wills.next_due(), self.sessions.next_expiry(), owed, shared];
        due.into_iter().flatten().min()
    }

    /// Names up to about `max` events that are due at `now`, in the log's time. Wills come first:
    /// an expiry behind them fences the session that they name.
    ///
    /// The answer stays the same until the events are applied: the caller has at most one answer
    /// on its way into the log, and asks again when that is applied. (Takes `&mut self` for the
    /// sake of hints alone; no view changes.)
    pub fn due(&mut self, now: Timestamp, max: usize, out: &mut Vec<Due>) {
        let room = |out: &Vec<Due>| max.saturating_sub(out.len());
        let mut bytes = 0;
        for (cause, will) in self.wills.due(now).take(room(out)) {
            let session = will.is_delayed.then(|| (will.client.clone(), cause));
            let due = Due::Will { cause, session, message: will.message.clone() };
            bytes += due.bytes();
            out.push(due);
            if bytes > TARGET_BYTES {
                break;
            }
        }
        let expired = self.sessions.expired(now).take(room(out));
        out.extend(expired.map(|session| Due::SessionExpired { session: name(session) }));
        self.due_over_limit(max, out);
        self.due_groups_over_limit(max, out);
        self.due_expired(now, max, out);
        self.due_groups_expired(now, max, out);
    }

    /// Deals out anew what may be owed to all sessions. If that is too much, and none of those that
    /// grow has more than its part, one that does not grow has.
    fn deal_out(&mut self) {
        let sessions = usize::try_from(self.sessions.persistent()).unwrap_or(usize::MAX);
        self.hints.even_part = self.hints.limits.owed_messages / sessions.max(1);
        if self.hints.over_limit.is_empty() && self.hints.owed > self.hints.limits.owed_messages {
            let part = self.hints.even_part;
            let slots = self.sessions.slots().filter(|(_, session)| session.owed.len() > part);
            self.hints.over_limit = slots.map(|(slot, _)| slot).collect();
        }
    }

    fn due_over_limit(&mut self, max: usize, out: &mut Vec<Due>) {
        self.deal_out();
        let limits = self.hints.limits_in_force();
        let over: Vec<Slot> =
            self.hints.over_limit.iter().copied().take(max.saturating_sub(out.len())).collect();
        for slot in over {
            let session = self.sessions.by_slot(slot);
            let excess = session.and_then(|session| Some((session, excess(session, &limits)?)));
            if let Some((session, (from, upto))) = excess {
                let (session, reason) = (name(session), DropReason::QueueFull);
                out.push(Due::MessageDropped { session, from, upto, reason });
            } else {
                self.hints.over_limit.remove(&slot);
            }
        }
    }

    fn due_groups_over_limit(&mut self, max: usize, out: &mut Vec<Due>) {
        let over = self.hints.groups_over_limit.iter().copied();
        let over: Vec<Number> = over.take(max.saturating_sub(out.len())).collect();
        for number in over {
            let group = self.groups.get(number);
            let upto = group.and_then(|group| excess_of_group(group, &self.hints.limits));
            if let Some((group, upto)) = group.zip(upto) {
                let (group, reason) = (group.filter().clone(), DropReason::QueueFull);
                out.push(Due::SharedDropped { group, upto, reason });
            } else {
                self.hints.groups_over_limit.remove(&number);
            }
        }
    }

    fn due_expired(&mut self, now: Timestamp, max: usize, out: &mut Vec<Due>) {
        let due = self.hints.expiries.iter().take_while(|(expiry, _)| *expiry <= now);
        let due: Vec<Slot> =
            due.map(|(_, slot)| *slot).take(max.saturating_sub(out.len())).collect();
        for slot in due {
            let Some(session) = self.sessions.by_slot_mut(slot) else { continue };
            let before = out.len();
            let under_way = outstanding_refs(&session.head.outstanding);
            let spares = |message: DeliveryRef| under_way.binary_search(&message).is_ok();
            for (from, upto) in session.owed.expired(now, RANGES_MAX, spares) {
                let (session, reason) = (name(session), DropReason::Expired);
                out.push(Due::MessageDropped { session, from, upto, reason });
            }
            if out.len() == before {
                self.correct_expiry(slot, now);
            }
        }
    }

    /// One event a group: the fold spares what up to its `upto` has not expired.
    fn due_groups_expired(&mut self, now: Timestamp, max: usize, out: &mut Vec<Due>) {
        let due = self.hints.group_expiries.iter().take_while(|(expiry, _)| *expiry <= now);
        let room = max.saturating_sub(out.len());
        let due: Vec<Number> = due.map(|(_, number)| *number).take(room).collect();
        for number in due {
            let Some(group) = self.groups.get_mut(number) else { continue };
            if let Some(upto) = group.last_expired(now) {
                let (group, reason) = (group.filter().clone(), DropReason::Expired);
                out.push(Due::SharedDropped { group, upto, reason });
            } else {
                let next = next_look(group.owed(), now);
                self.hints.set_group_expiry(number, group, next);
            }
        }
    }

    /// Nothing of the session has expired, whatever the hint said: puts the hint right.
    fn correct_expiry(&mut self, slot: Slot, now: Timestamp) {
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        let next = next_look(&session.owed, now);
        self.hints.set_expiry(slot, session, next);
    }
}

/// When to look again at what has not expired at `now`, or is under way: at that in a second.
fn next_look(owed: &OwedSet, now: Timestamp) -> Option<Timestamp> {
    let soonest = Timestamp(now.0 + 1_000_000);
    owed.next_expiry().map(|expiry| expiry.max(soonest))
}

fn name(session: &Session) -> (ClientId, Offset) {
    (session.client().clone(), session.epoch())
}

/// The oldest references that have to go for the rest to keep the limits. What is under way counts
/// for nothing; the work is in proportion to that and to what has to go.
fn excess(session: &Session, limits: &Limits) -> Option<(DeliveryRef, DeliveryRef)> {
    let under_way = outstanding_refs(&session.head.outstanding);
    session.owed.excess(&under_way, |messages, bytes| exceeds((messages, bytes), limits))
}

/// Up to where messages that wait have to go for the rest to keep the limits.
fn excess_of_group(group: &Group, limits: &Limits) -> Option<Offset> {
    let (mut messages, mut bytes) = group.waiting();
    let mut upto = None;
    for entry in group.owed().iter() {
        if !exceeds((messages, bytes), limits) {
            break;
        }
        let at = entry.message().at;
        if !group.is_given(at) {
            messages -= 1;
            bytes -= u64::from(entry.bytes());
            upto = Some(at);
        }
    }
    upto
}
