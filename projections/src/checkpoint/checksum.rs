//! A checksum that follows changes: the sum of one number per row.

use crate::checkpoint::Table;

const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// The number of a row. A state's checksum is the wrapping sum over its rows: whoever changes a row
/// subtracts the old one's number and adds the new one's, and order does not matter.
///
/// It finds damage and divergence; it is no protection against intent.
#[must_use]
pub fn row_checksum(table: Table, key: &[u8], value: &[u8]) -> u64 {
    digest(table as u64, &[key, value])
}

/// A number for `parts`, which are the `number`-th of their kind.
pub(super) fn digest(number: u64, parts: &[&[u8]]) -> u64 {
    let mut state = number.wrapping_add(1).wrapping_mul(MIX);
    for part in parts {
        state = absorb(state, part.len() as u64);
        let mut words = part.chunks_exact(8);
        for word in &mut words {
            let word = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| word[i]);
            state = absorb(state, u64::from_le_bytes(word));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        state = absorb(state, u64::from_le_bytes(last));
    }
    state ^ (state >> 29)
}

fn absorb(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(MIX);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(23)
}
