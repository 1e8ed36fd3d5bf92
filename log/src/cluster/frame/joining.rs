//! How a node asks to be let in, and what it is given.

use std::fmt;

use super::FrameError;
use super::fields::{Reader, put_addresses, put_bytes, put_numbers, put_role, put_text};
use crate::cluster::identity::ClusterId;
use crate::cluster::members::{ADDRESS_BYTES_MAX, Members, Role};
use crate::cluster::token;

/// Bytes of a certificate, a request for one, or a key, at most.
const DER_BYTES_MAX: usize = 4096;

/// A node asks to be let in.
///
/// Body: token (text), node (64 bits), request (bytes), address (text), addresses for clients
/// (count in 8 bits), role (8 bits); texts and bytes behind their length (16 bits).
#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    /// The token as the operator was given it.
    pub token: String,
    /// The number that it wants to have.
    pub node: u64,
    /// PKCS#10: its public key, and the proof that it has the private one (DER).
    pub request: Vec<u8>,
    /// Where other nodes will reach it.
    pub address: String,
    /// Where clients reach it.
    pub mqtt: Vec<String>,
    /// What it is for.
    pub role: Role,
}

impl Join {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.token, token::TEXT_BYTES_MAX);
        put_numbers(out, &[self.node]);
        put_bytes(out, &self.request, DER_BYTES_MAX);
        put_text(out, &self.address, ADDRESS_BYTES_MAX);
        put_addresses(out, &self.mqtt);
        put_role(out, self.role);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let join = Self {
            token: reader.text(token::TEXT_BYTES_MAX)?,
            node: reader.u64()?,
            request: reader.bytes(DER_BYTES_MAX)?.to_vec(),
            address: reader.address()?,
            mqtt: reader.addresses()?,
            role: reader.role()?,
        };
        reader.end()?;
        Ok(join)
    }
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join")
            .field("node", &self.node)
            .field("address", &self.address)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Bytes that are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a node is given when it is let in.
///
/// Body: cluster (16 bytes), generation, lowest start (64 bits each), authority's certificate, its
/// key, the node's certificate (bytes behind their length in 16 bits), then the members to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which life of it.
    pub generation: u64,
    /// The node's start epochs count from here.
    pub start_min: u64,
    /// Certificate of the cluster's authority (DER).
    pub authority: Vec<u8>,
    /// Its private key (PKCS#8): every node that keeps the log has it, so that any leader can let
    /// nodes in. Empty for others.
    pub authority_key: Secret,
    /// The node's own certificate (DER).
    pub certificate: Vec<u8>,
    /// The members, the node among them.
    pub members: Members,
}

impl Joined {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.cluster.0);
        put_numbers(out, &[self.generation, self.start_min]);
        put_bytes(out, &self.authority, DER_BYTES_MAX);
        put_bytes(out, &self.authority_key.0, DER_BYTES_MAX);
        put_bytes(out, &self.certificate, DER_BYTES_MAX);
        out.extend_from_slice(&self.members.encode());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        Ok(Self {
            cluster: ClusterId(reader.array()?),
            generation: reader.u64()?,
            start_min: reader.u64()?,
            authority: reader.bytes(DER_BYTES_MAX)?.to_vec(),
            authority_key: Secret(reader.bytes(DER_BYTES_MAX)?.to_vec()),
            certificate: reader.bytes(DER_BYTES_MAX)?.to_vec(),
            members: members(reader.take_rest())?,
        })
    }
}

/// Members to the end of a body.
pub(super) fn members(bytes: &[u8]) -> Result<Members, FrameError> {
    Members::decode(bytes).map_err(|_| FrameError::Content("holds members that cannot be"))
}
