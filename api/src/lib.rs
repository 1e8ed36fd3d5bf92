//! HTTP: health, readiness, metrics.
//!
//! The room knows nothing of the others on its step: what it answers comes through the
//! [`Sources`](server::Sources) that the node hands over.

pub mod config;
pub mod metrics;
pub mod readiness;
pub mod server;
