//! `ledgermq bench offline`.

use std::time::Duration;

use clap::Args;
use ledgermq_core::packet::QoS;

use super::{Common, at_least_one, qos, seconds, tell};
use crate::bench::offline::{self, Plan};
use crate::cli::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Persistent sessions, each with a topic of its own.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    sessions: usize,
    /// Publishers, to which the sessions are dealt out [default: one for each session].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    publishers: Option<usize>,
    /// Messages over all sessions, in turn.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// QoS of messages and subscriptions: 1 or 2, for others are not kept.
    #[arg(long, value_name = "1|2", default_value = "1", value_parser = qos)]
    qos: QoS,
    /// Payload in bytes; at least 24, which tell the messages apart.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
    /// Messages of each publisher that are not acknowledged.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Seconds between storing and draining.
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds)]
    pause: Duration,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.qos == QoS::AtMostOnce {
            let message =
                "--qos 0: nobody keeps such messages for a client that is away; say 1 or 2";
            return Err(Failure::new(Exit::Usage, message));
        }
        let plan = Plan {
            sessions: self.sessions,
            publishers: self.publishers.unwrap_or(self.sessions).min(self.sessions),
            count: self.count,
            qos: self.qos,
            payload_bytes: self.size,
            window: self.window,
            pause: self.pause,
        };
        let output = self.common.output;
        tell(offline::run(&self.common.brokers()?, &plan), output)
    }
}
