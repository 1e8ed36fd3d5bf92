//! The `[api]` section of the configuration.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Where the node answers HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// IP address and port.
    pub address: SocketAddr,
    /// Whether `/metrics` answers everybody. Else, like `/api/v1`, it answers requests from this
    /// machine, and others only with the token in the file `admin.token`.
    pub metrics_open: bool,
    /// Whether `/metrics` has the vendor's bare names, too (`mosquitto_...`).
    pub vendor_metrics: bool,
    /// Whether MQTT over WebSocket is spoken at `/mqtt`.
    pub mqtt: bool,
}

impl Default for Config {
    fn default() -> Self {
        let address = (Ipv4Addr::LOCALHOST, 8080).into();
        Self { address, metrics_open: false, vendor_metrics: true, mqtt: true }
    }
}
