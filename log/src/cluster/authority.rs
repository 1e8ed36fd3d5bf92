//! The cluster's own authority: its certificate says who is a node, and nothing else does.
//!
//! ECDSA P-256. The name of a node stands in its certificate twice: as the URI
//! `ledgermq://CLUSTER/node/N`, which is compared with what the node says of itself, and as the DNS
//! name `node-N.CLUSTER.ledgermq`, which rustls compares with whom it was to reach.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
};
use ring::{digest, signature};
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::{Duration, OffsetDateTime};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::request::CertReq;

use crate::cluster::frame::Secret;
use crate::cluster::identity::ClusterId;
use crate::cluster::token::TokenKey;

#[cfg(test)]
mod tests;

/// How long a node's certificate is valid.
const NODE_DAYS: i64 = 3653;
/// A node whose clock is behind takes it, too.
const BACKDATED_DAYS: i64 = 2;
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// A key or a certificate that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(String),
    /// Not a key of this kind.
    #[error("it is no private key of ECDSA P-256 in PKCS#8")]
    Key,
    /// Not a request, or one that its own key has not signed.
    #[error("the request for a certificate is not one of ECDSA P-256, signed by its own key")]
    Request,
    /// A certificate that names no node of any cluster.
    #[error("the certificate names no node")]
    Nobody,
}

fn failed(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Make(error.to_string())
}

/// SHA-256.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    fingerprint
}

/// The DNS name of a node.
#[must_use]
pub fn dns_name(cluster: ClusterId, node: u64) -> String {
    format!("node-{node}.{cluster}.ledgermq")
}

fn uri(cluster: ClusterId, node: u64) -> String {
    format!("ledgermq://{cluster}/node/{node}")
}

/// Which node of which cluster a certificate is for.
///
/// # Errors
///
/// If that cannot be said for sure.
pub fn node_of(certificate: &[u8]) -> Result<(ClusterId, u64), AuthorityError> {
    let nobody = |_| AuthorityError::Nobody;
    let certificate = Certificate::from_der(certificate).map_err(nobody)?;
    let names = certificate.tbs_certificate().get_extension::<SubjectAltName>().map_err(nobody)?;
    let (_, names) = names.ok_or(AuthorityError::Nobody)?;
    let mut uris = names.0.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        _ => None,
    });
    let (Some(text), None) = (uris.next(), uris.next()) else {
        return Err(AuthorityError::Nobody);
    };
    let parts = text.strip_prefix("ledgermq://").and_then(|rest| rest.split_once("/node/"));
    let (cluster, node) = parts.ok_or(AuthorityError::Nobody)?;
    let cluster: ClusterId = cluster.parse().map_err(|_| AuthorityError::Nobody)?;
    let node: u64 = node.parse().map_err(|_| AuthorityError::Nobody)?;
    // One way to write it: no sign, no zero in front, no capital letters.
    if node == 0 || uri(cluster, node) != text {
        return Err(AuthorityError::Nobody);
    }
    Ok((cluster, node))
}

/// What a certificate says of whoever shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: u64,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`).
    pub key: [u8; 32],
}

impl Shown {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// If it cannot be said for sure whom it is for.
    pub fn of(certificate: &[u8]) -> Result<Self, AuthorityError> {
        let (cluster, node) = node_of(certificate)?;
        let certificate = Certificate::from_der(certificate).map_err(|_| AuthorityError::Nobody)?;
        let key = certificate.tbs_certificate().subject_public_key_info().to_der();
        let key = fingerprint(&key.map_err(|_| AuthorityError::Nobody)?);
        Ok(Self { cluster, node, key })
    }
}

