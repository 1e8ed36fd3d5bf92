//! `ledgermq bench`: put load on brokers and measure.

mod connect;
mod offline;
mod relay;
mod retained;
mod sub;
mod traffic;

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ledgermq_core::packet::{ProtocolVersion, QoS};
use serde::Serialize;

use super::{Exit, Failure, Output, chain};
use crate::bench::target::{Target, Trust};
use crate::bench::{BenchError, Brokers};
use crate::process::usage;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Publishers alone.
    Pub(traffic::Pub),
    /// Subscribers alone: count what comes.
    Sub(sub::Arguments),
    /// Publishers and subscribers, in pairs or each with all.
    Pubsub(traffic::Pubsub),
    /// Many connections, held or left at once.
    Connect(connect::Arguments),
    /// Retained messages: stored, and read by one wildcard.
    Retained(retained::Arguments),
    /// Messages for persistent sessions whose clients are away: stored, and drained.
    Offline(offline::Arguments),
    /// Serve as the bare relay: no broker, but the limit that disk and cores set for one.
    Relay(relay::Arguments),
}

/// What every load takes.
#[derive(Debug, Args)]
struct Common {
    /// A broker: mqtt://HOST:PORT or mqtts://HOST:PORT; may be repeated: publishers are dealt
    /// out from the first on, subscribers from the second.
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    url: Vec<String>,
    /// Protocol version.
    #[arg(long, value_name = "VERSION", value_enum, default_value_t)]
    mqtt: Version,
    /// User Name of every client.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// File with the password of every client in its first line (- is standard input).
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Authority that signed the brokers' certificates (PEM).
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Take any certificate.
    #[arg(long)]
    insecure: bool,
    /// Keep Alive in seconds; 0 is none.
    #[arg(long, value_name = "S", default_value_t = 60)]
    keep_alive: u16,
    /// Connections under way at a time while clients connect.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    at_once: usize,
    /// Process of a broker, for its CPU time and memory; may be repeated.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Show no progress, on a terminal neither.
    #[arg(long)]
    quiet: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Protocol versions by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Version {
    /// MQTT 3.1.1.
    #[default]
    #[value(name = "3.1.1")]
    V311,
    /// MQTT 5.
    #[value(name = "5")]
    V5,
}

impl Common {
    /// The brokers that these arguments name.
    fn brokers(self) -> Result<Brokers, Failure> {
        let usage_error = |message| Failure::new(Exit::Usage, message);
        let trust = match (self.ca, self.insecure) {
            (Some(file), _) => Trust::Authority(file),
            (None, true) => Trust::Everyone,
            (None, false) => Trust::Unsaid,
        };
        let targets: Result<Vec<_>, _> =
            self.url.iter().map(|url| Target::parse(url, &trust)).collect();
        let password = match self.password_file {
            Some(file) => Some(first_line(&file).map_err(usage_error)?),
            None => None,
        };
        if let Some(pid) = self.pid.iter().find(|pid| usage(**pid).is_none()) {
            return Err(usage_error(format!("--pid {pid}: there is no such process")));
        }
        Ok(Brokers {
            targets: targets.map_err(usage_error)?,
            version: match self.mqtt {
                Version::V311 => ProtocolVersion::V311,
                Version::V5 => ProtocolVersion::V5,
            },
            username: self.user,
            password,
            keep_alive: self.keep_alive,
            at_once: self.at_once,
            pids: self.pid,
            shows_progress: !self.quiet,
        })
    }
}

fn first_line(file: &std::path::Path) -> Result<String, String> {
    let read = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = read.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Seconds, with a point if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|error| format!("{error}: write seconds, such as 1.5"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// So many a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        Ok(_) => Err("it must be above 0".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

fn qos(text: &str) -> Result<QoS, String> {
    let bits = text.parse().ok().and_then(QoS::from_bits);
    bits.ok_or_else(|| "it is 0, 1 or 2".to_owned())
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.load {
        Load::Pub(load) => load.run(),
        Load::Sub(load) => load.run(),
        Load::Pubsub(load) => load.run(),
        Load::Connect(load) => load.run(),
        Load::Retained(load) => load.run(),
        Load::Offline(load) => load.run(),
        Load::Relay(relay) => relay.run(),
    }
}

/// Prints what a run measured, or says why there is nothing.
#[expect(clippy::print_stdout, reason = "the result of a command goes to stdout")]
fn tell<R: Display + Serialize>(
    result: Result<R, BenchError>,
    output: Output,
) -> Result<(), Failure> {
    let report = result.map_err(|error| {
        let exit = match error {
            BenchError::Plan(_) => Exit::Usage,
            BenchError::Refused { .. } | BenchError::Downgraded { .. } => Exit::NotAllowed,
            _ => Exit::Failure,
        };
        Failure::new(exit, chain(&error))
    })?;
    match output {
        Output::Text => println!("{report}"),
        Output::Json => {
            println!("{}", serde_json::to_string(&report).expect("plain numbers"));
        }
    }
    Ok(())
}
