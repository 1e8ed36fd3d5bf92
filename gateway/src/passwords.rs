//! Who is who: users and the hashes of their passwords, from a `password_file`.
//!
//! One `NAME:HASH` a line, as Mosquitto writes it; [`hash`] says which hashes are known. The file
//! stays on its node, and nothing of it gets into an event, a log line or an answer.

pub(crate) mod attempts;
pub mod hash;
pub(crate) mod verified;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashMap;

use hash::{Hash, Scratch};

/// Bytes that a `password_file` has at most.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Users and their hashes.
#[derive(Debug)]
pub struct Passwords {
    users: HashMap<Box<str>, Hash>,
    /// The hashes that unknown users are compared with, by their names.
    decoys: Vec<Hash>,
    hasher: RandomState,
}

/// What a comparison gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The password is that of the user.
    Right,
    /// It is not.
    Wrong,
    /// There is no such user.
    Unknown,
}

/// Why a text is no `password_file`. Says nothing of what stands behind the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct PasswordFileError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub fault: PasswordFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// It has no colon, or nothing in front of it.
    #[error("a line is NAME:HASH; write it with 'ledgermq passwd add'")]
    Form,
    /// The hash is none that is known: perhaps a password in clear.
    #[error("the hash of user {0:?} is of no known kind; write it with 'ledgermq passwd add'")]
    Hash(Box<str>),
    /// The name stands in the file twice.
    #[error("user {0:?} is there twice; remove one of the lines")]
    Twice(Box<str>),
}

impl Passwords {
    /// Reads the text of a `password_file`. One without users lets nobody in.
    ///
    /// # Errors
    ///
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, PasswordFileError> {
        let mut users = HashMap::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, entry) in (1..).zip(text.lines()).filter(|(_, entry)| !is_comment(entry)) {
            let error = |fault| PasswordFileError { line, fault };
            let (name, hash) = split(entry).ok_or(error(PasswordFault::Form))?;
            let hash = Hash::parse(hash).ok_or_else(|| error(PasswordFault::Hash(name.into())))?;
            if users.insert(name.into(), hash).is_some() {
                return Err(error(PasswordFault::Twice(name.into())));
            }
        }
        let mut decoys: Vec<Hash> = users.values().cloned().collect();
        if decoys.is_empty() {
            decoys.push(Hash::decoy());
        }
        Ok(Self { users, decoys, hasher: RandomState::new() })
    }

    /// Number of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Compares `password` with that of `username`; an empty one is never right. Takes milliseconds,
    /// and as long for an unknown user: that is compared with the hash of another, always the same
    /// for the same name.
    #[must_use]
    pub fn check(&self, username: &str, password: &[u8]) -> Checked {
        self.check_in(username, password, &mut Scratch::default())
    }

    /// As [`Passwords::check`], in memory that is used again.
    pub(crate) fn check_in(
        &self,
        username: &str,
        password: &[u8],
        scratch: &mut Scratch,
    ) -> Checked {
        if let Some(hash) = self.users.get(username) {
            let is_right = hash.is_of(password, scratch) && !password.is_empty();
            return if is_right { Checked::Right } else { Checked::Wrong };
        }
        let number = usize::try_from(self.hasher.hash_one(username) % self.decoys.len() as u64);
        if let Some(decoy) = self.decoys.get(number.unwrap_or(0)) {
            let _ = std::hint::black_box(decoy.is_of(password, scratch));
        }
        Checked::Unknown
    }
}

/// Whether a line of a `password_file` says nothing.
#[must_use]
pub fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Name and hash of a line.
#[must_use]
pub fn split(line: &str) -> Option<(&str, &str)> {
    line.trim_end().split_once(':').filter(|(name, _)| !name.is_empty())
}
