//! The node.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::v1::{Rooms, answer, instant};

/// `GET /node`
pub(super) async fn node(State(rooms): State<Arc<Rooms>>) -> Response {
    let status = rooms.log.status();
    let (applied, sessions, online, retained) = rooms.views.with(|views| {
        let sessions = views.sessions();
        (views.applied(), sessions.len(), sessions.present().online(), views.retained().len())
    });
    let node = &rooms.node;
    answer(
        applied,
        &json!({
            "id": node.id,
            "version": node.version,
            "started": instant(node.started),
            "ready": rooms.views.is_ready(),
            "log": {
                "term": status.term,
                "first_index": status.first_index,
                "commit_index": status.commit_index,
                "disk_bytes": status.disk_bytes,
                "free_bytes": status.free_bytes,
                "time": instant(status.time),
            },
            "projections": {
                "applied_index": applied,
                "checkpoint_index": rooms.views.checkpointed(),
            },
            "sessions": sessions,
            "clients_online": online,
            "retained_messages": retained,
            "as_of": applied.to_string(),
        }),
    )
}
