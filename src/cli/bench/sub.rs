//! `ledgermq bench sub`.

use std::time::Duration;

use clap::Args;
use ledgermq_core::packet::QoS;

use super::{Common, at_least_one, qos, seconds, tell};
use crate::bench::listen::{self, Plan};
use crate::cli::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Topic Filter; may be repeated.
    #[arg(long, value_name = "FILTER", default_value = "bench/#")]
    topic: Vec<String>,
    /// Subscribers, each with all filters.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    subscribers: usize,
    /// QoS of the subscriptions.
    #[arg(long, value_name = "0|1|2", default_value = "1", value_parser = qos)]
    qos: QoS,
    /// Seconds to listen [default: 5, without --count].
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Messages to wait for.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let default = self.count.is_none().then_some(Duration::from_secs(5));
        let plan = Plan {
            subscribers: self.subscribers,
            filters: self.topic,
            qos: self.qos,
            duration: self.seconds.or(default),
            count: self.count,
        };
        let output = self.common.output;
        tell(listen::run(&self.common.brokers()?, &plan), output)
    }
}
