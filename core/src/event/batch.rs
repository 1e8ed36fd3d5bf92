//! Reading batches.

use std::fmt;

use crate::event::{Event, EventError, EventRef, MessagePublished, VERSION};
use crate::offset::{Offset, Timestamp};

/// Size at which a batch is closed when the log is busy, in bytes.
pub const TARGET_BYTES: usize = 64 << 10;
/// Size that no batch passes, but for one larger message alone.
pub const MAX_BYTES: usize = 256 << 10;

pub(crate) const RECORD_HEADER: usize = 8;
pub(crate) const NO_SESSION: u16 = u16::MAX;
pub(crate) const KIND_MESSAGE: u8 = 1;
pub(crate) const KIND_OTHER: u8 = 2;
pub(crate) const HAS_CAUSE: u8 = 1 << 6;
pub(crate) const HAS_KEY: u8 = 1 << 7;
pub(crate) const STORAGE_CLASS_SHIFT: u8 = 3;
pub(crate) const FOOTER: usize = 24;
const CAUSE_BYTES: usize = 12;

/// The body of a batch: records, the sessions that they concern, and the *fences* (the records
/// that open or end sessions, which admission looks at: [`Event::is_fence`]).
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    records: &'a [u8],
    sessions: &'a [u8],
    fences: &'a [u8],
    footer: Footer,
}

#[derive(Clone, Copy)]
pub(crate) struct Footer {
    pub(crate) records_bytes: u32,
    pub(crate) records: u32,
    pub(crate) sessions_bytes: u32,
    pub(crate) sessions: u16,
    pub(crate) fences: u16,
    pub(crate) namespace: u32,
}

impl Footer {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.records_bytes.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.sessions_bytes.to_le_bytes());
        out.extend_from_slice(&self.sessions.to_le_bytes());
        out.extend_from_slice(&self.fences.to_le_bytes());
        out.extend_from_slice(&self.namespace.to_le_bytes());
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
    }

    fn decode(bytes: &[u8; FOOTER]) -> Result<Self, EventError> {
        if bytes[20] != VERSION {
            return Err(EventError("unknown version of batch"));
        }
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Ok(Self {
            records_bytes: u32_at(0),
            records: u32_at(4),
            sessions_bytes: u32_at(8),
            sessions: u16_at(12),
            fences: u16_at(14),
            namespace: u32_at(16),
        })
    }
}

/// A session as a batch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSession<'a> {
    /// The client.
    pub client: &'a str,
    /// Offset of its `SessionOpened`.
    pub epoch: Offset,
}

/// Where a record stands; of a *fence*, a record that opens or ends sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Ordinal of the record.
    pub ordinal: u32,
    /// Byte position of the record in the batch.
    pub position: u32,
}

/// One event of a batch with what its record says about it.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Place in the batch, from 0.
    pub ordinal: u32,
    /// Byte position in the batch, for [`Batch::record_at`].
    pub position: u32,
    /// Number of the session in the batch's table ([`Batch::sessions`]).
    pub session: Option<u16>,
    /// The event from which this one derives.
    pub cause: Option<Offset>,
    /// Key with which the payload is encrypted; 0 is none.
    pub key_id: u32,
    /// Storage class, 0 to 3; 0 is the default.
    pub storage_class: u8,
    kind: u8,
    flags: u8,
    body: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the frame of a batch. The records are checked as they are read.
    ///
    /// # Errors
    ///
    /// If the footer is of an unknown version or its lengths do not fit.
    pub fn parse(body: &'a [u8]) -> Result<Self, EventError> {
        const LENGTHS: EventError = EventError("lengths of the batch do not fit");
        let (rest, footer) = body.split_last_chunk::<FOOTER>().ok_or(LENGTHS)?;
        let footer = Footer::decode(footer)?;
        let (records, rest) =
            rest.split_at_checked(footer.records_bytes as usize).ok_or(LENGTHS)?;
        let (sessions, fences) =
            rest.split_at_checked(footer.sessions_bytes as usize).ok_or(LENGTHS)?;
        if fences.len() != usize::from(footer.fences) * 8 {
            return Err(LENGTHS);
        }
        Ok(Self { records, sessions, fences, footer })
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.footer.records
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.footer.records == 0
    }

    /// The namespace that all records belong to.
    #[must_use]
    pub fn namespace(&self) -> u32 {
        self.footer.namespace
    }

    /// The records in order. The iterator ends after the first error.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records { rest: self.records, next: 0, position: 0, count: self.footer.records }
    }

    /// The records from that at `place` on, a place that [`Record::place`] told; none if that is
    /// behind the last.
    #[must_use]
    pub fn records_from(&self, place: Fence) -> Records<'a> {
        let Fence { ordinal, position } = place;
        let rest = self.records.get(position as usize..).unwrap_or_default();
        let count = if rest.is_empty() { ordinal } else { self.footer.records };
        Records { rest, next: ordinal, position, count }
    }

    /// The sessions of the table, in the order of their numbers.
    pub fn sessions(&self) -> impl Iterator<Item = Result<BatchSession<'a>, EventError>> + use<'a> {
        let mut rest = self.sessions;
        (0..self.footer.sessions).map(move |_| {
            let (session, after) = decode_session(rest)?;
            rest = after;
            Ok(session)
        })
    }

    /// The fences in order.
    pub fn fences(&self) -> impl Iterator<Item = Fence> + use<'a> {
        let u32_of = |bytes: &[u8]| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[i]));
        self.fences
            .chunks_exact(8)
            .map(move |pair| Fence { ordinal: u32_of(&pair[..4]), position: u32_of(&pair[4..]) })
    }

    /// The record at a place that [`Record::place`] or a fence told.
    ///
    /// # Errors
    ///
    /// If there is no record at that position.
    pub fn record_at(&self, fence: Fence) -> Result<Record<'a>, EventError> {
        let rest = self
            .records
            .get(fence.position as usize..)
            .ok_or(EventError("a fence points behind the records"))?;
        decode_record(rest, fence.ordinal, fence.position).map(|(record, _)| record)
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("records", &self.footer.records).finish_non_exhaustive()
    }
}

