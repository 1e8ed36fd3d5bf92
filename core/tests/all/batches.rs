//! Round trips of batches, and bytes that are none.

use ledgermq_core::event::batch::{Batch, BatchSession, Record};
use ledgermq_core::event::{BatchBuilder, Event, EventRef, MessagePublished};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Offset, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::generate;
use super::generate::events;

/// What goes into a batch.
#[derive(Clone, Debug)]
struct Entry {
    session: Option<(ClientId, Offset)>,
    cause: Option<Offset>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Message(MessagePublished<'static>),
    Other(Event),
}

impl Entry {
    fn append(&self, builder: &mut BatchBuilder) -> u32 {
        let session = self.session.as_ref().map(|(client, epoch)| (client, *epoch));
        match &self.content {
            Content::Message(message) => builder.publish(session, self.cause, message),
            Content::Other(event) => builder.push(session, self.cause, event),
        }
    }

    fn is_fence(&self) -> bool {
        matches!(&self.content, Content::Other(event) if event.is_fence())
    }

    fn check(&self, batch: &Batch<'_>, record: &Record<'_>) -> Result<(), TestCaseError> {
        prop_assert_eq!(record.cause, self.cause);
        prop_assert_eq!((record.key_id, record.storage_class), (0, 0));
        let session = session_of(batch, record);
        let session = session.map(|session| (ClientId::from(session.client), session.epoch));
        prop_assert_eq!(&session, &self.session);
        match (record.event().unwrap(), &self.content) {
            (EventRef::MessagePublished(message), Content::Message(expected)) => {
                prop_assert_eq!(&message, expected);
                prop_assert!(record.is_message());
            }
            (EventRef::Other(event), Content::Other(expected)) => {
                prop_assert_eq!(&event, expected);
                prop_assert!(!record.is_message());
            }
            (event, expected) => prop_assert!(false, "{event:?} is not {expected:?}"),
        }
        Ok(())
    }
}

fn session_of<'a>(batch: &Batch<'a>, record: &Record<'_>) -> Option<BatchSession<'a>> {
    let number = usize::from(record.session?);
    batch.sessions().nth(number).transpose().unwrap()
}

fn canonical(batch: &Batch<'_>, record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let session = session_of(batch, record);
    record.canonical(batch.namespace(), Offset::new(7, 3), Timestamp(11), session, &mut out);
    out
}

/// Few sessions: one of a few clients, each at its own epochs, which are unique in the log.
fn session() -> impl Strategy<Value = Option<(ClientId, Offset)>> {
    option::of((0_u32..4, 0_u32..2).prop_map(|(client, epoch)| {
        let name = ClientId::from(["", "a", "client", "ä"][client as usize]);
        (name, Offset::new(u64::from(epoch), client))
    }))
}

fn entry() -> impl Strategy<Value = Entry> {
    let content = prop_oneof![
        3 => events::message().prop_map(Content::Message),
        2 => events::event().prop_map(Content::Other),
    ];
    (session(), option::of(events::offset()), content).prop_map(|(session, cause, content)| Entry {
        session,
        cause,
        content,
    })
}

fn built(entries: &[Entry], headroom: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(headroom);
    for entry in entries {
        entry.append(&mut builder);
    }
    builder.finish(Vec::new())
}

/// Bytes of a batch behind its tables.
const FOOTER: usize = 24;

proptest! {
    #[test]
    fn what_was_built_is_read(entries in vec(entry(), 0..20), headroom in 0_usize..50) {
        let mut builder = BatchBuilder::new(headroom);
        for (ordinal, entry) in (0..).zip(&entries) {
            prop_assert_eq!(entry.append(&mut builder), ordinal);
        }
        let bytes = builder.finish(Vec::new());
        prop_assert!(builder.is_empty());
        let batch = Batch::parse(&bytes[headroom..]).unwrap();
        prop_assert_eq!(batch.len() as usize, entries.len());
        let records: Vec<_> = batch.records().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len(), entries.len());
        for ((ordinal, entry), record) in (0..).zip(&entries).zip(&records) {
            prop_assert_eq!(record.ordinal, ordinal);
            entry.check(&batch, record)?;
            let again = batch.record_at(record.place()).unwrap();
            entry.check(&batch, &again)?;
            prop_assert_eq!(again.place(), record.place());
        }
        let fences: Vec<_> = batch.fences().collect();
        let expected = entries.iter().zip(&records).filter(|(entry, _)| entry.is_fence());
        prop_assert_eq!(fences, expected.map(|(_, record)| record.place()).collect::<Vec<_>>());
    }

