//! What a subscription would bring.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use ledgermq_core::topic::TopicFilter;
use ledgermq_projections::views::topics::WINDOW;
use serde::Deserialize;
use serde_json::json;

use crate::problem::Problem;
use crate::v1::request::Query;
use crate::v1::{Rooms, answer};

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    filter: Option<String>,
}

/// `GET /subscriptions:estimate?filter=`: the rate of a filter from the topic tree.
pub(super) async fn estimate(
    State(rooms): State<Arc<Rooms>>,
    Query(ask): Query<Ask>,
) -> Result<Response, Problem> {
    let filter = filter(ask.filter.as_deref())?;
    let now = rooms.log.status().time;
    let (applied, rate) =
        rooms.views.with(|views| (views.applied(), views.topics().rate(filter.pattern(), now)));
    Ok(answer(
        applied,
        &json!({
            "filter": filter.as_str(),
            "window_seconds": WINDOW.as_secs(),
            "messages": rate.messages,
            "bytes": rate.bytes,
            "messages_per_second": rate.messages_per_second(),
            "bytes_per_second": rate.bytes_per_second(),
            "as_of": applied.to_string(),
        }),
    ))
}

/// The parameter `filter`.
pub(super) fn filter(text: Option<&str>) -> Result<TopicFilter, Problem> {
    let text = text.ok_or_else(|| Problem::invalid("filter", "a topic filter is needed"))?;
    TopicFilter::new(text).map_err(|error| Problem::invalid("filter", error))
}
