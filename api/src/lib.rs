//! HTTP: health, readiness, metrics, and `/api/v1` over the projections.
//!
//! The room knows nothing of the others on its step: what it answers comes through the
//! [`Sources`](server::Sources) that the node hands over.

pub mod access;
pub mod config;
pub mod metrics;
pub mod problem;
pub mod readiness;
pub mod server;
pub mod v1;
