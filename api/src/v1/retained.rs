//! Retained messages.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use ledgermq_projections::views::retained::RetainedMessage;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::v1::estimate::filter;
use crate::v1::payload::Payload;
use crate::v1::request::Query;
use crate::v1::{Rooms, answer, instant, page};

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    filter: Option<String>,
    #[serde(flatten)]
    page: page::Ask,
}

#[derive(Debug, Serialize)]
struct Message {
    topic: String,
    qos: u8,
    #[serde(flatten)]
    payload: Payload,
    published: Option<String>,
    offset: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_expiry_interval: Option<u32>,
}

/// `GET /retained?filter=`: in the order of the topics; `#` if no filter is given (which, as
/// always, leaves out topics that begin with `$`).
pub(super) async fn list(
    State(rooms): State<Arc<Rooms>>,
    Query(ask): Query<Ask>,
) -> Result<Response, Problem> {
    let page = ask.page.page()?;
    let filter = filter(Some(ask.filter.as_deref().unwrap_or("#")))?;
    let now = rooms.log.status().time;
    let is_asked_for = |message: &RetainedMessage| {
        filter.matches(&message.topic) && message.expires().is_none_or(|expires| expires > now)
    };
    let (applied, list) = rooms.views.with(|views| {
        let applied = views.applied();
        let messages = views.retained().iter(page.after.as_deref());
        let list = page.collect(
            messages,
            |message| &*message.topic,
            |message| is_asked_for(message).then(|| Message::from(&***message)),
            applied,
        );
        (applied, list)
    });
    Ok(answer(applied, &list))
}

impl From<&RetainedMessage> for Message {
    fn from(message: &RetainedMessage) -> Self {
        Self {
            topic: message.topic.to_string(),
            qos: message.qos as u8,
            payload: Payload::from(&*message.payload),
            published: instant(message.time),
            offset: message.offset.to_string(),
            publisher: message.publisher.as_deref().map(str::to_owned),
            message_expiry_interval: message.message_expiry_interval,
        }
    }
}
