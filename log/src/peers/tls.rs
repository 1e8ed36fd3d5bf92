//! TLS between nodes: version 1.3 only, both ends show the cluster's certificates, nothing is
//! resumed (each connection is looked at anew).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};

use crate::cluster::authority::{dns_name, fingerprint, node_of};
use crate::cluster::frame::Secret;
use crate::cluster::identity::ClusterId;

/// Bytes that TLS holds for a connection before they are written.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// What a node shows the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The authority's certificate (DER).
    pub authority: Vec<u8>,
    /// The node's certificate (DER).
    pub certificate: Vec<u8>,
    /// Its key (PKCS#8).
    pub key: Secret,
}

/// Credentials that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// Makes the connections' TLS.
#[derive(Debug)]
pub(super) struct Tls {
    cluster: ClusterId,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    pub(super) fn new(cluster: ClusterId, credentials: &Credentials) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = roots(&credentials.authority).map_err(failed)?;
        let chain = [&credentials.certificate, &credentials.authority];
        let chain = || chain.iter().map(|der| CertificateDer::from((*der).clone())).collect();
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(credentials.key.0.clone()));
        // Whoever wants to join has no certificate yet; nothing else is heard of such a one.
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(failed)?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(), key())
            .map_err(failed)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain(), key())
            .map_err(failed)?;
        client.resumption = Resumption::disabled();
        Ok(Self { cluster, client: Arc::new(client), server: Arc::new(server) })
    }

    pub(super) fn dial(&self, peer: u64) -> Result<Connection, Error> {
        let name = server_name(self.cluster, peer)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.client), name)?;
        connection.set_buffer_limit(Some(BUFFER_BYTES_MAX));
        Ok(connection.into())
    }

    pub(super) fn accept(&self) -> Result<Connection, Error> {
        let mut connection = ServerConnection::new(Arc::clone(&self.server))?;
        connection.set_buffer_limit(Some(BUFFER_BYTES_MAX));
        Ok(connection.into())
    }
}

fn server_name(cluster: ClusterId, node: u64) -> Result<ServerName<'static>, Error> {
    let name = ServerName::try_from(dns_name(cluster, node));
    name.map_err(|_| Error::General("the node has no name".to_owned()))
}

fn roots(authority: &[u8]) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec()))?;
    Ok(Arc::new(roots))
}

/// What a node that wants to join speaks: it knows the cluster by the fingerprint in its token.
pub(super) fn joining(cluster: ClusterId, authority: [u8; 32]) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let pinned = Pinned { cluster, authority, provider: Arc::clone(&provider) };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    Ok(client)
}

/// Believes whoever shows a certificate for any node of the cluster, issued by the authority with
/// that fingerprint.
#[derive(Debug)]
struct Pinned {
    cluster: ClusterId,
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|der| fingerprint(der) == self.authority);
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let (cluster, node) =
            node_of(end_entity).map_err(|_| CertificateError::ApplicationVerificationFailure)?;
        if cluster != self.cluster {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority)?, provider);
        let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
        let name = server_name(cluster, node)?;
        verifier.verify_server_cert(end_entity, &[], &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
