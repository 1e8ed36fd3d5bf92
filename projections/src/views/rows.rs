//! The views as rows of a checkpoint, and back.

use ledgermq_core::event::{DeliveryRef, Subscription};
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::SubscriptionOptions;
use ledgermq_core::topic::TopicFilter;

use crate::bytes::{Cut, Reader, put_u32, put_u64};
use crate::checkpoint::{Changes, Meta, StoreError, Table, row_checksum};
use crate::views::access::Access;
use crate::views::dirty::Row;
use crate::views::owed::OwedSet;
use crate::views::retained::RetainedMessage;
use crate::views::session::{Head, Session};
use crate::views::sessions::Slot;
use crate::views::shared::{self, Grant, Group, Number};
use crate::views::wills::PendingWill;
use crate::views::{Limits, Views};

type Encoded = (Table, Vec<u8>, Option<Vec<u8>>);

impl Views {
    /// Number of rows that changed since the last [`Views::changes`]; a chunk of references counts for
    /// a quarter.
    #[must_use]
    pub fn unsaved_rows(&self) -> usize {
        self.dirty.weight()
    }

    /// The rows that changed since the last call, as they are now.
    pub fn changes(&mut self) -> Changes {
        let dirty = self.dirty.take();
        let mut rows = Vec::with_capacity(dirty.len());
        for row in dirty {
            rows.push(self.encode(&row));
            match row {
                Row::Owed(slot, chunk) => {
                    if let Some(session) = self.sessions.by_slot_mut(slot) {
                        session.owed.set_clean(chunk);
                    }
                }
                Row::GroupOwed(number, chunk) => {
                    if let Some(group) = self.groups.get_mut(number) {
                        group.owed_mut().set_clean(chunk);
                    }
                }
                Row::Rates(page) => self.topics.set_clean(page),
                _ => {}
            }
        }
        Changes { applied: self.applied, time: self.time, rows, forget: Vec::new() }
    }

    /// All rows: what a checkpoint of this state holds.
    #[must_use]
    pub fn snapshot(&self) -> Changes {
        let rows = self.rows().iter().map(|row| self.encode(row)).collect();
        Changes { applied: self.applied, time: self.time, rows, forget: Vec::new() }
    }

