//! What tells this run of the generator from all others.

use std::sync::OnceLock;

use rustix::rand::{GetRandomFlags, getrandom};

/// A number of this process, by chance: process numbers repeat in containers.
pub(super) fn nonce() -> u32 {
    static NONCE: OnceLock<u32> = OnceLock::new();
    *NONCE.get_or_init(|| {
        let mut bytes = [0; 4];
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(4) => u32::from_le_bytes(bytes),
            _ => std::process::id(),
        }
    })
}

/// A Client Identifier of this run.
pub(super) fn client(role: &str, number: usize) -> String {
    format!("bench-{:08x}-{role}{number}", nonce())
}

/// The topic above all topics of this run that serve one purpose.
pub(super) fn topic(purpose: &str) -> String {
    format!("bench/{purpose}-{:08x}", nonce())
}
