//! Hashes of passwords: Argon2id, which we write, and what Mosquitto writes.
//!
//! | form | what it is |
//! |---|---|
//! | `$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH` | Argon2id (RFC 9106), base64 unpadded |
//! | `$7$ITERATIONS$SALT$HASH` | PBKDF2 with HMAC-SHA-512, base64 |
//! | `$6$SALT$HASH` | SHA-512 of password and salt, base64; Mosquitto before 2.0 |

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, pbkdf2};

/// What we write: OWASP's second choice, 19 MiB and two passes, some 20 ms.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// What a line of a file may make the node spend on one comparison.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 64;
const ITERATIONS_MAX: u32 = 10_000_000;
/// Bytes of a salt or hash, decoded.
const FIELD_BYTES_MAX: usize = 256;
/// Memory that is kept from one comparison to the next. What a line asks for beyond is taken for its
/// comparison alone.
const KEPT_KIB: usize = 64 << 10;

/// The memory of Argon2id, kept by who compares again and again: an allocator that is asked for 19
/// MiB and gets them back a hundred times a second, on several threads, holds many times as much.
#[derive(Default)]
pub(crate) struct Scratch(Vec<Block>);

impl Scratch {
    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            // Not both at once.
            self.0 = Vec::new();
            self.0 = vec![Block::default(); count];
        }
        &mut self.0[..count]
    }

    /// What is kept; a block is 1 KiB.
    #[cfg(test)]
    pub(crate) fn kib(&self) -> usize {
        self.0.len()
    }

    fn trim(&mut self) {
        if self.0.len() > KEPT_KIB {
            self.0 = Vec::new();
        }
    }
}

/// The operating system gave no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoRandomness;

/// The hash of a password.
#[derive(Clone)]
pub(crate) enum Hash {
    Argon2id { params: Params, salt: Box<[u8]>, hash: Box<[u8]> },
    Pbkdf2 { iterations: NonZeroU32, salt: Box<[u8]>, hash: Box<[u8]> },
    Sha512 { salt: Box<[u8]>, hash: Box<[u8]> },
}

/// The hash of `password` as a line of a `password_file` carries it, with a salt of its own.
///
/// # Errors
///
/// If there is no randomness.
pub fn of(password: &[u8]) -> Result<String, NoRandomness> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| NoRandomness)?;
    let mut hash = [0; HASH_BYTES];
    let hashed = argon2(ours()).hash_password_into(password, &salt, &mut hash);
    hashed.expect("a password has less than 4 GiB, and salt and hash are of a good length");
    let [salt, hash] = [salt.as_slice(), &hash].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}"))
}

impl Hash {
    /// Reads a hash; none if it is of no known form or asks for too much.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split('$').collect();
        match fields[..] {
            ["", "argon2id", "v=19", params, salt, hash] => {
                let (salt, hash) = (field(salt)?, field(hash)?);
                let params = argon2_params(params, hash.len())?;
                (salt.len() >= argon2::MIN_SALT_LEN).then_some(Self::Argon2id {
                    params,
                    salt,
                    hash,
                })
            }
            ["", "7", iterations, salt, hash] => {
                let iterations: NonZeroU32 = iterations.parse().ok()?;
                let is_bearable = iterations.get() <= ITERATIONS_MAX;
                let (salt, hash) = (field(salt)?, field(hash)?);
                is_bearable.then_some(Self::Pbkdf2 { iterations, salt, hash })
            }
            ["", "6", salt, hash] => Some(Self::Sha512 { salt: field(salt)?, hash: field(hash)? }),
            _ => None,
        }
    }

    /// A hash that no password has, as expensive as those that we write.
    pub(crate) fn decoy() -> Self {
        Self::Argon2id {
            params: ours(),
            salt: [0; SALT_BYTES].into(),
            hash: [0; HASH_BYTES].into(),
        }
    }

    /// Whether it is the hash of `password`. Compares in constant time.
    pub(crate) fn is_of(&self, password: &[u8], scratch: &mut Scratch) -> bool {
        match self {
            Self::Argon2id { params, salt, hash } => {
                let mut computed = vec![0; hash.len()];
                let blocks = scratch.blocks(params.block_count());
                let hashed = argon2(params.clone()).hash_password_into_with_memory(
                    password,
                    salt,
                    &mut computed,
                    blocks,
                );
                scratch.trim();
                hashed.is_ok() && is_equal(&computed, hash)
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
                pbkdf2::verify(algorithm, *iterations, salt, password, hash).is_ok()
            }
            Self::Sha512 { salt, hash } => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                is_equal(context.finish().as_ref(), hash)
            }
        }
    }
}

impl fmt::Debug for Hash {
    /// The kind alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2id { .. } => "Argon2id",
            Self::Pbkdf2 { .. } => "Pbkdf2",
            Self::Sha512 { .. } => "Sha512",
        })
    }
}

fn ours() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES)).expect("they are within the bounds")
}

fn argon2(params: Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// `m=KIB,t=PASSES,p=LANES`
fn argon2_params(text: &str, hash_bytes: usize) -> Option<Params> {
    let mut fields = text.split(',');
    let mut number =
        |prefix: &str| -> Option<u32> { fields.next()?.strip_prefix(prefix)?.parse().ok() };
    let (memory, passes, lanes) = (number("m=")?, number("t=")?, number("p=")?);
    let is_bearable = memory <= MEMORY_KIB_MAX && passes <= PASSES_MAX && lanes <= LANES_MAX;
    // The crate multiplies lanes without a look: it gets no number that overflows.
    if fields.next().is_some() || !is_bearable {
        return None;
    }
    Params::new(memory, passes, lanes, Some(hash_bytes)).ok()
}

/// A salt or hash in base64, padded or not.
fn field(text: &str) -> Option<Box<[u8]>> {
    let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
    (1..=FIELD_BYTES_MAX).contains(&bytes.len()).then(|| bytes.into())
}

fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}
