//! Batches on their way to the leader, and back if they do not fit.

use bytes::Bytes;
use ledgermq_core::event::batch::Batch;

use super::FrameError;
use super::fields::{Reader, put_numbers};
use crate::{admission, envelope};

/// A batch has at least an envelope and a footer; this is less.
const BATCH_BYTES_MIN: usize = 48;

/// Closed batches that are not stamped yet, for the leader of `term`.
///
/// Body: term (64 bits), count (32 bits), then each batch behind its length (32 bits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The term whose leader is meant.
    pub term: u64,
    /// The batches in the order of their producers. Each has memory of its own.
    pub batches: Vec<Bytes>,
}

impl Forward {
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        const TOO_LONG: FrameError = FrameError::Content("is too long");
        put_numbers(out, &[self.term]);
        let count = u32::try_from(self.batches.len()).map_err(|_| TOO_LONG)?;
        out.extend_from_slice(&count.to_le_bytes());
        for batch in &self.batches {
            let length = u32::try_from(batch.len()).map_err(|_| TOO_LONG)?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(batch);
        }
        Ok(())
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let term = reader.u64()?;
        let count = reader.u32()? as usize;
        if term == 0 || count == 0 {
            return Err(FrameError::Content("forwards nothing, or to nobody"));
        }
        if count > reader.left() / (4 + BATCH_BYTES_MIN) {
            return Err(FrameError::Content("announces more batches than it holds"));
        }
        let mut batches = Vec::with_capacity(count);
        for _ in 0..count {
            let length = reader.u32()? as usize;
            let bytes = reader.slice(length)?;
            let (_, events) =
                envelope::open_closed(bytes).map_err(|error| FrameError::Content(error.0))?;
            let batch = Batch::parse(events).map_err(|error| FrameError::Content(error.0))?;
            admission::check(&batch).map_err(|error| FrameError::Content(error.0))?;
            batches.push(Bytes::copy_from_slice(bytes));
        }
        reader.end()?;
        Ok(Self { term, batches })
    }
}

/// Forwarded batches were not taken.
///
/// Body: term (64 bits), why (8 bits: 1 to 4), the leader (64 bits, 0 if it is not known).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The term for which they were forwarded.
    pub term: u64,
    /// Why.
    pub why: Why,
}

/// Why forwarded batches were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This node does not lead.
    NotLeader {
        /// Who does; 0 if that is not known.
        leader: u64,
    },
    /// It is another term.
    Term,
    /// As much as may wait is waiting.
    Full,
    /// Leadership is on its way to another node.
    Transfer,
}

impl Refused {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(out, &[self.term]);
        let (why, leader) = match self.why {
            Why::NotLeader { leader } => (1, leader),
            Why::Term => (2, 0),
            Why::Full => (3, 0),
            Why::Transfer => (4, 0),
        };
        out.push(why);
        put_numbers(out, &[leader]);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let term = reader.u64()?;
        let why = match (reader.u8()?, reader.u64()?) {
            (1, leader) => Why::NotLeader { leader },
            (2, 0) => Why::Term,
            (3, 0) => Why::Full,
            (4, 0) => Why::Transfer,
            _ => return Err(FrameError::Content("refuses for an unknown reason")),
        };
        reader.end()?;
        Ok(Self { term, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::of_a_later_version;

    /// Once it is committed no node could go on.
    #[test]
    fn a_batch_that_the_fold_would_not_understand_is_refused() {
        let forward = Forward { term: 1, batches: vec![of_a_later_version().into()] };
        let mut body = Vec::new();
        forward.encode(&mut body).expect("it is short");
        assert_eq!(Forward::decode(&body), Err(FrameError::Content("unknown event")));
    }
}
