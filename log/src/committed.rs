//! A batch that is durable and ordered, as readers see it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ledgermq_core::event::batch::{Batch, Record};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};
use serde::{Deserialize, Serialize};

use crate::envelope::{self, ENVELOPE_BYTES, EnvelopeError};

/// Bytes that a batch takes besides its own: this struct, its counts, its places in lists.
const HELD_BYTES: usize = 256;

/// A committed batch of events.
///
/// Its bytes are shared: keeping one batch alive keeps its 64 KiB (or the one larger message)
/// alive and nothing else.
pub struct CommittedBatch {
    /// Raft index of the entry.
    pub index: Index,
    /// The leader's time, never below that of the batch before.
    pub time: Timestamp,
    /// Who built it.
    pub producer: ProducerId,
    /// The producer's number for it, from 1.
    pub sequence: u64,
    /// Whether it came late: its openings are void.
    is_late: bool,
    bytes: Bytes,
    voids: Voids,
}

/// What of a batch is void: decided by admission, the same on every node and at every reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Voids {
    /// Nothing.
    #[default]
    None,
    /// Everything: the producer's sequence did not fit.
    All,
    /// Single records.
    Records {
        /// For each session of the batch's table the ordinal from which its records are void.
        from: Arc<[u32]>,
        /// Ordinals of the openings that are void, ascending.
        openings: Arc<[u32]>,
    },
}

impl CommittedBatch {
    /// Opens an entry's bytes. `check` also takes the checksum of the body (bytes from a disk).
    pub(crate) fn open(
        index: Index,
        bytes: Bytes,
        check: bool,
    ) -> Result<CommittedBatch, EnvelopeError> {
        let (envelope, body) = envelope::open(&bytes, check)?;
        Batch::parse(body).map_err(|error| EnvelopeError(error.0))?;
        let envelope::Envelope { time, producer, sequence, is_late } = envelope;
        Ok(Self { index, time, producer, sequence, is_late, bytes, voids: Voids::None })
    }

    pub(crate) fn with_voids(mut self, voids: Voids) -> Self {
        self.voids = voids;
        self
    }

    /// The events.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch::parse(&self.bytes[ENVELOPE_BYTES..]).expect("the frame was checked at commit")
    }

    /// Whether `record`, one of this batch, is void: nobody may act upon it.
    ///
    /// Either the whole batch is (see [`Self::is_admitted`]), or the record's session was not, or
    /// no longer, at the epoch that the record names, or the record opens a session that belongs to
    /// another user, or opens one in a batch that came late ([`Self::is_late`]).
    #[must_use]
    pub fn is_void(&self, record: &Record<'_>) -> bool {
        match &self.voids {
            Voids::None => false,
            Voids::All => true,
            Voids::Records { from, openings } => match record.session {
                Some(slot) => {
                    from.get(usize::from(slot)).is_some_and(|&from| record.ordinal >= from)
                }
                None => openings.binary_search(&record.ordinal).is_ok(),
            },
        }
    }

    /// Whether the batch as such counts. If not, it was sent twice or out of order, and its
    /// producer has its receipt from another batch.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.voids != Voids::All
    }

    /// Whether it waited so long for the log that its clients may have gone elsewhere: the sessions
    /// that it would open are void.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.is_late
    }

    /// Whether no record is void (then [`Self::is_void`] need not be asked).
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.voids == Voids::None
    }

    /// Bytes that it takes in memory, about.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes.len() + HELD_BYTES
    }

    /// Bytes of the batch with its envelope.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for CommittedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommittedBatch")
            .field("index", &self.index)
            .field("time", &self.time)
            .field("producer", &self.producer)
            .field("sequence", &self.sequence)
            .field("bytes", &self.bytes.len())
            .field("voids", &self.voids)
            .finish()
    }
}
