//! References as the row of a checkpoint.
//!
//! ```text
//! row    = key *item        the key of the first reference, 8 bytes
//! item   = step change      a reference: 1 + how far its key is behind that of the one before (of the
//!                           first: 1), and the bits of its info that are not as there
//!        | 0 count          so many references more, each 1 behind the one before and otherwise like it
//! number = *OCTET           7 bits in each, the lowest first; the 8th says that more follow
//! ```
//!
//! What thousands of sessions are owed is written over and over: messages that follow each other take two
//! or three bytes each or, where they are alike, next to none.

use crate::bytes::{Cut, Reader, put_u64};
use crate::views::owed::Entry;

/// The row of references that ascend.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut row = Vec::with_capacity(64);
    let [mut last, mut info] = [entries.first().map_or(0, |entry| entry.words()[0]), 0];
    put_u64(&mut row, last);
    let mut alike = 0;
    for entry in entries {
        let [key, own] = entry.words();
        let step = key - last;
        if step == 1 && own == info {
            alike += 1;
        } else {
            put_alike(&mut row, &mut alike);
            put_number(&mut row, step + 1);
            put_number(&mut row, own ^ info);
        }
        (last, info) = (key, own);
    }
    put_alike(&mut row, &mut alike);
    row
}

/// The references of a row, at most `max`.
pub(super) fn decode(row: &[u8], max: usize) -> Result<Vec<Entry>, Cut> {
    let mut from = Reader(row);
    let [mut key, mut info] = [from.u64()?, 0];
    let mut entries = Vec::<Entry>::new();
    while !from.0.is_empty() {
        let (step, change, count) = match (number(&mut from)?, number(&mut from)?) {
            (0, count) => (1, 0, count),
            (step, change) => (step - 1, change, 1),
        };
        if count > (max - entries.len()) as u64 {
            return Err(Cut);
        }
        info ^= change;
        for _ in 0..count {
            key = key.checked_add(step).ok_or(Cut)?;
            let entry = Entry::from_words([key, info]);
            if entries.last().is_some_and(|last| last.message() >= entry.message()) {
                return Err(Cut);
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn put_alike(row: &mut Vec<u8>, count: &mut u64) {
    if *count > 0 {
        put_number(row, 0);
        put_number(row, std::mem::take(count));
    }
}

fn put_number(row: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        row.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    row.push(number.to_le_bytes()[0]);
}

fn number(from: &mut Reader<'_>) -> Result<u64, Cut> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let octet = from.u8()?;
        let bits = u64::from(octet & 0x7F);
        number |= bits << shift;
        if octet < 0x80 {
            return if bits << shift >> shift == bits { Ok(number) } else { Err(Cut) };
        }
    }
    Err(Cut)
}
