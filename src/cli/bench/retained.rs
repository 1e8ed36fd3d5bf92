//! `ledgermq bench retained`.

use std::time::Duration;

use clap::Args;

use super::{Common, seconds, tell};
use crate::bench::retained::{self, Plan};
use crate::cli::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Retained messages, each of a topic of its own.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Payload in bytes; at least 24, which tell the messages apart.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
    /// Messages of the publisher (QoS 1) that are not acknowledged.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Seconds between storing and reading.
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds)]
    pause: Duration,
    /// Keep them; otherwise they are removed at the end.
    #[arg(long)]
    keep: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let plan = Plan {
            count: self.count,
            payload_bytes: self.size,
            window: self.window,
            pause: self.pause,
            keeps: self.keep,
        };
        let output = self.common.output;
        tell(retained::run(&self.common.brokers()?, &plan), output)
    }
}