    /// The checksum of the whole state: equal on all nodes at the same index. Takes time in
    /// proportion to the state.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.rows()
            .iter()
            .filter_map(|row| {
                let (table, key, value) = self.encode(row);
                Some(row_checksum(table, &key, &value?))
            })
            .fold(0, u64::wrapping_add)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (slot, session) in self.sessions.slots() {
            rows.push(Row::Session(slot));
            let filters = session.subscriptions.iter().map(|held| held.filter.clone());
            rows.extend(filters.map(|filter| Row::Subscription(slot, filter)));
            rows.extend(session.owed.chunk_ids().map(|chunk| Row::Owed(slot, chunk)));
            rows.extend(session.owed.answer_refs().map(|message| Row::Answer(slot, message)));
        }
        rows.extend(self.retained.iter(None).map(|held| Row::Retained(held.topic.clone())));
        rows.extend(self.wills.epochs().map(Row::Will));
        rows.extend(self.topics.node_ids().map(Row::Topic));
        rows.extend(self.topics.pages().map(Row::Rates));
        rows.extend(self.nodes.keys().map(|node| Row::Node(*node)));
        rows.extend(self.topics.sweep_row().map(|_| Row::Sweep));
        for (number, group) in self.groups.iter() {
            rows.push(Row::Group(number));
            rows.extend(group.owed().chunk_ids().map(|chunk| Row::GroupOwed(number, chunk)));
            rows.extend(group.holders().map(|slot| Row::GroupHeld(number, slot)));
        }
        rows.extend(self.access.since().map(|_| Row::Access));
        if self.applied > 0 {
            rows.push(Row::Counters);
        }
        rows
    }

    fn encode(&self, row: &Row) -> Encoded {
        let session = |slot: &Slot| self.sessions.by_slot(*slot);
        let group = |number: &Number| self.groups.get(*number);
        let mut key = Vec::new();
        let (table, value) = match row {
            Row::Session(slot) => {
                put_u32(&mut key, *slot);
                (Table::Sessions, session(slot).map(|held| postcard_of(&held.head)))
            }
            Row::Subscription(slot, filter) => {
                put_u32(&mut key, *slot);
                key.extend_from_slice(filter.as_str().as_bytes());
                let held = session(slot).and_then(|session| session.subscription(filter));
                let value = held.map(|held| postcard_of(&(held.options, held.identifier)));
                (Table::Subscriptions, value)
            }
            Row::Owed(slot, chunk) => {
                put_u32(&mut key, *slot);
                put_u32(&mut key, *chunk);
                (Table::Owed, session(slot).and_then(|session| session.owed.chunk_row(*chunk)))
            }
            Row::Answer(slot, message) => {
                put_u32(&mut key, *slot);
                put_ref(&mut key, *message);
                let held = session(slot).and_then(|session| session.owed.answer(*message));
                (Table::Answers, held.map(|held| encode_message(held)))
            }
            Row::Retained(topic) => {
                key.extend_from_slice(topic.as_bytes());
                (Table::Retained, self.retained.get(topic).map(|held| encode_message(held)))
            }
            Row::Will(epoch) => {
                put_offset(&mut key, *epoch);
                (Table::Wills, self.wills.get(*epoch).map(postcard_of))
            }
            Row::Topic(id) => {
                put_u32(&mut key, *id);
                (Table::Topics, self.topics.node_row(*id))
            }
            Row::Rates(page) => {
                put_u32(&mut key, *page);
                (Table::Rates, self.topics.page_row(*page))
            }
            Row::Sweep => (Table::Sweep, self.topics.sweep_row()),
            Row::Access => (Table::Access, self.access.row()),
            Row::Counters => (Table::Counters, Some(postcard_of(&self.counters))),
            Row::Node(node) => {
                put_u64(&mut key, *node);
                let start = self.nodes.get(node);
                (Table::Nodes, start.map(|start| start.to_be_bytes().to_vec()))
            }
            Row::Group(number) => {
                put_u32(&mut key, *number);
                (Table::Groups, group(number).map(|held| postcard_of(held.head())))
            }
            Row::GroupOwed(number, chunk) => {
                put_u32(&mut key, *number);
                put_u32(&mut key, *chunk);
                (Table::GroupOwed, group(number).and_then(|held| held.owed().chunk_row(*chunk)))
            }
            Row::GroupHeld(number, slot) => {
                put_u32(&mut key, *number);
                put_u32(&mut key, *slot);
                (Table::GroupHeld, group(number).and_then(|held| held.held_row(*slot)))
            }
        };
        (table, key, value)
    }
}

/// Puts views together from the rows of a checkpoint.
pub(crate) struct Loader {
    views: Views,
    checksum: u64,
}

