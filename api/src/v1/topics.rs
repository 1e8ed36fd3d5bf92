//! The topic tree, level by level.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use ledgermq_projections::views::topics::{Child, Rate, WINDOW};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::v1::payload::Payload;
use crate::v1::{Rooms, answer, page};

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
}

#[derive(Debug, Serialize)]
struct Figures {
    messages_per_second: f64,
    bytes_per_second: f64,
}

/// `GET /topics?parent=`: what is one level below a topic, with its rates and what is retained.
pub(super) async fn list(
    State(rooms): State<Arc<Rooms>>,
    Query(ask): Query<Ask>,
) -> Result<Response, Problem> {
    let page = ask.page.page()?;
    let now = rooms.log.status().time;
    let parent = ask.parent.as_deref();
    let (applied, list) = rooms.views.with(|views| {
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
            })
        };
        (applied, page.collect(children, |child| child.level, topic, applied))
    });
    Ok(answer(applied, &list))
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
