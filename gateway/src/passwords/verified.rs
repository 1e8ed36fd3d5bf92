//! Passwords that were found right lately, so that a storm of reconnects does not cost their
//! hashes again.

use std::fmt;

use hashbrown::HashMap;
use ring::hmac;
use ring::rand::SystemRandom;

/// Users that are remembered; beyond it all are forgotten.
const USERS_MAX: usize = 16_384;

/// The last right password of each user, under a key that lives as long as this table and is
/// nowhere else.
pub(crate) struct Verified {
    key: Option<hmac::Key>,
    tags: HashMap<Box<str>, [u8; 32]>,
}

impl Verified {
    /// An empty table. Without randomness it stays empty.
    pub(crate) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Self { key, tags: HashMap::new() }
    }

    /// Whether `password` is the one that was found right.
    pub(crate) fn knows(&self, username: &str, password: &[u8]) -> bool {
        let (Some(key), Some(tag)) = (&self.key, self.tags.get(username)) else { return false };
        hmac::verify(key, password, tag).is_ok()
    }

    /// Remembers that `password` is right.
    pub(crate) fn insert(&mut self, username: &str, password: &[u8]) {
        let Some(key) = &self.key else { return };
        let Ok(tag) = hmac::sign(key, password).as_ref().try_into() else { return };
        if self.tags.len() >= USERS_MAX {
            self.tags.clear();
        }
        self.tags.insert(username.into(), tag);
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("users", &self.tags.len()).finish_non_exhaustive()
    }
}
