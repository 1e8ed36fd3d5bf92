//! The topic tree, level by level.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use ledgermq_core::event::EventRef;
use ledgermq_core::offset::Offset;
use ledgermq_log::Log;
use ledgermq_projections::views::topics::{Child, Rate, WINDOW};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::v1::payload::Payload;
use crate::v1::request::Query;
use crate::v1::{Rooms, answer, instant, page};

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    parent: Option<String>,
    #[serde(flatten)]
    page: page::Ask,
}

#[derive(Debug, Serialize)]
struct Topic {
    topic: String,
    level: String,
    has_children: bool,
    own: Figures,
    subtree: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    retained: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
}

/// The last message to a topic; without more than its place if the log was purged beyond it.
#[derive(Debug, Serialize)]
struct Last {
    #[serde(skip)]
    at: Offset,
    offset: String,
    #[serde(flatten)]
    message: Option<Message>,
}

#[derive(Debug, Serialize)]
struct Message {
    at: Option<String>,
    qos: u8,
    retain: bool,
    #[serde(flatten)]
    payload: Payload,
}

#[derive(Debug, Serialize)]
struct Figures {
    messages_per_second: f64,
    bytes_per_second: f64,
}

/// `GET /topics?parent=`: what is one level below a topic, with its rates, its last message and what
/// is retained.
pub(super) async fn list(
    State(rooms): State<Arc<Rooms>>,
    Query(ask): Query<Ask>,
) -> Result<Response, Problem> {
    let page = ask.page.page()?;
    let now = rooms.log.status().time;
    let parent = ask.parent.as_deref();
    let (applied, mut list) = rooms.views.with(|views| {
        let applied = views.applied();
        let children = views.topics().children(parent, page.after.as_deref(), now);
        let topic = |child: &Child<'_>| {
            let topic = match parent {
                None => child.level.to_owned(),
                Some(parent) => format!("{parent}/{}", child.level),
            };
            let retained = views.retained().get(&topic);
            let retained = retained.map(|message| Payload::from(&*message.payload));
            Some(Topic {
                topic,
                level: child.level.to_owned(),
                has_children: child.has_children,
                own: child.own.into(),
                subtree: child.subtree.into(),
                retained,
                last: child.last.map(|at| Last { at, offset: at.to_string(), message: None }),
            })
        };
        (applied, page.collect(children, |child| child.level, topic, applied))
    });
    // The log is read behind the views' back: it may take a disk.
    let log = rooms.log.clone();
    let read = tokio::task::spawn_blocking(move || {
        for last in list.items.iter_mut().filter_map(|topic| topic.last.as_mut()) {
            last.message = message(&log, last.at);
        }
        list
    });
    let list = read.await.map_err(|_| Problem::internal("the log could not be read"))?;
    Ok(answer(applied, &list))
}

/// The message that was published at `offset`, if the log still has it.
fn message(log: &Log, offset: Offset) -> Option<Message> {
    let batch = log.read(offset.index).ok()??;
    let ordinal = usize::try_from(offset.ordinal).ok()?;
    let record = batch.batch().records().nth(ordinal)?.ok()?;
    let EventRef::MessagePublished(message) = record.event().ok()? else { return None };
    Some(Message {
        at: instant(batch.time),
        qos: message.qos as u8,
        retain: message.retain,
        payload: Payload::from(message.payload),
    })
}

impl From<Rate> for Figures {
    #[expect(clippy::cast_precision_loss, reason = "counts of ten seconds are far below 2^53")]
    fn from(rate: Rate) -> Self {
        let seconds = WINDOW.as_secs() as f64;
        Self {
            messages_per_second: rate.messages as f64 / seconds,
            bytes_per_second: rate.bytes as f64 / seconds,
        }
    }
}
