//! Tokens with which a node may join.
//!
//! Text: `lmq1.` (`lmq2.` if the node is to take another one's place) and base64url (no padding) of the content as postcard, followed by 32 bytes of
//! HMAC-SHA256 over that. Whom it replaces stands behind the rest as one more number; who knows of no
//! `lmq2.` lets nobody in with it, rather than without what it says. The key is derived from the key of the cluster's authority, which every
//! node that keeps the log has: each can issue and check tokens, and issuing stores nothing. Using a
//! token spends its id ([`crate::cluster::Members::spent`]).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::{hkdf, hmac};
use serde::{Deserialize, Serialize};

use crate::cluster::identity::ClusterId;
use crate::cluster::members::{Role, TokenId};

const PREFIX: &str = "lmq1.";
const PREFIX_REPLACING: &str = "lmq2.";
const MAC: usize = 32;
/// Bytes of a token's text, at most.
pub const TEXT_BYTES_MAX: usize = 4096;

/// The key that tokens of a cluster are signed with.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// Derives it from the private key of the cluster's authority.
    #[must_use]
    pub fn derive(authority_key: &[u8]) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"ledgermq").extract(authority_key);
        let okm = secret.expand(&[b"ledgermq join"], hmac::HMAC_SHA256);
        Self(okm.expect("a key of the hash's own length can be derived").into())
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

/// What a token says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// The token's random name.
    pub id: TokenId,
    /// Until when it is valid, in seconds since 1970.
    pub expires_s: u64,
    /// What the node will be for.
    pub role: Role,
    /// The only number that the node may have, if it is fixed.
    pub node: Option<u64>,
    /// SHA-256 of the authority's certificate, by which the joining node knows the cluster.
    pub authority: [u8; 32],
    /// Addresses of members to ask.
    pub addresses: Vec<String>,
    /// The member whose place the node is to take, if it is for that.
    #[serde(skip)]
    pub replaces: Option<u64>,
}

/// A token. It is a secret: whoever has it may join.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    grant: Grant,
    signed: Vec<u8>,
    mac: [u8; MAC],
}

/// Why a token does not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token, or one that was cut or mistyped.
    #[error("it is not a token, or not a whole one")]
    Malformed,
    /// Of another cluster.
    #[error("it is a token of another cluster ({0})")]
    Foreign(ClusterId),
    /// It was not issued by this cluster.
    #[error("it was not issued by this cluster")]
    Forged,
    /// Too old.
    #[error("it has expired; issue another one with `ledgermq cluster token`")]
    Expired,
}

impl JoinToken {
    /// Issues a token.
    #[must_use]
    pub fn issue(key: &TokenKey, grant: Grant) -> Self {
        let signed = match grant.replaces {
            None => postcard::to_stdvec(&grant),
            Some(replaces) => postcard::to_stdvec(&(&grant, replaces)),
        };
        let signed = signed.expect("a grant can be written to memory");
        let tag = hmac::sign(&key.0, &signed);
        let mut mac = [0; MAC];
        mac.copy_from_slice(tag.as_ref());
        Self { grant, signed, mac }
    }

