//! The `[gateway]` section of the configuration.

mod listener;

pub use listener::{ClientCertificate, IdentityFrom, Listener, Protocol};
use std::path::PathBuf;

use ledgermq_core::quantity::{ByteSize, Span};
use ledgermq_core::topic;
use serde::{Deserialize, Serialize};

/// How clients reach the node, and how much each of them may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses at which clients connect; empty means MQTT at 127.0.0.1:1883.
    pub listener: Vec<Listener>,
    /// Whether clients may connect without credentials. That is so by default as long as there is
    /// no `password_file` and every address is a loopback address; otherwise it has to be said here
    /// or by `--allow-anonymous`.
    pub allow_anonymous: bool,
    /// Users and the hashes of their passwords, one `NAME:HASH` a line, as `ledgermq passwd` and
    /// Mosquitto write it; read at the start and at SIGHUP. With it only clients that give a right
    /// user name and password come in (or, with `allow_anonymous` said, none at all), and one
    /// without users lets nobody in. Empty: user names are not proven.
    pub password_file: PathBuf,
    /// Who may publish and receive what, in the syntax of Mosquitto's `acl_file`; read at the start
    /// and at SIGHUP, and put in force by an event of the log. What it does not grant is denied, so
    /// an empty file denies everything. Empty: everything is allowed but `$CONTROL/#` and
    /// `$replay/#`.
    pub acl_file: PathBuf,
    /// Whether what the access rules refuse is answered by 0x80 (Unspecified error) instead of 0x87
    /// (Not authorized) in SUBACK, PUBACK and PUBREC, so that answers tell nothing of the rules.
    pub conceal_access_rules: bool,
    /// The longest Keep Alive that an MQTT 5 client may choose, in whole seconds up to 65535; one
    /// that asks for more or for none is told to use this (Server Keep Alive). 0 leaves the choice
    /// to the client, as does MQTT 3.1.1, which has no way to tell it.
    pub server_keep_alive: Span,
    /// Origins of web pages, such as `https://example.org`, that may connect over WebSocket from
    /// this machine, besides pages that it serves itself; `*` for all. A page that is shown
    /// elsewhere may always connect: what guards the node there is authentication.
    pub websocket_origins: Vec<String>,
    /// Response Information: what a client that asks for it is to begin its Response Topics with,
    /// `%c` being its Client Identifier. The access rules must allow these topics. Empty: none.
    pub response_information: String,
    /// Threads that own the connections; 0 means one for each core but one, at least 1.
    pub workers: u16,
    /// Bounds of what clients may take.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listener: Vec::new(),
            allow_anonymous: true,
            password_file: PathBuf::new(),
            acl_file: PathBuf::new(),
            conceal_access_rules: false,
            server_keep_alive: Span::secs(0),
            websocket_origins: Vec::new(),
            response_information: String::new(),
            workers: 0,
            limits: Limits::default(),
        }
    }
}

