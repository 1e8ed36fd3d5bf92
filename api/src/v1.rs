//! `/api/v1`: what the projections know, to read, and the cluster, to change, too.
//!
//! Lists are `{items, next, as_of}`: `next` is the `cursor` of the following page, absent at the
//! end; `as_of` is the index of the log up to which the answer is exact, also in the header
//! `Log-Offset`. A page looks at no more than 10,000 entries, so that a question
//! never holds the projections up: one that finds little may be short and still have a next.

mod clients;
mod cluster;
mod counts;
mod estimate;
mod node;
mod page;
mod payload;
mod request;
mod retained;
mod topics;

pub use cluster::{MakeToken, TokenAsk};
pub use counts::{AskCounts, Counts};

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderName;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_log::Log;
use ledgermq_projections::reader::Reader;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::problem::Problem;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Where the answers come from.
#[derive(Clone)]
pub struct Rooms {
    /// The log.
    pub log: Log,
    /// The projections.
    pub views: Reader,
    /// The node itself.
    pub node: Node,
    /// The connections.
    pub counts: AskCounts,
    /// Makes tokens to join the cluster with; none where the node cannot.
    pub tokens: Option<MakeToken>,
}

/// What the node says of itself.
#[derive(Clone, Debug)]
pub struct Node {
    /// Number of the node.
    pub id: u64,
    /// Version of the program.
    pub version: &'static str,
    /// When the process started.
    pub started: Timestamp,
}

/// The routes below `/api/v1`.
pub(crate) fn router(rooms: Rooms) -> Router {
    Router::new()
        .route("/node", get(node::node))
        .route("/cluster", get(cluster::cluster))
        .route("/clients", get(clients::list))
        .route("/clients/{id}", get(clients::one))
        .route("/topics", get(topics::list))
        .route("/retained", get(retained::list))
        .route("/subscriptions:estimate", get(estimate::estimate))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(Arc::new(rooms))
}

/// The routes below `/api/v1` that change something.
pub(crate) fn changing_router(rooms: Rooms) -> Router {
    Router::new()
        .route("/cluster/nodes/{id}", delete(cluster::remove))
        .route("/cluster/nodes/{id}/promote", post(cluster::promote))
        .route("/cluster/nodes/{id}/demote", post(cluster::demote))
        .route("/cluster/nodes/{id}/drain", post(cluster::drain))
        .route("/cluster/nodes/{id}/undrain", post(cluster::undrain))
        .route("/cluster/leader", post(cluster::lead))
        .route("/cluster/tokens", post(cluster::token))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(Arc::new(rooms))
}

/// Answers with `body`, which is exact up to `as_of`.
fn answer(as_of: Index, body: &impl Serialize) -> Response {
    let header = [(HeaderName::from_static("log-offset"), as_of.to_string())];
    (header, Json(body)).into_response()
}

/// An instant as RFC 3339 in UTC.
fn instant(at: Timestamp) -> Option<String> {
    let nanos = i128::from(at.0) * 1000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests;
