//! Where clients connect.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// A broker's address as the user gave it, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The URL.
    pub(super) url: String,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Tls>,
}

/// How a client speaks TLS with a target.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
}

/// Which certificates of brokers are believed.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Nothing was said: `mqtts` is refused.
    Unsaid,
    /// Those that an authority of this PEM file signed.
    Authority(PathBuf),
    /// All.
    Everyone,
}

impl Target {
    /// Reads `mqtt://HOST:PORT` or `mqtts://HOST:PORT` (ports may be left out) (default ports 1883 and 8883) and
    /// resolves the host.
    ///
    /// # Errors
    ///
    /// What is wrong and what to write instead.
    pub(crate) fn parse(url: &str, trust: &Trust) -> Result<Self, String> {
        let wrong =
            |what: &str| format!("{url}: {what}; write mqtt://HOST:PORT or mqtts://HOST:PORT");
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("there is no scheme"))?;
        let (is_tls, port) = match scheme {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return Err(wrong("the scheme is not known")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '@']) {
            return Err(wrong("there is more than host and port (a user is given by --user)"));
        }
        let (host, port) = split_port(authority, port).ok_or_else(|| wrong("no such port"))?;
        let mut addresses = (host, port)
            .to_socket_addrs()
            .map_err(|error| format!("{url}: the host is not found: {error}"))?;
        let address = addresses.next().ok_or_else(|| wrong("the host has no address"))?;
        let tls = if is_tls { Some(tls(url, host, trust)?) } else { None };
        Ok(Self { url: url.to_owned(), address, tls })
    }
}

/// Host (without the brackets of IPv6) and port.
fn split_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?),
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let port = if port.is_empty() { default } else { port.parse().ok()? };
    (!host.is_empty()).then_some((host, port))
}

fn tls(url: &str, host: &str, trust: &Trust) -> Result<Tls, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match trust {
        Trust::Unsaid => {
            return Err(format!(
                "{url}: say whom to trust: --ca FILE, or --insecure for any certificate"
            ));
        }
        Trust::Authority(file) => builder.with_root_certificates(roots(file)?),
        Trust::Everyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Everyone(provider)))
        }
    };
    let config = Arc::new(config.with_no_client_auth());
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{url}: {error}"))?;
    Ok(Tls { name, config })
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let wrong = |detail: String| format!("{}: {detail}", file.display());
    let bytes = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate in PEM".to_owned()));
    }
    Ok(roots)
}

/// Believes every certificate, but still checks that the broker holds its key.
#[derive(Debug)]
struct Everyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Everyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        let address = |url| Target::parse(url, &Trust::Everyone).map(|target| target.address);
        for (url, expected) in [
            ("mqtt://127.0.0.1", "127.0.0.1:1883"),
            ("mqtt://127.0.0.1:1884/", "127.0.0.1:1884"),
            ("mqtts://127.0.0.1", "127.0.0.1:8883"),
            ("mqtt://[::1]", "[::1]:1883"),
            ("mqtts://[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(address(url), Ok(expected.parse().expect("an address")), "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_to_write() {
        for url in [
            "127.0.0.1:1883",
            "http://a",
            "mqtt://u@h",
            "mqtt://h/x",
            "mqtt://:1",
            "mqtt://127.0.0.1:x",
        ] {
            let error = Target::parse(url, &Trust::Unsaid).expect_err(url);
            assert!(error.contains("write mqtt://HOST:PORT"), "{error}");
        }
        let error = Target::parse("mqtts://127.0.0.1", &Trust::Unsaid).expect_err("no trust");
        assert!(error.contains("--ca FILE"), "{error}");
    }
}
