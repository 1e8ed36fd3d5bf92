//! The `[[gateway.listener]]` tables of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::certificates::identity::IdentityFrom;
use crate::config::ConfigError;
use crate::network::Network;

/// One address at which clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// IP address and port.
    pub address: SocketAddr,
    /// What is spoken there.
    #[serde(default)]
    pub protocol: Protocol,
    /// PEM file with the server's certificate and those that lead from it to its authority. If
    /// there is one, clients speak TLS (1.2 or 1.3). This file and those below are read at the
    /// start and on SIGHUP.
    #[serde(default)]
    pub certificate: PathBuf,
    /// PEM file with the private key of `certificate`, not encrypted.
    #[serde(default)]
    pub key: PathBuf,
    /// PEM file with the certificates of the authorities that issue client certificates.
    #[serde(default)]
    pub client_ca: PathBuf,
    /// PEM file with revocation lists of those authorities. If there is one, a client certificate
    /// of an authority without a list there is refused.
    #[serde(default)]
    pub client_crl: PathBuf,
    /// Whether clients must have a certificate.
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// The part of a client's certificate that becomes its user name.
    #[serde(default)]
    pub identity: IdentityFrom,
    /// Whether connections come from proxies that put a PROXY header (version 1 or 2) in front.
    /// The client's address is the one in it.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Networks of those proxies, such as `10.0.0.0/8`; who comes from elsewhere is turned away.
    #[serde(default)]
    pub proxy_trusted: Vec<Network>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 1883).into(),
            protocol: Protocol::default(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            client_ca: PathBuf::new(),
            client_crl: PathBuf::new(),
            client_certificate: ClientCertificate::default(),
            identity: IdentityFrom::default(),
            proxy_protocol: false,
            proxy_trusted: Vec::new(),
        }
    }
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// MQTT itself.
    #[default]
    Mqtt,
    /// MQTT over WebSocket, at the path `/mqtt`.
    Ws,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// They are not asked for one.
    #[default]
    None,
    /// Who shows one is known by it; who shows none has to say who it is in another way.
    Optional,
    /// Who shows none is turned away.
    Required,
}

impl Listener {
    /// Whether clients speak TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        is_given(&self.certificate)
    }

    /// Checks what the types of the fields do not say, for the listener with that number.
    pub(super) fn check(&self, number: usize) -> Result<(), ConfigError> {
        let wrong =
            |key, detail: &str| Err(ConfigError::of_listener(number, key, detail.to_owned()));
        let asks = self.client_certificate != ClientCertificate::None;
        if self.has_tls() && !is_given(&self.key) {
            return wrong("key", "is missing: the private key of the certificate");
        }
        if !self.has_tls() && is_given(&self.key) {
            return wrong("certificate", "is missing: the certificate of the key");
        }
        if asks && !self.has_tls() {
            return wrong(
                "client_certificate",
                "needs TLS: give the listener a certificate and its key",
            );
        }
        if asks && !is_given(&self.client_ca) {
            return wrong(
                "client_ca",
                "is missing: client certificates are asked for, and it says who issues them",
            );
        }
        if is_given(&self.client_crl) && !asks {
            return wrong("client_crl", "has no effect without client_certificate");
        }
        if self.proxy_protocol && self.proxy_trusted.is_empty() {
            return wrong(
                "proxy_trusted",
                "is empty, so that nobody could connect: name the proxies' networks",
            );
        }
        if !self.proxy_protocol && !self.proxy_trusted.is_empty() {
            return wrong("proxy_trusted", "has no effect without proxy_protocol = true");
        }
        Ok(())
    }
}

fn is_given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listener: Listener) -> String {
        listener.check(1).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn keys_that_need_each_other_are_named() {
        let tls =
            Listener { certificate: "c.pem".into(), key: "k.pem".into(), ..Listener::default() };
        assert_eq!(check(Listener::default()), "fine");
        assert_eq!(check(tls.clone()), "fine");
        for (listener, key) in [
            (Listener { key: PathBuf::new(), ..tls.clone() }, "key"),
            (Listener { certificate: PathBuf::new(), ..tls.clone() }, "certificate"),
            (
                Listener { client_certificate: ClientCertificate::Required, ..tls.clone() },
                "client_ca",
            ),
            (
                Listener { client_certificate: ClientCertificate::Optional, ..Listener::default() },
                "client_certificate",
            ),
            (Listener { client_crl: "l.pem".into(), ..tls }, "client_crl"),
            (Listener { proxy_protocol: true, ..Listener::default() }, "proxy_trusted"),
            (
                Listener { proxy_trusted: vec!["::/0".parse().unwrap()], ..Listener::default() },
                "proxy_trusted",
            ),
        ] {
            let error = check(listener);
            assert!(error.starts_with(&format!("gateway.listener[1].{key}: ")), "{error}");
        }
    }
}