    #[test]
    fn absorbed_batches_are_as_if_built_at_once(
        parts in vec((vec(entry(), 0..6), 0_usize..20), 0..6),
        headroom in 0_usize..50,
    ) {
        let mut builder = BatchBuilder::new(headroom);
        let mut first = 0;
        for (entries, headroom) in &parts {
            let mut part = BatchBuilder::new(*headroom);
            for entry in entries {
                entry.append(&mut part);
            }
            prop_assert_eq!(builder.absorb(&mut part), first);
            first += u32::try_from(entries.len()).unwrap();
            prop_assert!(part.is_empty() && part.bytes() == 0);
            prop_assert_eq!(builder.len(), first);
        }
        let entries: Vec<_> = parts.into_iter().flat_map(|(entries, _)| entries).collect();
        prop_assert_eq!(builder.finish(Vec::new()), built(&entries, headroom));
    }

    #[test]
    fn a_builder_is_as_new_after_its_batch(before in vec(entry(), 0..6), entries in vec(entry(), 0..6)) {
        let mut builder = BatchBuilder::new(9);
        for entry in &before {
            entry.append(&mut builder);
        }
        let spare = builder.finish(vec![1, 2, 3]);
        for entry in &entries {
            entry.append(&mut builder);
        }
        let told = builder.bytes();
        let bytes = builder.finish(spare);
        prop_assert_eq!(told, bytes.len() - 9 - FOOTER);
        prop_assert_eq!(&bytes[9..], &built(&entries, 0));
        builder.clear();
        prop_assert_eq!(&builder.finish(Vec::new())[9..], &built(&[], 0));
    }

    #[test]
    fn the_canonical_form_depends_on_the_event_alone(
        before in vec(entry(), 0..6),
        entry in entry(),
        after in vec(entry(), 0..3),
    ) {
        let alone = built(std::slice::from_ref(&entry), 0);
        let alone = Batch::parse(&alone).unwrap();
        let expected = canonical(&alone, &alone.records().next().unwrap().unwrap());
        let place = before.len();
        let entries: Vec<_> = before.into_iter().chain([entry]).chain(after).collect();
        let bytes = built(&entries, 0);
        let batch = Batch::parse(&bytes).unwrap();
        let record = batch.records().nth(place).unwrap().unwrap();
        prop_assert_eq!(canonical(&batch, &record), expected);
    }

    #[test]
    fn different_events_have_different_canonical_forms(one in entry(), other in entry()) {
        let form = |entry: &Entry| {
            let bytes = built(std::slice::from_ref(entry), 0);
            let batch = Batch::parse(&bytes).unwrap();
            canonical(&batch, &batch.records().next().unwrap().unwrap())
        };
        // No session, or no cause, reads as one at the offset of zero.
        let session = |entry: &Entry| entry.session.clone().unwrap_or(("".into(), Offset::ZERO));
        let same = session(&one) == session(&other)
            && one.cause.unwrap_or_default() == other.cause.unwrap_or_default()
            && format!("{:?}", one.content) == format!("{:?}", other.content);
        prop_assert_eq!(form(&one) == form(&other), same);
    }

    #[test]
    fn damaged_batches_give_events_or_errors(
        entries in vec(entry(), 0..6),
        changes in generate::mutation(),
    ) {
        read_all(&generate::mutated(&built(&entries, 0), &changes));
    }

    #[test]
    fn any_bytes_are_a_batch_or_an_error(bytes in vec(any::<u8>(), 0..300), footer in any::<[u8; 4]>()) {
        read_all(&bytes);
        // With a footer that is right as far as possible, more of the reader is reached.
        let mut bytes = bytes;
        let length = u32::try_from(bytes.len()).unwrap();
        bytes.extend(length.to_le_bytes());
        bytes.extend(u32::from(footer[0]).to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend([1, 0, 0, 0]);
        read_all(&bytes);
    }
}

/// Reads everything that there is in a batch.
pub(super) fn read_all(bytes: &[u8]) {
    let Ok(batch) = Batch::parse(bytes) else { return };
    let sessions: Vec<_> = batch.sessions().collect();
    for fence in batch.fences() {
        if let Ok(record) = batch.record_at(fence) {
            let _ = record.event();
        }
    }
    let mut out = Vec::new();
    for record in batch.records().filter_map(Result::ok) {
        let session = record.session.and_then(|number| sessions.get(usize::from(number)));
        let session = session.and_then(|session| session.ok());
        record.canonical(batch.namespace(), Offset::ZERO, Timestamp(0), session, &mut out);
        let _ = record.event();
        let again = batch.record_at(record.place()).unwrap();
        assert_eq!(again.place(), record.place());
    }
}
