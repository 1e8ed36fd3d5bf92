//! `ledgermq bench connect`.

use std::time::Duration;

use clap::Args;
use ledgermq_core::packet::QoS;

use super::{Common, at_least_one, qos, rate, seconds, tell};
use crate::bench::connect::{self, Plan};
use crate::cli::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Clients.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    count: usize,
    /// What Client Identifiers begin with; a number from 0 follows. Two generators at one broker need
    /// different ones.
    #[arg(long, value_name = "TEXT", default_value = "bench-session")]
    prefix: String,
    /// Clients a second, instead of as many as --at-once lets through.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Leave sessions behind that outlive the connections.
    #[arg(long)]
    persistent: bool,
    /// Subscriptions of each client, to topics of its own.
    #[arg(long, value_name = "N", default_value_t = 0)]
    subscriptions: usize,
    /// QoS of the subscriptions.
    #[arg(long, value_name = "0|1|2", default_value = "1", value_parser = qos)]
    qos: QoS,
    /// Disconnect each client as soon as it is ready: more clients than connections can be had.
    #[arg(long)]
    leave: bool,
    /// Seconds for which all stay connected, after one that is always spent on a look at memory.
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds)]
    hold: Duration,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let plan = Plan {
            count: self.count,
            prefix: self.prefix,
            rate: self.rate,
            is_kept: self.persistent,
            subscriptions: self.subscriptions,
            qos: self.qos,
            leaves: self.leave,
            hold: self.hold,
        };
        let output = self.common.output;
        tell(connect::run(&self.common.brokers()?, &plan), output)
    }
}
