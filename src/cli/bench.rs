//! `ledgermq bench`: put load on a broker and measure.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use ledgermq_core::packet::{ProtocolVersion, QoS};

use super::{Exit, Failure, Output, chain};
use crate::bench::{self, Plan};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Publishers and subscribers in pairs, as fast as the window lets them.
    Pubsub(Pubsub),
    /// Leave persistent sessions behind, each with one subscription.
    Sessions(Sessions),
}

#[derive(Debug, Args)]
struct Sessions {
    /// Address of the broker.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    count: usize,
}

#[derive(Debug, Args)]
struct Pubsub {
    /// Address of the broker.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// Pairs of a publisher and a subscriber.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pairs: usize,
    /// QoS of messages and subscriptions.
    #[arg(long, value_name = "0|1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Speak MQTT 5 instead of 3.1.1.
    #[arg(long)]
    v5: bool,
    /// Payload in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
    /// Messages of one publisher that are not acknowledged (QoS 0: not delivered).
    #[arg(long, value_name = "N", default_value_t = 100)]
    window: u32,
    /// Seconds of the measurement, after one of warm-up.
    #[arg(long, value_name = "S", default_value_t = 5)]
    seconds: u64,
    /// Process of the broker, for its CPU time and memory.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[expect(clippy::print_stdout, reason = "the result of a command goes to stdout")]
pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let load = match arguments.load {
        Load::Pubsub(load) => load,
        Load::Sessions(load) => {
            return bench::open_sessions(load.address, load.count)
                .map_err(|error| Failure::new(Exit::Failure, chain(&error)));
        }
    };
    let plan = Plan {
        address: load.address,
        pairs: load.pairs,
        qos: QoS::from_bits(load.qos).unwrap_or_default(),
        version: if load.v5 { ProtocolVersion::V5 } else { ProtocolVersion::V311 },
        payload_bytes: load.size,
        window: load.window,
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs(load.seconds),
        pid: load.pid,
    };
    let report = bench::pairs(&plan).map_err(|error| Failure::new(Exit::Failure, chain(&error)))?;
    match load.output {
        Output::Text => println!("{report}"),
        Output::Json => {
            let json = serde_json::to_string(&report).expect("plain numbers");
            println!("{json}");
        }
    }
    Ok(())
}
