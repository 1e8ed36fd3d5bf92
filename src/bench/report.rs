//! What a run of traffic measured, as it is printed.

use std::fmt;

use serde::Serialize;

use super::effort::Effort;
use super::latency::Percentiles;

/// Result of a run of traffic.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Seconds of the measurement.
    pub(crate) seconds: f64,
    /// Messages sent in the measured time.
    pub(crate) sent: u64,
    /// Messages that the broker took over (QoS 1: PUBACK, QoS 2: PUBCOMP) in the measured time.
    pub(crate) acknowledged: u64,
    /// Messages delivered in the measured time, at each receiver.
    pub(crate) delivered: u64,
    /// The same a second.
    pub(crate) sent_per_second: f64,
    /// As above.
    pub(crate) acknowledged_per_second: f64,
    /// As above.
    pub(crate) delivered_per_second: f64,
    /// From the instant at which a message was sent (at a rate: due) to its delivery.
    pub(crate) latency_us: Option<Percentiles>,
    /// The same to its acknowledgement.
    pub(crate) ack_latency_us: Option<Percentiles>,
    /// How long after it was due a message was sent: what the generator was late.
    pub(crate) send_lag_us: Option<Percentiles>,
    /// Messages that were due at the end and could not be sent. They stand among the latencies and lags
    /// as late as they were by then.
    pub(crate) unsent: u64,
    /// Messages that had not come when the run ended, over the whole run, without those refused.
    pub(crate) lost: u64,
    /// Messages that came again, over the whole run.
    pub(crate) duplicates: u64,
    /// Messages that came behind a later one of their topic; `None` where nothing promises an order
    /// that one receiver could see (shared subscriptions).
    pub(crate) out_of_order: Option<u64>,
    /// Messages that the broker refused in its acknowledgement, over the whole run.
    pub(crate) refused: u64,
    /// What each delivered message cost, or each sent one where nobody receives.
    pub(crate) effort: Effort,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |f: &mut fmt::Formatter<'_>, what, count: u64, rate: f64| {
            if count > 0 { writeln!(f, "{what} {rate:.0} messages/s ({count})") } else { Ok(()) }
        };
        rate(f, "sent", self.sent, self.sent_per_second)?;
        rate(f, "acknowledged", self.acknowledged, self.acknowledged_per_second)?;
        rate(f, "delivered", self.delivered, self.delivered_per_second)?;
        for (what, latency) in [
            ("to delivery:", self.latency_us),
            ("to acknowledgement:", self.ack_latency_us),
            ("sent late by:", self.send_lag_us),
        ] {
            if let Some(latency) = latency {
                writeln!(f, "{what} {latency}")?;
            }
        }
        if self.unsent > 0 {
            writeln!(f, "{} messages were due and could not be sent", self.unsent)?;
        }
        write!(f, "lost {}, duplicates {}", self.lost, self.duplicates)?;
        if let Some(out_of_order) = self.out_of_order {
            write!(f, ", out of order {out_of_order}")?;
        }
        writeln!(f, ", refused {}", self.refused)?;
        self.effort.fmt(f)
    }
}
