//! Which cluster a data directory belongs to, and which node it is.
//!
//! The file `cluster/identity` holds CRC32C (little endian) of what follows it, a version byte and
//! the [`Identity`] as postcard. It is written last when a node joins: where it is whole, everything
//! else of the node's credentials is there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;
const CHECKSUM: usize = 4;

/// The name of a cluster: 16 random bytes, drawn when it is founded. Written as 32 hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text or bytes that are no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not 32 hex digits.
    #[error("the name of a cluster is 32 hex digits")]
    Name,
    /// The file is damaged, or unfinished.
    #[error("its checksum does not match")]
    Checksum,
    /// A later version wrote it.
    #[error("it was written by another version of ledgermq")]
    Version,
}

impl FromStr for ClusterId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(IdentityError::Name);
        }
        let mut id = [0; 16];
        for (at, byte) in id.iter_mut().enumerate() {
            let digits = &text[2 * at..2 * at + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| IdentityError::Name)?;
        }
        Ok(Self(id))
    }
}

/// Who a node is, for as long as its data directory lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its number, from 1; never given to another node of the cluster.
    pub node: u64,
    /// Which life of the cluster: counted up when it is restored from a backup.
    pub generation: u64,
    /// Start epochs below this one were used by an earlier log of the node: an empty log counts
    /// from here.
    pub start_min: u64,
}

impl Identity {
    /// The content of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; CHECKSUM];
        bytes.push(VERSION);
        let bytes = postcard::to_extend(self, bytes);
        let mut bytes = bytes.expect("an identity can be written to memory");
        let sum = crc32c::crc32c(&bytes[CHECKSUM..]);
        bytes[..CHECKSUM].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    ///
    /// If it is damaged, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let (sum, rest) = bytes.split_first_chunk::<CHECKSUM>().ok_or(IdentityError::Checksum)?;
        if crc32c::crc32c(rest).to_le_bytes() != *sum {
            return Err(IdentityError::Checksum);
        }
        let (version, rest) = rest.split_first().ok_or(IdentityError::Checksum)?;
        match postcard::take_from_bytes(rest) {
            Ok((identity, [])) if *version == VERSION => Ok(identity),
            _ => Err(IdentityError::Version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity =
        Identity { cluster: ClusterId([0xAB; 16]), node: 3, generation: 1, start_min: 300 };

    #[test]
    fn an_identity_reads_back() {
        assert_eq!(Identity::decode(&IDENTITY.encode()), Ok(IDENTITY));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let good = IDENTITY.encode();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                assert!(Identity::decode(&bytes).is_err(), "byte {at} bit {bit}");
            }
            assert!(Identity::decode(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_name_is_32_hex_digits() {
        let id = ClusterId([0xAB; 16]);
        assert_eq!(id.to_string(), "abababababababababababababababab");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "ab", "+babababababababababababababababa", &"ä".repeat(16)] {
            assert_eq!(text.parse::<ClusterId>(), Err(IdentityError::Name), "{text}");
        }
    }
}
