//! The command line: one file a subcommand.

mod bench;
mod check_config;
mod cluster;
mod passwd;
mod serve;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ledgermq_log::cluster as cluster_room;

use crate::config::{self, ConfigError, Effective, Flags};

/// An MQTT broker whose only truth is a replicated log.
#[derive(Debug, Parser)]
#[command(name = "ledgermq", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Without a command: serve. Exit codes: 0 ok, 1 failure, 2 usage or \
    configuration, 3 not found, 4 not allowed, 5 unavailable, 6 conflict.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT (the command that is meant if none is named).
    Serve(Settings),
    /// Print the configuration that would be in force, and where each value came from.
    CheckConfig(check_config::Arguments),
    /// Add, delete and verify the users of a password file.
    Passwd(passwd::Arguments),
    /// Ask a running node how its cluster is, and let nodes in and out.
    Cluster(cluster::Arguments),
    /// Put load on a broker and measure it.
    Bench(bench::Arguments),
}

/// What both commands take. Flags override LEDGERMQ_SECTION__KEY variables, those the file.
#[derive(Debug, Args)]
struct Settings {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything that the node keeps [default: ./ledgermq-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Number of the node [default: 1].
    #[arg(long, value_name = "N")]
    node_id: Option<NonZeroU64>,
    /// Address for MQTT, besides the listeners of the file; may be repeated [default:
    /// 127.0.0.1:1883].
    #[arg(long, value_name = "ADDR")]
    mqtt: Vec<SocketAddr>,
    /// Address for HTTP [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where other nodes of the cluster come in, HOST:PORT [default: none, the node is alone].
    #[arg(long, value_name = "ADDR")]
    cluster: Option<String>,
    /// Members of a cluster to ask to be let in, at the first start; HOST:PORT, several with commas
    /// between them or by repeating it.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    join: Vec<String>,
    /// Token to be let in with, at the first start (`ledgermq cluster token` prints one). Other
    /// users of the machine can see it here: LEDGERMQ_JOIN_TOKEN and cluster.join_token_file are
    /// the other ways to give it.
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,
    /// What the node is for in the cluster [default: log].
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Nodes speak in the clear and believe what everybody says of itself: whoever reaches the
    /// cluster's address can read and change everything.
    #[arg(long)]
    cluster_insecure: bool,
    /// Let clients in without credentials, at addresses other than loopback, too.
    #[arg(long)]
    allow_anonymous: bool,
}

/// What a node is for in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// It keeps the log, votes and leads.
    Log,
    /// It only holds connections; comes later.
    Edge,
}

impl From<Role> for cluster_room::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Log => Self::Log,
            Role::Edge => Self::Edge,
        }
    }
}

/// How a command prints data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How a command ends that did not do what it should; the numbers are a promise to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Failure = 1,
    Usage = 2,
    NotFound = 3,
    NotAllowed = 4,
    Unavailable = 5,
    Conflict = 6,
}

/// A command's failure, to be printed once.
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn new(exit: Exit, error: impl Display) -> Self {
        Self { exit, message: error.to_string() }
    }
}

impl Settings {
    /// The configuration that these flags, their file and the environment make.
    fn load(self) -> Result<Effective, Failure> {
        let flags = Flags {
            data_dir: self.data_dir,
            node_id: self.node_id,
            mqtt: self.mqtt,
            http: self.http,
            cluster: self.cluster,
            join: self.join,
            join_token: self.join_token,
            role: self.role.map(Into::into),
            cluster_insecure: self.cluster_insecure,
            allow_anonymous: self.allow_anonymous,
        };
        // Names or values that are not Unicode cannot be ours.
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        config::load(self.config.as_deref(), environment, &flags).map_err(|error| {
            let exit = match &error {
                ConfigError::Missing(_) => Exit::NotFound,
                ConfigError::Read { .. } => Exit::Failure,
                ConfigError::Wrong(_) => Exit::Usage,
                ConfigError::Open(_) => Exit::NotAllowed,
            };
            Failure::new(exit, chain(&error))
        })
    }
}

/// Runs the command that the arguments name. Usage errors end the process with 2.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::run(cli.settings),
        Some(Command::Serve(settings)) => serve::run(settings),
        Some(Command::CheckConfig(arguments)) => check_config::run(arguments),
        Some(Command::Passwd(arguments)) => passwd::run(arguments),
        Some(Command::Cluster(arguments)) => cluster::run(arguments),
        Some(Command::Bench(arguments)) => bench::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ledgermq: {}", failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Prints a line to standard output.
fn print(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{line}")
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot write: {error}")))
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