/// A public key that asked for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    point: Vec<u8>,
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub fingerprint: [u8; 32],
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl PublicKey {
    /// The key of a request (PKCS#10, DER), once it is proved that whoever asks has its other half.
    ///
    /// # Errors
    ///
    /// If it is no such request.
    pub fn of_request(der: &[u8]) -> Result<Self, AuthorityError> {
        Self::checked(der).ok_or(AuthorityError::Request)
    }

    fn checked(der: &[u8]) -> Option<Self> {
        let request = CertReq::from_der(der).ok()?;
        let key = &request.info.public_key;
        let curve = key.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok()?;
        if key.algorithm.oid != EC_PUBLIC_KEY
            || curve != P256
            || request.algorithm.oid != ECDSA_SHA256
        {
            return None;
        }
        let point = key.subject_public_key.as_bytes()?.to_vec();
        let signed = request.info.to_der().ok()?;
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, &point)
            .verify(&signed, request.signature.as_bytes()?)
            .ok()?;
        Some(Self { point, fingerprint: fingerprint(&key.to_der().ok()?) })
    }
}

/// The key of a node.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn generate() -> Result<Self, AuthorityError> {
        KeyPair::generate().map(Self).map_err(failed)
    }

    /// Reads PKCS#8.
    ///
    /// # Errors
    ///
    /// If it is no key of this kind.
    pub fn from_der(der: &Secret) -> Result<Self, AuthorityError> {
        key_pair(der).map(Self)
    }

    /// PKCS#8.
    #[must_use]
    pub fn to_der(&self) -> Secret {
        Secret(self.0.serialize_der())
    }

    /// A request for a certificate (PKCS#10, DER).
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn request(&self) -> Result<Vec<u8>, AuthorityError> {
        let request = CertificateParams::default().serialize_request(&self.0).map_err(failed)?;
        Ok(request.der().to_vec())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey")
    }
}

fn key_pair(der: &Secret) -> Result<KeyPair, AuthorityError> {
    let der = PrivatePkcs8KeyDer::from(&der.0[..]);
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
        .map_err(|_| AuthorityError::Key)
}

/// The authority of a cluster. Every node that keeps the log has it.
pub struct Authority {
    cluster: ClusterId,
    certificate: Vec<u8>,
    key: Secret,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority of a new cluster.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn found(cluster: ClusterId) -> Result<Self, AuthorityError> {
        let pair = KeyPair::generate().map_err(failed)?;
        let key = Secret(pair.serialize_der());
        let certificate = params(cluster).self_signed(&pair).map_err(failed)?;
        let issuer = Issuer::new(params(cluster), pair);
        Ok(Self { cluster, certificate: certificate.der().to_vec(), key, issuer })
    }

    /// The authority of a cluster from its certificate (DER) and key (PKCS#8).
    ///
    /// # Errors
    ///
    /// If it is no key of this kind.
    pub fn load(
        cluster: ClusterId,
        certificate: Vec<u8>,
        key: Secret,
    ) -> Result<Self, AuthorityError> {
        let issuer = Issuer::new(params(cluster), key_pair(&key)?);
        Ok(Self { cluster, certificate, key, issuer })
    }

    /// Its cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its key (PKCS#8).
    #[must_use]
    pub fn key(&self) -> &Secret {
        &self.key
    }

    /// The key for tokens.
    #[must_use]
    pub fn token_key(&self) -> TokenKey {
        TokenKey::derive(&self.key.0)
    }

    /// A certificate (DER) for `node`, issued at `now_s` (seconds since 1970), valid for ten years.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn issue(&self, node: u64, key: &PublicKey, now_s: u64) -> Result<Vec<u8>, AuthorityError> {
        let make = |what: &str| AuthorityError::Make(what.to_owned());
        let now =
            i64::try_from(now_s).ok().and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
        let now = now.ok_or_else(|| make("the clock is wrong"))?;
        let mut params = CertificateParams::new([dns_name(self.cluster, node)]).map_err(failed)?;
        let uri = uri(self.cluster, node).try_into().map_err(failed)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name.push(DnType::CommonName, format!("ledgermq node {node}"));
        // A device without a clock of its own begins in 1970, and certificates begin no earlier.
        let backdated = now.saturating_sub(Duration::days(BACKDATED_DAYS));
        params.not_before = backdated.max(OffsetDateTime::UNIX_EPOCH);
        params.not_after = now.saturating_add(Duration::days(NODE_DAYS));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        Ok(certificate.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// What the authority's certificate says. It must come out the same at every start: the names in
/// certificates that it issues are taken from here.
fn params(cluster: ClusterId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("ledgermq cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