/// Bounds of what clients may take from this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Network Connections at the same time. The next ones are answered by 0x97 (3.1.1: code 3) when
    /// they say CONNECT, and if many come beyond it, closed at once.
    pub connections: u32,
    /// Network Connections a second, on average; those of one second may come at once. What comes
    /// faster is answered by 0x9F (3.1.1: code 3). 0 is no limit.
    pub connection_rate: u32,
    /// Time from the connection to the end of the CONNECT packet.
    pub connect_timeout: Span,
    /// Largest Control Packet taken from a client, fixed header included, at most 256 MiB.
    pub packet_bytes: ByteSize,
    /// Sessions of the node that outlive their connections; a CONNECT that would add one is refused
    /// (0x97; 3.1.1: code 3). Who has one is let in, and so is who asks for a session that ends with
    /// its connection: these are bounded by `connections`.
    pub sessions: u64,
    /// Levels of a Topic Name or Topic Filter, at most 1000: each is work wherever topics are walked
    /// over level by level.
    pub topic_levels: u16,
    /// QoS 1 and 2 messages that a client may have unacknowledged: the Receive Maximum of CONNACK.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages on their way to a client, at most; its Receive Maximum may be lower.
    pub inflight_out: u16,
    /// Topic Aliases that an MQTT 5 client may use towards us, and most that it is given if it
    /// takes them; 0 is none.
    pub topic_aliases: u16,
    /// Subscriptions of one session; a SUBSCRIBE beyond is refused (0x97).
    pub subscriptions_per_client: u32,
    /// Shared Subscriptions of one session, of each of which it may hold 256 messages; a SUBSCRIBE
    /// beyond is refused (0x97).
    pub shared_subscriptions_per_client: u16,
    /// Bytes of the Topic Filters of one session, with 32 more for each of their levels, which cost
    /// as much as long names do; as above.
    pub subscription_bytes_per_client: ByteSize,
    /// User Properties of one packet; a request with more is refused (0x97).
    pub user_properties: u16,
    /// Messages that a client may publish a second, on average; those of one second may come at
    /// once. Beyond it a client of MQTT 5 is refused (0x97) or, with QoS 0, cut off (0x96); others
    /// are left unread until they may go on. 0 is no limit.
    pub publish_rate: u32,
    /// Bytes of topics and payloads that a client may publish a second, as above.
    pub publish_bytes: ByteSize,
    /// Messages that one session may be owed; beyond it the oldest are dropped.
    pub queued_messages: u32,
    /// Bytes of messages that one session may be owed; beyond it the oldest are dropped.
    pub queued_bytes: ByteSize,
    /// Memory that references to messages owed to all sessions together may take, 16 bytes each; beyond
    /// it those sessions that are owed most lose their oldest. Bounded by `limits.memory_max` as well,
    /// like the next three.
    pub owed_reference_bytes: ByteSize,
    /// Memory for what is to be written to all connections together; beyond it messages wait as
    /// references. A half of it is for those that do not read.
    pub output_bytes: ByteSize,
    /// Memory for the references of messages that wait for connections; beyond it sessions that end
    /// with their connection lose the newest.
    pub waiting_reference_bytes: ByteSize,
    /// Memory for messages that wait for connections; the others are read from the log again.
    pub waiting_bytes: ByteSize,
    /// Memory for packets of clients that have not come whole; beyond it clients are left unread whose
    /// packets need more than 16 KiB.
    pub input_bytes: ByteSize,
    /// Retained messages of the node; from there on a retained PUBLISH to a topic that has none is
    /// refused (0x97). What is on its way through the log counts as well.
    pub retained_messages: u64,
    /// Bytes of the retained messages of the node, as above.
    pub retained_bytes: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            connection_rate: 0,
            connect_timeout: Span::secs(10),
            packet_bytes: ByteSize::mib(1),
            sessions: 1_000_000,
            topic_levels: 200,
            receive_maximum: 20,
            inflight_out: 1_000,
            topic_aliases: 10,
            subscriptions_per_client: 10_000,
            shared_subscriptions_per_client: 256,
            subscription_bytes_per_client: ByteSize::mib(4),
            user_properties: 100,
            publish_rate: 0,
            publish_bytes: ByteSize(0),
            queued_messages: 100_000,
            queued_bytes: ByteSize::mib(256),
            owed_reference_bytes: ByteSize::gib(4),
            output_bytes: ByteSize::gib(2),
            waiting_reference_bytes: ByteSize::gib(1),
            waiting_bytes: ByteSize::gib(1),
            input_bytes: ByteSize::gib(1),
            retained_messages: 2_000_000,
            retained_bytes: ByteSize::gib(2),
        }
    }
}

/// A value that is well-formed but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gateway.{key}: {detail}")]
pub struct ConfigError {
    /// The key below `gateway`.
    pub key: String,
    /// What is wrong with its value.
    pub detail: String,
}

impl ConfigError {
    /// About a key of the listener with that number.
    pub(crate) fn of_listener(number: usize, key: &str, detail: String) -> Self {
        Self { key: format!("listener[{number}].{key}"), detail }
    }
}

