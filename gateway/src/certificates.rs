//! The certificates of the listeners: read at the start and on demand, swapped while clients stay.

pub(crate) mod identity;

#[cfg(test)]
pub(crate) mod tests;

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::config::{ClientCertificate, Config, ConfigError, Listener};

/// Reads the certificates of all listeners and says what is wrong with the first that cannot be
/// used.
///
/// # Errors
///
/// The key below `gateway` and the reason.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    for (number, listener) in config.listeners().iter().enumerate() {
        load(number, listener)?;
    }
    Ok(())
}

/// One listener's certificates in force.
#[derive(Debug)]
pub(crate) struct Certificates {
    number: usize,
    listener: Listener,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the certificates of the listener with that number; none if it speaks no TLS.
    pub(crate) fn open(number: usize, listener: &Listener) -> Result<Option<Self>, ConfigError> {
        let current = load(number, listener)?;
        let listener = listener.clone();
        Ok(current.map(|current| Self { number, listener, current: RwLock::new(current) }))
    }

    /// Reads them again, for connections that come from now on. If they cannot be used, those in
    /// force stay.
    pub(crate) fn reload(&self) -> Result<(), ConfigError> {
        if let Some(read) = load(self.number, &self.listener)? {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        }
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What TLS on a listener is made of; none if it has no certificate.
fn load(number: usize, listener: &Listener) -> Result<Option<Arc<ServerConfig>>, ConfigError> {
    if !listener.has_tls() {
        return Ok(None);
    }
    let wrong = |key: &str, detail: String| ConfigError::of_listener(number, key, detail);
    let chain = certificates(&listener.certificate);
    let chain = chain.map_err(|detail| wrong("certificate", detail))?;
    let key = private_key(&listener.key).map_err(|detail| wrong("key", detail))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("certificate", error.to_string()))?;
    let builder = match listener.client_certificate {
        ClientCertificate::None => builder.with_no_client_auth(),
        ClientCertificate::Optional | ClientCertificate::Required => {
            builder.with_client_cert_verifier(verifier(number, listener, provider)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let certificate = listener.certificate.display();
            wrong("key", format!("it does not belong to the certificate in {certificate}"))
        }
        error => wrong("certificate", error.to_string()),
    })?;
    match listener.client_certificate {
        // Many clients that reconnect at once need no signature each.
        ClientCertificate::None => {
            let ticketer = ring::Ticketer::new();
            config.ticketer = ticketer.map_err(|error| wrong("certificate", error.to_string()))?;
        }
        // A resumed session would not have its certificate looked at again, though it may have
        // expired or been revoked since.
        ClientCertificate::Optional | ClientCertificate::Required => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok(Some(Arc::new(config)))
}

fn verifier(
    number: usize,
    listener: &Listener,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let wrong = |key: &str, detail: String| ConfigError::of_listener(number, key, detail);
    let mut roots = RootCertStore::empty();
    let authorities = certificates(&listener.client_ca);
    for authority in authorities.map_err(|detail| wrong("client_ca", detail))? {
        roots.add(authority).map_err(|error| wrong("client_ca", error.to_string()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !listener.client_crl.as_os_str().is_empty() {
        let lists = revocation_lists(&listener.client_crl);
        builder = builder.with_crls(lists.map_err(|detail| wrong("client_crl", detail))?);
    }
    if listener.client_certificate == ClientCertificate::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| wrong("client_ca", error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("there is no certificate in {} (PEM is expected)", path.display()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{} cannot be read as PEM: {error}", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| {
        format!(
            "there is no private key in {} that can be used ({error}); it must be PEM and not \
             encrypted",
            path.display()
        )
    })
}

fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let pem = read(path)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match lists {
        Ok(lists) if lists.is_empty() => {
            Err(format!("there is no revocation list in {} (PEM is expected)", path.display()))
        }
        Ok(lists) => Ok(lists),
        Err(error) => Err(format!("{} cannot be read as PEM: {error}", path.display())),
    }
}