    /// What it says. Believe it only after [`Self::verify`]; a node that joins has nothing else.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether it lets into `cluster` at `now_s`, in seconds since 1970. Whether it was used before
    /// the members know.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn verify(&self, key: &TokenKey, cluster: ClusterId, now_s: u64) -> Result<(), TokenError> {
        if self.grant.cluster != cluster {
            return Err(TokenError::Foreign(self.grant.cluster));
        }
        // The comparison takes the same time wherever the difference is.
        hmac::verify(&key.0, &self.signed, &self.mac).map_err(|_| TokenError::Forged)?;
        if self.grant.expires_s <= now_s {
            return Err(TokenError::Expired);
        }
        Ok(())
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (encoded, is_replacing) = match text.strip_prefix(PREFIX_REPLACING) {
            Some(encoded) => (encoded, true),
            None => (text.strip_prefix(PREFIX).ok_or(TokenError::Malformed)?, false),
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Malformed)?;
        let (signed, mac) = bytes.split_last_chunk::<MAC>().ok_or(TokenError::Malformed)?;
        let read = match is_replacing {
            false => postcard::take_from_bytes::<Grant>(signed),
            true => postcard::take_from_bytes::<(Grant, u64)>(signed).map(
                |((grant, replaces), rest)| (Grant { replaces: Some(replaces), ..grant }, rest),
            ),
        };
        match read {
            Ok((grant, [])) if grant.replaces != Some(0) => {
                Ok(Self { grant, signed: signed.to_vec(), mac: *mac })
            }
            _ => Err(TokenError::Malformed),
        }
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.signed[..], &self.mac].concat();
        let prefix = if self.grant.replaces.is_some() { PREFIX_REPLACING } else { PREFIX };
        write!(f, "{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("cluster", &self.grant.cluster).finish_non_exhaustive()
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("cluster", &self.cluster)
            .field("expires_s", &self.expires_s)
            .field("role", &self.role)
            .field("node", &self.node)
            .field("replaces", &self.replaces)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([1; 16]);

    fn key() -> TokenKey {
        TokenKey::derive(b"the authority's key")
    }

    fn token() -> JoinToken {
        let grant = Grant {
            cluster: CLUSTER,
            id: [2; 8],
            expires_s: 1_000,
            role: Role::Log,
            node: Some(4),
            authority: [3; 32],
            addresses: vec!["one:7000".into(), "two:7000".into()],
            replaces: None,
        };
        JoinToken::issue(&key(), grant)
    }

    fn replacing() -> JoinToken {
        let grant = Grant { replaces: Some(3), ..token().grant };
        JoinToken::issue(&key(), grant)
    }

    #[test]
    fn a_token_reads_back_and_lets_in() {
        for token in [token(), replacing()] {
            let text = format!(" {token}\n");
            let read: JoinToken = text.parse().expect("a token");
            assert_eq!(read, token);
            assert_eq!(read.verify(&key(), CLUSTER, 999), Ok(()));
        }
        assert_eq!(replacing().grant().replaces, Some(3));
    }

    /// What it says about whom to replace cannot be cut off, nor be added.
    #[test]
    fn a_token_is_not_taken_for_one_of_the_other_kind() {
        for (token, from, to) in [(token(), "lmq1.", "lmq2."), (replacing(), "lmq2.", "lmq1.")] {
            let text = token.to_string().replacen(from, to, 1);
            assert_eq!(text.parse::<JoinToken>(), Err(TokenError::Malformed), "{text}");
        }
        let nobody = Grant { replaces: Some(0), ..token().grant };
        let text = JoinToken::issue(&key(), nobody).to_string();
        assert_eq!(text.parse::<JoinToken>(), Err(TokenError::Malformed));
    }

    /// The form is what an operator copies; a token issued before an update must be valid after it.
    #[test]
    fn the_form_of_a_token_stays() {
        let expected = "lmq1.AQEBAQEBAQEBAQEBAQEBAQICAgICAgIC6AcAAQQDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwIIb25lOjcwMDAIdHdvOjcwMDDi0mvnXdpKyy0OplD7WSbIWU1Z5TblzCZskfxtVFeePA";
        assert_eq!(token().to_string(), expected);
        let expected = "lmq2.AQEBAQEBAQEBAQEBAQEBAQICAgICAgIC6AcAAQQDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwIIb25lOjcwMDAIdHdvOjcwMDADNRbQowZ-TpQ6lldGi8QeDt6gGVEHUT41LUubhAWfgJ8";
        assert_eq!(replacing().to_string(), expected);
    }

    #[test]
    fn each_wrong_token_is_told_apart() {
        let good = token();
        assert_eq!(good.verify(&key(), CLUSTER, 1_000), Err(TokenError::Expired));
        let other = ClusterId([9; 16]);
        assert_eq!(good.verify(&key(), other, 0), Err(TokenError::Foreign(CLUSTER)));
        let another_key = TokenKey::derive(b"another key");
        assert_eq!(good.verify(&another_key, CLUSTER, 0), Err(TokenError::Forged));
        for text in ["", "lmq1.", "lmq1.!!!!", "lmq2.AAAA", &good.to_string()[..60]] {
            assert_eq!(text.parse::<JoinToken>(), Err(TokenError::Malformed), "{text}");
        }
        let long = format!("{PREFIX}{}", "A".repeat(TEXT_BYTES_MAX));
        assert_eq!(long.parse::<JoinToken>(), Err(TokenError::Malformed));
    }

    #[test]
    fn no_changed_byte_lets_in() {
        for text in [token().to_string(), replacing().to_string()] {
            let (prefix, encoded) = text.split_at(PREFIX.len());
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).expect("a token");
            for at in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1;
                let text = format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(&bytes));
                let verified =
                    text.parse::<JoinToken>().and_then(|token| token.verify(&key(), CLUSTER, 0));
                assert!(verified.is_err(), "byte {at} of {text}");
            }
        }
    }
}
