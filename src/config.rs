//! The effective configuration: defaults, then the file, the environment, the flags.
//!
//! Every room owns its section; this file puts them together and remembers where each value came
//! from. The fields' documentation is the manual.

mod joining;
mod layers;
mod memory;
mod unknown;

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use ledgermq_gateway::certificates;
use ledgermq_gateway::config::{ClientCertificate, Listener};
use ledgermq_log::cluster::{ClusterConfig, JoinToken, Role};
use serde::{Deserialize, Serialize};

use layers::Layers;

/// The whole configuration of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The node itself.
    pub(crate) node: Node,
    /// The MQTT edge.
    pub(crate) gateway: ledgermq_gateway::config::Config,
    /// The log.
    pub(crate) log: ledgermq_log::Config,
    /// The other nodes.
    pub(crate) cluster: ClusterConfig,
    /// What the process may take.
    pub(crate) limits: memory::Limits,
    /// HTTP.
    pub(crate) api: ledgermq_api::config::Config,
    /// What the node shows to be let into a cluster, if it was given something: from the flag, the
    /// variable or the file. A secret, and of no use to a node that is a member already.
    #[serde(skip)]
    pub(crate) join_token: Option<JoinToken>,
}

/// The `[node]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Node {
    /// Number of the node, unlike that of every other node of its cluster. Data written under one
    /// number is not opened under another.
    pub(crate) id: NonZeroU64,
    /// Directory of everything that the node keeps; made at the first start.
    pub(crate) data_dir: PathBuf,
}

impl Default for Node {
    fn default() -> Self {
        Self { id: NonZeroU64::MIN, data_dir: PathBuf::from("./ledgermq-data") }
    }
}

/// What the command line says; it overrides everything else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--data-dir`
    pub(crate) data_dir: Option<PathBuf>,
    /// `--node-id`
    pub(crate) node_id: Option<NonZeroU64>,
    /// `--mqtt`, besides the listeners of the file
    pub(crate) mqtt: Vec<SocketAddr>,
    /// `--http`
    pub(crate) http: Option<SocketAddr>,
    /// `--cluster`
    pub(crate) cluster: Option<String>,
    /// `--join`, instead of the addresses of the file
    pub(crate) join: Vec<String>,
    /// `--join-token`
    pub(crate) join_token: Option<String>,
    /// `--role`
    pub(crate) role: Option<Role>,
    /// `--cluster-insecure`
    pub(crate) cluster_insecure: bool,
    /// `--allow-anonymous`
    pub(crate) allow_anonymous: bool,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: String,
    },
    /// A flag of the command line.
    Flag {
        /// The flag.
        name: &'static str,
    },
    /// It is what `limits.memory_max` leaves, which is less than what was asked for.
    Memory {
        /// What was asked for.
        value: toml::Value,
        /// By whom.
        asked: Box<Origin>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { name } => write!(f, "environment {name}"),
            Self::Flag { name } => write!(f, "flag {name}"),
            Self::Memory { value, asked } => {
                write!(f, "bounded by limits.memory_max ({value}, {asked})")
            }
        }
    }
}

/// One value with its origin, as `check-config` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Setting {
    /// Dotted path, such as `gateway.limits.connections`.
    pub(crate) key: String,
    /// The value in force.
    pub(crate) value: toml::Value,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is not there.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What stands in the file, the environment or a flag is wrong; the text says where.
    #[error("{0}")]
    Wrong(String),
    /// The node would be open to anyone, and nobody asked for that.
    #[error("{0}")]
    Open(String),
}

/// A checked configuration and the origin of each of its values.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    /// The values.
    pub(crate) config: Config,
    /// The same, one by one, in the order of their keys.
    pub(crate) settings: Vec<Setting>,
}

/// Reads `file` if one is given, lays `environment` and `flags` over it, and checks the result.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Effective, ConfigError> {
    let mut layers = Layers::defaults();
    if let Some(path) = file {
        layers.add_file(path, &read(path)?)?;
    }
    let mut token = None;
    for (name, value) in environment {
        layers.add_environment(&name, &value)?;
        if name == joining::VARIABLE {
            token = Some(value);
        }
    }
    add_flags(&mut layers, flags);
    let mut effective = layers.finish()?;
    joining::find_token(&mut effective, flags.join_token.as_deref(), token.as_deref())?;
    close_by_default(&mut effective);
    memory::bound(&mut effective);
    check(&effective)?;
    Ok(effective)
}

/// Whoever has passwords means them: nobody comes in without, unless that is said.
fn close_by_default(effective: &mut Effective) {
    let gateway = &mut effective.config.gateway;
    if gateway.password_file.as_os_str().is_empty() {
        return;
    }
    let is_theirs = |setting: &&mut Setting| setting.key == "gateway.allow_anonymous";
    if let Some(setting) = effective.settings.iter_mut().find(is_theirs)
        && setting.origin == Origin::Default
    {
        setting.value = false.into();
        gateway.allow_anonymous = false;
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing(path.to_owned()),
        _ => ConfigError::Read { path: path.to_owned(), source },
    })
}