fn decode_session(bytes: &[u8]) -> Result<(BatchSession<'_>, &[u8]), EventError> {
    const SHORT: EventError = EventError("session table is cut");
    let (index, rest) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
    let (ordinal, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(SHORT)?;
    let (client, rest) =
        rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or(SHORT)?;
    let client = str::from_utf8(client).map_err(|_| EventError("client is not UTF-8"))?;
    let epoch = Offset::new(u64::from_le_bytes(*index), u32::from_le_bytes(*ordinal));
    Ok((BatchSession { client, epoch }, rest))
}

fn decode_record(
    bytes: &[u8],
    ordinal: u32,
    position: u32,
) -> Result<(Record<'_>, &[u8]), EventError> {
    const SHORT: EventError = EventError("record is cut");
    let (length, _) = bytes.split_first_chunk::<4>().ok_or(SHORT)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (record, rest) = bytes.split_at_checked(length).ok_or(SHORT)?;
    let (header, mut body) = record.split_first_chunk::<RECORD_HEADER>().ok_or(SHORT)?;
    let (kind, flags) = (header[4], header[5]);
    let session = u16::from_le_bytes([header[6], header[7]]);
    let mut cause = None;
    if flags & HAS_CAUSE != 0 {
        let (bytes, rest) = body.split_first_chunk::<CAUSE_BYTES>().ok_or(SHORT)?;
        let index = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[i]));
        cause = Some(Offset::new(index, u32::from_le_bytes([8, 9, 10, 11].map(|i| bytes[i]))));
        body = rest;
    }
    let mut key_id = 0;
    if flags & HAS_KEY != 0 {
        let (bytes, rest) = body.split_first_chunk::<4>().ok_or(SHORT)?;
        key_id = u32::from_le_bytes(*bytes);
        body = rest;
    }
    let record = Record {
        ordinal,
        position,
        session: (session != NO_SESSION).then_some(session),
        cause,
        key_id,
        storage_class: (flags >> STORAGE_CLASS_SHIFT) & 0b11,
        kind,
        flags,
        body,
    };
    Ok((record, rest))
}

/// The records of a batch, in order.
#[derive(Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    next: u32,
    position: u32,
    count: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, EventError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        match decode_record(self.rest, self.next, self.position) {
            Ok((record, rest)) => {
                let length = self.rest.len() - rest.len();
                self.position += u32::try_from(length).expect("a length of 32 bits");
                self.rest = rest;
                self.next += 1;
                Some(Ok(record))
            }
            Err(error) => {
                self.next = self.count;
                Some(Err(error))
            }
        }
    }
}

impl<'a> Record<'a> {
    /// Whether this is a published message (answered without decoding it).
    #[must_use]
    pub fn is_message(&self) -> bool {
        self.kind == KIND_MESSAGE
    }

    /// Where the record stands in its batch.
    #[must_use]
    pub fn place(&self) -> Fence {
        Fence { ordinal: self.ordinal, position: self.position }
    }

    /// Decodes the event.
    ///
    /// # Errors
    ///
    /// If the bytes are none of a known event.
    pub fn event(&self) -> Result<EventRef<'a>, EventError> {
        match self.kind {
            KIND_MESSAGE => {
                MessagePublished::decode(self.flags, self.body).map(EventRef::MessagePublished)
            }
            KIND_OTHER => match postcard::take_from_bytes::<Event>(self.body) {
                Ok((event, [])) => Ok(EventRef::Other(event)),
                Ok(_) => Err(EventError("bytes after the event")),
                Err(_) => Err(EventError("unknown event")),
            },
            _ => Err(EventError("unknown kind of record")),
        }
    }

    /// Appends the canonical form of the event: what the history's proof is taken of. It depends
    /// on nothing but the decoded fields (`core/README.md` has the layout).
    pub fn canonical(
        &self,
        namespace: u32,
        offset: Offset,
        time: Timestamp,
        session: Option<BatchSession<'_>>,
        out: &mut Vec<u8>,
    ) {
        out.push(VERSION);
        out.extend_from_slice(&namespace.to_le_bytes());
        out.extend_from_slice(&offset.index.to_le_bytes());
        out.extend_from_slice(&offset.ordinal.to_le_bytes());
        out.extend_from_slice(&time.0.to_le_bytes());
        let session = session.unwrap_or(BatchSession { client: "", epoch: Offset::ZERO });
        let cause = self.cause.unwrap_or(Offset::ZERO);
        for place in [session.epoch, cause] {
            out.extend_from_slice(&place.index.to_le_bytes());
            out.extend_from_slice(&place.ordinal.to_le_bytes());
        }
        out.extend_from_slice(&self.key_id.to_le_bytes());
        out.extend_from_slice(&[self.storage_class, self.kind, self.flags & 0b111]);
        let client = u16::try_from(session.client.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&client.to_le_bytes());
        out.extend_from_slice(session.client.as_bytes());
        out.extend_from_slice(self.body);
    }
}
