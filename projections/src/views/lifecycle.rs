//! Sessions begin, are resumed, close and end; their wills.

use ledgermq_core::access::Action;
use ledgermq_core::event::SessionOpened;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::reason::ReasonCode;

use crate::notice::{Notice, SessionState};
use crate::time;
use crate::views::Views;
use crate::views::dirty::Row;
use crate::views::fold::Place;
use crate::views::presence::Presence;
use crate::views::session::Session;
use crate::views::sessions::Slot;
use crate::views::wills::PendingWill;

impl Views {
    pub(super) fn session_opened(
        &mut self,
        place: &Place,
        opened: SessionOpened,
        notices: &mut Vec<Notice>,
    ) {
        self.counters.sessions_opened += 1;
        let client = opened.client.clone();
        let old = self.sessions.slot(&client);
        let is_resumed =
            old.is_some_and(|old| self.can_resume(old, opened.clean_start, place.time));
        if let Some(old) = old {
            self.supersede(place, old, is_resumed, notices);
        }
        let slot = match old {
            Some(old) if is_resumed => {
                self.counters.sessions_resumed += 1;
                self.resume(place, old, opened);
                old
            }
            Some(old) => {
                self.end(old);
                self.sessions.add(Session::new(opened, place.at, place.producer, place.time))
            }
            None => self.sessions.add(Session::new(opened, place.at, place.producer, place.time)),
        };
        self.dirty.touch(Row::Session(slot));
        self.member_came(slot);
        notices.push(Notice::SessionReady {
            producer: place.producer,
            epoch: place.at,
            client,
            state: Box::new(self.state_of(slot, is_resumed)),
        });
    }

    pub(super) fn session_closed(
        &mut self,
        place: &Place,
        slot: Slot,
        reason: ReasonCode,
        publish_will: bool,
        interval: u32,
    ) {
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        if !session.presence().is_online() {
            return;
        }
        match reason {
            ReasonCode::Success | ReasonCode::DisconnectWithWill => {
                self.counters.sessions_closed += 1;
            }
            _ => self.counters.sessions_lost += 1,
        }
        let will = session.head.will.take().filter(|_| publish_will);
        // A session that was opened without an interval cannot get one. [MQTT-3.14.2-2]
        let is_over = interval == 0 || !session.outlives_connection();
        let (epoch, client) = (session.epoch(), session.client().clone());
        let username = session.head.username.clone();
        if let Some(message) = will {
            let delay = if is_over { 0 } else { message.delay_interval.min(interval) };
            let (due, is_delayed) = (time::after(place.time, delay), delay > 0);
            self.arm(epoch, PendingWill { client, username, due, is_delayed, message: *message });
        }
        if is_over {
            return self.end(slot);
        }
        self.sessions.change(slot, |session| {
            session.head.session_expiry_interval = interval;
            session.head.presence = Presence::Offline { since: place.time, reason };
        });
        self.dirty.touch(Row::Session(slot));
        self.member_went(slot);
    }

    pub(super) fn session_expired(&mut self, place: &Place, slot: Slot, notices: &mut Vec<Notice>) {
        let Some(session) = self.sessions.by_slot(slot) else { return };
        let (client, epoch) = (session.client().clone(), session.epoch());
        let producer = session.head.producer;
        self.counters.sessions_expired += 1;
        self.settle_will(epoch, place.time);
        self.end(slot);
        let reason = ReasonCode::Success;
        notices.push(Notice::SessionEnded { producer, client, epoch, reason });
    }

    fn can_resume(&self, slot: Slot, clean_start: bool, now: Timestamp) -> bool {
        !clean_start
            && self.sessions.by_slot(slot).is_some_and(|session| {
                session.outlives_connection()
                    && session.expires().is_none_or(|deadline| deadline > now)
            })
    }

