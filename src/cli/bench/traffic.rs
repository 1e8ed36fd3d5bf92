//! `ledgermq bench pub` and `pubsub`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ledgermq_core::packet::QoS;

use super::{Common, at_least_one, qos, rate, seconds, tell};
use crate::bench::traffic::{self, Layout, Plan};
use crate::cli::{Exit, Failure};

/// What both take.
#[derive(Debug, Args)]
struct Traffic {
    #[command(flatten)]
    common: Common,
    /// Topics of each publisher, used in turn.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    topics: usize,
    /// QoS of messages and subscriptions.
    #[arg(long, value_name = "0|1|2", default_value = "1", value_parser = qos)]
    qos: QoS,
    /// Send retained messages.
    #[arg(long)]
    retain: bool,
    /// Payload in bytes; at least 24, which tell the messages apart.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
    /// Messages of one publisher that are not acknowledged (QoS 0: not delivered)
    /// [default: 100, QoS 0: 1000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    window: Option<u16>,
    /// Messages a second of all publishers together, instead of as many as the window lets through.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Seconds of the measurement.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Seconds before it that are not measured.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    warm_up: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Pub {
    #[command(flatten)]
    traffic: Traffic,
    /// Publishers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    publishers: usize,
}

#[derive(Debug, Args)]
pub(super) struct Pubsub {
    #[command(flatten)]
    traffic: Traffic,
    /// Who gets what.
    #[arg(long, value_enum, default_value_t)]
    layout: Shape,
    /// Publishers [default: 1; fan-in: 50; shared: 10].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    publishers: Option<usize>,
    /// Subscribers [default: as many as publishers; fan-in: 1; fan-out: 200]. Pairs have as many.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    subscribers: Option<usize>,
    /// Subscribe by one filter with #, not by one for each topic.
    #[arg(long)]
    wildcard: bool,
}

/// Who gets what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Every publisher has a subscriber of its own.
    #[default]
    Pairs,
    /// Many publishers, one subscriber.
    FanIn,
    /// One publisher, many subscribers that get everything.
    FanOut,
    /// All subscribers share one subscription.
    Shared,
}

impl Traffic {
    fn run(
        self,
        layout: Layout,
        publishers: usize,
        subscribers: usize,
        wildcard: bool,
    ) -> Result<(), Failure> {
        let default = if self.qos == QoS::AtMostOnce { 1000 } else { 100 };
        let plan = Plan {
            layout,
            publishers,
            subscribers,
            topics: self.topics,
            wildcard,
            qos: self.qos,
            retain: self.retain,
            payload_bytes: self.size,
            window: self.window.unwrap_or(default),
            rate: self.rate,
            warm_up: self.warm_up,
            measured: self.seconds,
        };
        let output = self.common.output;
        tell(traffic::run(&self.common.brokers()?, &plan), output)
    }
}

impl Pub {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.traffic.run(Layout::Every, self.publishers, 0, false)
    }
}

impl Pubsub {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (publishers, subscribers, layout) = match self.layout {
            Shape::Pairs => (1, None, Layout::Pairs),
            Shape::FanIn => (50, Some(1), Layout::Every),
            Shape::FanOut => (1, Some(200), Layout::Every),
            Shape::Shared => (10, None, Layout::Shared),
        };
        let publishers = self.publishers.unwrap_or(publishers);
        if layout == Layout::Pairs && self.subscribers.is_some_and(|count| count != publishers) {
            let message = "--subscribers: in pairs there are as many as publishers; say \
                           --layout fan-out, fan-in or shared for another number";
            return Err(Failure::new(Exit::Usage, message));
        }
        let subscribers = match layout {
            Layout::Pairs => publishers,
            Layout::Every | Layout::Shared => {
                self.subscribers.or(subscribers).unwrap_or(publishers)
            }
        };
        self.traffic.run(layout, publishers, subscribers, self.wildcard)
    }
}
