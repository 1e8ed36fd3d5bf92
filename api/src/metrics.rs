//! The node's metrics, rendered for Prometheus.
//!
//! Rooms count through the `metrics` facade with handles that they register once. Names begin with
//! `ledgermq_`, in base units; labels are `node`, `listener`, `peer`, `direction`, `reason` and
//! `qos`, never a client, topic or user.

use std::time::Duration;

use metrics::SetRecorderError;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// Durations of the log's durable writes; its buckets are those that the log counts in.
pub const FSYNC_SECONDS: &str = "ledgermq_log_fsync_seconds";
/// Upper bounds, in seconds, of the buckets of every other histogram: 100 us to 10 s.
const SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

/// What the process counted so far; cheap to clone.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Another recorder was installed before in this process.
#[derive(Debug, thiserror::Error)]
#[error("metrics are already recorded elsewhere in this process")]
pub struct InstallError(#[source] SetRecorderError<PrometheusRecorder>);

impl Metrics {
    /// Makes this the recorder of the process; from here on `metrics::counter!` and its kin count.
    ///
    /// # Errors
    ///
    /// If the process has a recorder already.
    pub fn install() -> Result<Self, InstallError> {
        let recorder = recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(InstallError)?;
        Ok(Self(handle))
    }

    /// Metrics of nothing, for tests.
    #[must_use]
    pub fn detached() -> Self {
        Self(recorder().handle())
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

fn recorder() -> PrometheusRecorder {
    let fsync = ledgermq_log::Buckets::BOUNDS_MICROS.map(|micros| Duration::from_micros(micros));
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .and_then(|builder| {
            let name = Matcher::Full(FSYNC_SECONDS.to_owned());
            builder.set_buckets_for_metric(name, &fsync.map(|bound| bound.as_secs_f64()))
        })
        .expect("the lists of buckets are not empty")
        .build_recorder()
}