    /// What a new connection means for the old one and its will.
    fn supersede(
        &mut self,
        place: &Place,
        slot: Slot,
        is_resumed: bool,
        notices: &mut Vec<Notice>,
    ) {
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        let (epoch, client) = (session.epoch(), session.client().clone());
        if session.presence().is_online() {
            self.counters.sessions_taken_over += 1;
            let producer = session.head.producer;
            let will = session.head.will.take();
            let username = session.head.username.clone();
            // [MQTT-3.1.3-9]: a delayed will is called off by the new connection, if the session
            // lives on.
            if let Some(message) = will.filter(|will| !is_resumed || will.delay_interval == 0) {
                let (client, due, is_delayed) = (client.clone(), place.time, false);
                self.arm(
                    epoch,
                    PendingWill { client, username, due, is_delayed, message: *message },
                );
            }
            let reason = ReasonCode::SessionTakenOver;
            notices.push(Notice::SessionEnded { producer, client, epoch, reason });
            // Also if the session goes on: what the old connection did not answer is given again.
            self.member_went(slot);
            return;
        }
        let is_early = self.wills.get(epoch).is_some_and(|will| will.due > place.time);
        if is_resumed && is_early {
            if self.wills.get(epoch).is_some_and(|will| will.is_delayed) {
                self.wills.remove(epoch);
                self.dirty.touch(Row::Will(epoch));
            }
        } else {
            self.settle_will(epoch, place.time);
        }
    }

    /// Lets a will wait for its time, if its client may still publish it.
    fn arm(&mut self, epoch: Offset, will: PendingWill) {
        let rules = self.access.rules();
        if !rules.may(&will.author(), Action::Publish, &will.message.topic) {
            self.counters.wills_forbidden += 1;
            return;
        }
        self.wills.arm(epoch, will);
        self.dirty.touch(Row::Will(epoch));
    }

    fn settle_will(&mut self, epoch: Offset, time: Timestamp) {
        if self.wills.settle(epoch, time) {
            self.dirty.touch(Row::Will(epoch));
        }
    }

    fn resume(&mut self, place: &Place, slot: Slot, opened: SessionOpened) {
        let fresh = Session::new(opened, place.at, place.producer, place.time);
        let was = self.sessions.by_slot(slot).and_then(|held| held.username().map(str::to_owned));
        if was.as_deref() != fresh.username() {
            // Others may now receive what it subscribed to.
            self.subscriptions.forget();
        }
        self.sessions.change(slot, |session| {
            let old = std::mem::replace(&mut session.head, fresh.head);
            session.head.is_resumed = true;
            session.head.inbound = old.inbound;
            session.head.cursor = old.cursor;
            session.head.outstanding = old.outstanding;
        });
    }

    /// Nothing of the session is left.
    pub(super) fn end(&mut self, slot: Slot) {
        self.member_ended(slot);
        self.unlink(slot);
        let Some(session) = self.sessions.remove(slot) else { return };
        self.dirty.touch(Row::Session(slot));
        for subscription in &session.subscriptions {
            self.interest.remove(&subscription.filter);
            self.dirty.touch(Row::Subscription(slot, subscription.filter.clone()));
        }
        session.owed.ended().for_each(self.dirty.owed(slot));
        self.hints.forget(slot, &session);
    }

    /// No further message is owed to the session.
    fn unlink(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.by_slot(slot) {
            for subscription in &session.subscriptions {
                self.subscriptions.remove(slot, subscription);
            }
        }
    }

    fn state_of(&self, slot: Slot, session_present: bool) -> SessionState {
        let Some(session) = self.sessions.by_slot(slot) else {
            return SessionState::default();
        };
        SessionState {
            session_present,
            subscriptions: session.subscriptions.clone(),
            inbound: session.head.inbound.clone(),
            outstanding: session.head.outstanding.clone(),
            shared: self.bound(slot, &session.head.outstanding),
            cursor: session.head.cursor,
            owed: session.owed.len(),
        }
    }
}
