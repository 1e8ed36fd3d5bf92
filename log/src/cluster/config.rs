//! The section `[cluster]` of the configuration.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ledgermq_core::quantity::{ByteSize, Span};
use serde::{Deserialize, Serialize};

use crate::cluster::members::{ADDRESS_BYTES_MAX, Role};

/// A node is not declared lost faster than a leader is elected.
const NODE_LOST_MIN: Duration = Duration::from_secs(6);
/// With less a node would hardly ever catch up.
const CATCH_UP_RATE_MIN: ByteSize = ByteSize::mib(1);

/// The section `[cluster]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Where other nodes come in, `HOST:PORT`; empty = this node is alone, and nobody can join it.
    pub address: String,
    /// Where other nodes reach it, if that is another address (behind a translation, or if `address`
    /// is that of all interfaces).
    pub advertise: String,
    /// Members to ask to be let in, at the first start; a member needs them no more.
    pub join: Vec<String>,
    /// File with the token to join with; `--join-token` and `LEDGERMQ_JOIN_TOKEN` override it.
    pub join_token_file: PathBuf,
    /// What the node is for.
    pub role: Role,
    /// A node that the leader does not hear for so long is declared lost: its sessions end, their
    /// wills come due. The same on all nodes.
    pub node_lost: Span,
    /// Bytes that this node sends in a second, at most, to nodes that lack what its log has dropped.
    pub catch_up_rate: ByteSize,
    /// Nodes speak in the clear and believe what everybody says of itself. Whoever reaches the
    /// address can then read and change everything.
    pub insecure: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            advertise: String::new(),
            join: Vec::new(),
            join_token_file: PathBuf::new(),
            role: Role::Log,
            node_lost: Span::secs(10),
            catch_up_rate: ByteSize::mib(64),
            insecure: false,
        }
    }
}

impl ClusterConfig {
    /// Whether other nodes can reach this one.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.address.is_empty()
    }

    /// Where other nodes reach it.
    #[must_use]
    pub fn reached_at(&self) -> &str {
        if self.advertise.is_empty() { &self.address } else { &self.advertise }
    }

    /// Checks what the types of the fields do not say.
    ///
    /// # Errors
    ///
    /// The first value that cannot be used.
    pub fn check(&self) -> Result<(), ClusterConfigError> {
        let wrong = |key, detail: &str| Err(ClusterConfigError { key, detail: detail.to_owned() });
        if self.role == Role::Edge {
            return wrong(
                "role",
                "edge nodes, which hold connections and no log, come later; use \"log\"",
            );
        }
        if self.is_open() {
            check_address("address", &self.address)?;
        }
        if !self.advertise.is_empty() {
            check_address("advertise", &self.advertise)?;
        }
        for address in &self.join {
            check_address("join", address)?;
        }
        if !self.join.is_empty() && !self.is_open() {
            return wrong(
                "join",
                "a node that joins must be reached by the others: give it a cluster.address \
                 (--cluster HOST:PORT)",
            );
        }
        if self.is_open() && is_everywhere(self.reached_at()) {
            return wrong(
                "address",
                "others cannot reach a node at the address of all interfaces: say in \
                 cluster.advertise where they do (HOST:PORT)",
            );
        }
        if self.node_lost.0 < NODE_LOST_MIN {
            return wrong(
                "node_lost",
                "must be at least 6s: a node that is cut off needs up to 5 to notice and send its clients away",
            );
        }
        if self.catch_up_rate < CATCH_UP_RATE_MIN {
            return wrong("catch_up_rate", "must be at least 1MiB: it is what is sent in a second");
        }
        Ok(())
    }
}

/// A value of `[cluster]` that is well-formed but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster.{key}: {detail}")]
pub struct ClusterConfigError {
    /// The key below `cluster`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub detail: String,
}

/// Whether it is `HOST:PORT`, as nodes tell it to each other.
fn check_address(key: &'static str, address: &str) -> Result<(), ClusterConfigError> {
    let is_usable = split(address).is_some_and(|(host, port)| {
        let is_bare = |host: &str| !host.is_empty() && !host.contains([':', '[', ']', '/', '@']);
        let is_bracketed = |host: &str| {
            let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            inner.is_some_and(|inner| matches!(inner.parse(), Ok(IpAddr::V6(_))))
        };
        port != 0 && (is_bare(host) || is_bracketed(host))
    });
    let is_text = address.len() <= ADDRESS_BYTES_MAX
        && !address.contains(|char: char| char.is_control() || char.is_whitespace());
    match is_usable && is_text {
        true => Ok(()),
        false => Err(ClusterConfigError {
            key,
            detail: format!(
                "{address:?} is not HOST:PORT, such as node-1.example:7000, 10.0.0.1:7000 or \
                 [fd00::1]:7000"
            ),
        }),
    }
}

fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host, port.parse().ok().filter(|_| !port.starts_with('+'))?))
}

fn is_everywhere(address: &str) -> bool {
    let host = split(address).map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> ClusterConfig {
        ClusterConfig { address: address.to_owned(), ..ClusterConfig::default() }
    }

    fn refused(config: &ClusterConfig) -> String {
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for address in ["", "node-1:7000", "10.0.0.1:1", "[fd00::1]:7000", "localhost:65535"] {
            assert_eq!(at(address).check(), Ok(()), "{address}");
        }
        for address in
            ["node-1", ":7000", "node-1:", "node-1:0", "node-1:65536", "node-1:+7", "fd00::1:7000"]
        {
            assert!(refused(&at(address)).starts_with("cluster.address: "), "{address}");
        }
        for address in ["no de:7000", "http://node:7000", "[node]:7000", "a@node:7000"] {
            assert!(at(address).check().is_err(), "{address}");
        }
        assert!(at(&format!("{}:7000", "n".repeat(251))).check().is_err(), "too long for others");
    }

    #[test]
    fn the_address_of_all_interfaces_needs_another_for_the_others() {
        for address in ["0.0.0.0:7000", "[::]:7000"] {
            assert!(refused(&at(address)).contains("cluster.advertise"), "{address}");
        }
        let advertise = "node-1.example:7000".to_owned();
        let config = ClusterConfig { advertise, ..at("0.0.0.0:7000") };
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.reached_at(), "node-1.example:7000");
    }

    #[test]
    fn a_node_that_joins_must_be_reached() {
        let join = vec!["10.0.0.1:7000".to_owned()];
        let alone = ClusterConfig { join: join.clone(), ..ClusterConfig::default() };
        assert!(refused(&alone).contains("--cluster"));
        assert_eq!(ClusterConfig { join, ..at("10.0.0.2:7000") }.check(), Ok(()));
        let nowhere = ClusterConfig { join: vec!["nowhere".to_owned()], ..at("10.0.0.2:7000") };
        assert!(refused(&nowhere).contains("\"nowhere\" is not HOST:PORT"));
    }

    #[test]
    fn what_comes_later_and_what_is_too_fast_is_refused() {
        let edge = ClusterConfig { role: Role::Edge, ..ClusterConfig::default() };
        assert!(refused(&edge).contains("come later"));
        let fast = ClusterConfig { node_lost: Span::secs(1), ..ClusterConfig::default() };
        assert!(refused(&fast).contains("at least 6s"));
        let slow = ClusterConfig { catch_up_rate: ByteSize(1000), ..ClusterConfig::default() };
        assert!(refused(&slow).starts_with("cluster.catch_up_rate: "));
    }
}
