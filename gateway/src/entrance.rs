//! What a listener's connections go through before they speak MQTT.

use std::net::IpAddr;
use std::sync::Arc;

use crate::certificates::Certificates;
use crate::certificates::identity::IdentityFrom;
use crate::config::{Config, ConfigError, Listener, Protocol};
use crate::network::Network;
use crate::transport::tls::Tls;
use crate::transport::web_socket::{Origins, WebSocket};
use crate::transport::{Layers, proxy};

/// One listener's settings, as its connections need them.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    protocol: Protocol,
    /// The proxies that may come, if only proxies may.
    proxies: Option<Arc<[Network]>>,
    certificates: Option<Arc<Certificates>>,
    identity: IdentityFrom,
    packet_bytes_max: u64,
    origins: Arc<[String]>,
}

impl Entrance {
    /// Reads what the listener with that number needs.
    pub(crate) fn open(
        config: &Config,
        number: usize,
        listener: &Listener,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            protocol: listener.protocol,
            proxies: listener.proxy_protocol.then(|| listener.proxy_trusted.clone().into()),
            certificates: Certificates::open(number, listener)?.map(Arc::new),
            identity: listener.identity,
            packet_bytes_max: config.limits.packet_bytes.0,
            origins: config.websocket_origins.clone().into(),
        })
    }

    /// The listener's certificates, if it has some.
    pub(crate) fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }

    /// Whether a connection from `address` is taken at all.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let contains =
            |networks: &Arc<[Network]>| networks.iter().any(|network| network.contains(address));
        self.proxies.as_ref().is_none_or(contains)
    }

    /// The layers of a new connection from `peer`; none if it speaks MQTT at once.
    pub(crate) fn layers(&self, peer: IpAddr) -> Result<Option<Box<Layers>>, rustls::Error> {
        let proxy = self.proxies.is_some().then(proxy::Reader::default);
        let tls = self.certificates.as_ref();
        let tls = tls.map(|certificates| Tls::new(certificates.current(), self.identity));
        let web_socket = match self.protocol {
            Protocol::Mqtt => None,
            Protocol::Ws => {
                // A proxy on this machine speaks for clients elsewhere.
                let origins = match self.proxies {
                    None => Origins::of(peer, &self.origins),
                    Some(_) => Origins::Any,
                };
                Some(WebSocket::new(self.packet_bytes_max, origins))
            }
        };
        let layers = Layers::new(proxy, tls.transpose()?, web_socket);
        Ok((!layers.is_transparent()).then(|| Box::new(layers)))
    }
}