impl Config {
    /// Longest Response Information, in bytes, before a Client Identifier is put in.
    const RESPONSE_INFORMATION_BYTES_MAX: usize = 1024;
    /// Most levels that Topic Names and Topic Filters may be allowed.
    pub const TOPIC_LEVELS_MAX: u16 = 1000;
    /// The largest Control Packet that MQTT can express, in bytes.
    pub const PACKET_BYTES_MAX: u64 = 268_435_460;

    /// Checks what the types of the fields do not say.
    ///
    /// # Errors
    ///
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (number, listener) in self.listener.iter().enumerate() {
            listener.check(number)?;
        }
        let check = |holds: bool, key: &str, detail: &str| match holds {
            true => Ok(()),
            false => Err(ConfigError { key: key.to_owned(), detail: detail.to_owned() }),
        };
        let limits = &self.limits;
        let keep_alive = self.server_keep_alive.0;
        check(
            keep_alive.subsec_nanos() == 0 && keep_alive.as_secs() <= u64::from(u16::MAX),
            "server_keep_alive",
            "must be whole seconds, at most 65535s",
        )?;
        check(
            self.response_information.len() <= Self::RESPONSE_INFORMATION_BYTES_MAX
                && topic::check_name(&self.response_information.replace("%c", "c")).is_ok()
                || self.response_information.is_empty(),
            "response_information",
            "must be the beginning of a Topic Name, at most 1024 bytes long",
        )?;
        check(limits.connections > 0, "limits.connections", "must be at least 1")?;
        check(!limits.connect_timeout.0.is_zero(), "limits.connect_timeout", "must be above 0")?;
        check(
            (128..=Self::PACKET_BYTES_MAX).contains(&limits.packet_bytes.0),
            "limits.packet_bytes",
            "must be from 128B to 256MiB",
        )?;
        check(limits.sessions > 0, "limits.sessions", "must be at least 1")?;
        check(
            (1..=Self::TOPIC_LEVELS_MAX).contains(&limits.topic_levels),
            "limits.topic_levels",
            "must be from 1 to 1000",
        )?;
        check(
            limits.subscription_bytes_per_client.0 >= 128 << 10,
            "limits.subscription_bytes_per_client",
            "must be at least 128KiB, so that a Topic Filter of any length fits",
        )?;
        check(limits.receive_maximum > 0, "limits.receive_maximum", "must be at least 1")?;
        check(limits.inflight_out > 0, "limits.inflight_out", "must be at least 1")
    }

    /// The listeners in force: those given, or MQTT at 127.0.0.1:1883.
    #[must_use]
    pub fn listeners(&self) -> Vec<Listener> {
        match self.listener.is_empty() {
            true => vec![Listener::default()],
            false => self.listener.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_their_ranges() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_its_range_is_named_with_its_key() {
        let mut config = Config::default();
        config.limits.packet_bytes = ByteSize::gib(1);
        let error = config.check().unwrap_err().to_string();
        assert_eq!(error, "gateway.limits.packet_bytes: must be from 128B to 256MiB");
        let mut config = Config::default();
        for (levels, holds) in [(0, false), (1, true), (1000, true), (1001, false)] {
            config.limits.topic_levels = levels;
            let error = config.check().err().map(|error| error.to_string());
            let expected = "gateway.limits.topic_levels: must be from 1 to 1000";
            assert_eq!(error.as_deref(), (!holds).then_some(expected), "{levels}");
        }
        config.limits.topic_levels = 1;
        config.limits.sessions = 0;
        assert_eq!(config.check().unwrap_err().key, "limits.sessions");
        let mut config = Config::default();
        config.limits.subscription_bytes_per_client = ByteSize::kib(127);
        assert_eq!(config.check().unwrap_err().key, "limits.subscription_bytes_per_client");
        let config = Config { server_keep_alive: Span::millis(1500), ..Config::default() };
        assert_eq!(config.check().unwrap_err().key, "server_keep_alive");
    }
}