fn add_flags(layers: &mut Layers, flags: &Flags) {
    if let Some(dir) = &flags.data_dir {
        layers.add_flag("node.data_dir", "--data-dir", dir.display().to_string().into());
    }
    if let Some(id) = flags.node_id {
        let id = i64::try_from(id.get()).unwrap_or(i64::MAX);
        layers.add_flag("node.id", "--node-id", id.into());
    }
    for address in &flags.mqtt {
        layers.add_listener(*address, "--mqtt");
    }
    if let Some(address) = flags.http {
        layers.add_flag("api.address", "--http", address.to_string().into());
    }
    if let Some(address) = &flags.cluster {
        layers.add_flag("cluster.address", "--cluster", address.clone().into());
    }
    if !flags.join.is_empty() {
        layers.add_flag_list("cluster.join", "--join", &flags.join);
    }
    if let Some(role) = flags.role {
        let name = match role {
            Role::Log => "log",
            Role::Edge => "edge",
        };
        layers.add_flag("cluster.role", "--role", name.into());
    }
    if flags.cluster_insecure {
        layers.add_flag("cluster.insecure", "--cluster-insecure", true.into());
    }
    if flags.allow_anonymous {
        layers.add_flag("gateway.allow_anonymous", "--allow-anonymous", true.into());
    }
}

/// What only shows when all sections are together.
fn check(effective: &Effective) -> Result<(), ConfigError> {
    let gateway = &effective.config.gateway;
    gateway.check().and_then(|()| certificates::check(gateway)).map_err(|error| {
        let origin = effective.origin(&format!("gateway.{}", error.key));
        ConfigError::Wrong(format!("{error} (it comes from: {origin})"))
    })?;
    effective.config.log.check().map_err(|error| {
        let origin = effective.origin(&format!("log.{}", error.key));
        ConfigError::Wrong(format!("{error} (it comes from: {origin})"))
    })?;
    effective.config.cluster.check().map_err(|error| {
        let origin = effective.origin_within(&format!("cluster.{}", error.key));
        ConfigError::Wrong(format!("{error} (it comes from: {origin})"))
    })?;
    if effective.config.limits.memory_max < memory::LEAST {
        let origin = effective.origin("limits.memory_max");
        let least = memory::LEAST;
        return Err(ConfigError::Wrong(format!(
            "limits.memory_max: must be at least {least}, or 0 for three quarters of the machine (it \
             comes from: {origin})"
        )));
    }
    check_access(effective)
}

/// Whoever reaches the node may use it, if nobody has to prove who they are. That is fine on
/// loopback; anywhere else it must have been asked for.
fn check_access(effective: &Effective) -> Result<(), ConfigError> {
    let gateway = &effective.config.gateway;
    let has_passwords = !gateway.password_file.as_os_str().is_empty();
    let takes_certificate =
        |listener: &Listener| listener.client_certificate != ClientCertificate::None;
    let has_certificates = gateway.listeners().iter().any(takes_certificate);
    let allowed = effective.origin("gateway.allow_anonymous");
    if !gateway.allow_anonymous && !has_passwords && !has_certificates {
        return Err(ConfigError::Open(format!(
            "gateway.allow_anonymous is false ({allowed}), and there is no other way to let a \
             client in: name a gateway.password_file ('ledgermq passwd add' makes one), or ask \
             for a client_certificate on a listener"
        )));
    }
    if has_passwords || !gateway.allow_anonymous || allowed != Origin::Default {
        return Ok(());
    }
    // Who needs a certificate of our authority to get in is not anyone.
    let listeners = gateway.listeners().into_iter();
    let is_open = |listener: &Listener| listener.client_certificate != ClientCertificate::Required;
    let mqtt = listeners.filter(is_open).map(|listener| listener.address);
    for address in mqtt.chain([effective.config.api.address]) {
        if !address.ip().to_canonical().is_loopback() {
            return Err(ConfigError::Open(format!(
                "{address} can be reached from other machines, and no client has to prove who it \
                 is: anyone could read and publish everything. Name a gateway.password_file \
                 ('ledgermq passwd add' makes one), require a client_certificate, use a loopback \
                 address such as 127.0.0.1, or say --allow-anonymous (gateway.allow_anonymous = true) if that is what you want"
            )));
        }
    }
    Ok(())
}

impl Effective {
    /// Where the value of `key` came from.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        let setting = self.settings.iter().find(|setting| setting.key == key);
        setting.map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// The same for a key that may be a list.
    fn origin_within(&self, key: &str) -> Origin {
        let is_in = |setting: &&Setting| {
            let rest = setting.key.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        };
        let setting = self.settings.iter().find(is_in);
        setting.map_or(Origin::Default, |setting| setting.origin.clone())
    }
}

#[cfg(test)]
mod tests;