impl Loader {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { views: Views::new(limits), checksum: 0 }
    }

    /// Takes a row in. Rows come in the order of [`Table::ALL`], within a table by key.
    pub(crate) fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.checksum = self.checksum.wrapping_add(row_checksum(table, key, value));
        self.take(table, key, value).map_err(|Cut| {
            StoreError::Damaged(format!("a row of table {} cannot be read", table.name()))
        })
    }

    /// The views, if the rows are those that were written.
    pub(crate) fn finish(mut self, meta: &Meta) -> Result<Views, StoreError> {
        if self.checksum != meta.checksum {
            return Err(StoreError::Damaged("its checksum does not fit its rows".to_owned()));
        }
        self.views.applied = meta.applied;
        self.views.time = meta.time;
        self.views.sessions.finish_load();
        self.views.topics.finish_load().map_err(|Cut| {
            StoreError::Damaged("a topic stands below one that is not there".to_owned())
        })?;
        self.index();
        self.index_groups().map_err(|Cut| {
            StoreError::Damaged("a member of a group holds what nobody is owed".to_owned())
        })?;
        Ok(self.views)
    }

    /// What is derived from the sessions.
    fn index(&mut self) {
        let views = &mut self.views;
        let slots: Vec<Slot> = views.sessions.slots().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(session) = views.sessions.by_slot_mut(slot) else { continue };
            session.owed.finish_load();
            let expires = session.owed.next_expiry();
            let messages = session.owed.len();
            views.hints.owed(slot, session, messages, expires);
            let (is_persistent, is_online) =
                (session.is_persistent(), session.presence().is_online());
            for subscription in &session.subscriptions {
                views.interest.add(&subscription.filter);
                if let Some(number) = views.groups.number(&subscription.filter) {
                    let is_serving =
                        is_online && views.access.may_join(session, &subscription.filter);
                    views.groups.join(number, slot, Grant::from(subscription), is_serving);
                } else if is_persistent {
                    views.subscriptions.insert(slot, subscription);
                }
            }
        }
        views.interest.end_batch(views.applied);
    }

    /// What is derived from the groups, whose members joined.
    fn index_groups(&mut self) -> Result<(), Cut> {
        let views = &mut self.views;
        let numbers: Vec<Number> = views.groups.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let Some(group) = views.groups.get_mut(number) else { continue };
            group.finish_load()?;
            let expires = group.owed().next_expiry();
            views.hints.group(number, group, expires);
            views.subscriptions.insert_group(group.filter(), number);
        }
        Ok(())
    }

    fn take(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Cut> {
        let views = &mut self.views;
        let mut key = Reader(key);
        match table {
            Table::Sessions => {
                let head: Head = from_postcard(value)?;
                views.sessions.load(key.u32()?, Session::from(head));
            }
            Table::Subscriptions => {
                let session = views.sessions.by_slot_mut(key.u32()?).ok_or(Cut)?;
                let (options, identifier): (SubscriptionOptions, _) = from_postcard(value)?;
                let filter = TopicFilter::new(key.rest_str()?).map_err(|_| Cut)?;
                session.subscribe(Subscription { filter, options, identifier });
            }
            Table::Owed => owed(views, &mut key)?.load_chunk(key.u32()?, value)?,
            Table::Answers => {
                let owed = owed(views, &mut key)?;
                owed.load_answer(take_ref(&mut key)?, RetainedMessage::decode(value)?);
            }
            Table::Retained => views.retained.put(RetainedMessage::decode(value)?.into()),
            Table::Wills => {
                let will: PendingWill = from_postcard(value)?;
                views.wills.arm(take_offset(&mut key)?, will);
            }
            Table::Topics => views.topics.load_node(key.u32()?, value)?,
            Table::Rates => views.topics.load_page(value)?,
            Table::Sweep => views.topics.load_sweep(value)?,
            Table::Access => views.access = Access::load(value).map_err(|_| Cut)?,
            Table::Counters => views.counters = from_postcard(value)?,
            Table::Nodes => {
                views.nodes.insert(key.u64()?, Reader(value).u64()?);
            }
            Table::Groups => {
                let head: shared::Head = from_postcard(value)?;
                views.groups.add(key.u32()?, Group::from_head(head));
            }
            Table::GroupOwed => {
                let group = views.groups.get_mut(key.u32()?).ok_or(Cut)?;
                group.owed_mut().load_chunk(key.u32()?, value)?;
            }
            Table::GroupHeld => {
                let (number, slot) = (key.u32()?, key.u32()?);
                views.groups.get_mut(number).ok_or(Cut)?.load_held(slot, value)?;
                views.groups.hold(number, slot);
            }
        }
        Ok(())
    }
}

impl From<Head> for Session {
    fn from(head: Head) -> Self {
        let (subscriptions, owed) = (Vec::new(), OwedSet::default());
        Self { head, subscriptions, owed, owed_expiry: None }
    }
}

fn owed<'v>(views: &'v mut Views, key: &mut Reader<'_>) -> Result<&'v mut OwedSet, Cut> {
    let session = views.sessions.by_slot_mut(key.u32()?).ok_or(Cut)?;
    Ok(&mut session.owed)
}

fn encode_message(message: &RetainedMessage) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.topic.len() + message.payload.len() + 64);
    message.encode(&mut out);
    out
}

fn postcard_of(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a Vec takes every row")
}

fn from_postcard<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Cut> {
    postcard::from_bytes(bytes).map_err(|_| Cut)
}

fn put_offset(out: &mut Vec<u8>, offset: Offset) {
    put_u64(out, offset.index);
    put_u32(out, offset.ordinal);
}

fn take_offset(from: &mut Reader<'_>) -> Result<Offset, Cut> {
    Ok(Offset::new(from.u64()?, from.u32()?))
}

fn put_ref(out: &mut Vec<u8>, message: DeliveryRef) {
    put_offset(out, message.at);
    put_u32(out, message.nth);
}

fn take_ref(from: &mut Reader<'_>) -> Result<DeliveryRef, Cut> {
    Ok(DeliveryRef { at: take_offset(from)?, nth: from.u32()? })
}
