//! Clients and their sessions.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use ledgermq_core::event::{DeliveryPhase, DeliveryRef, Subscription};
use ledgermq_core::packet::ProtocolVersion;
use ledgermq_projections::views::Views;
use ledgermq_projections::views::presence::Presence;
use ledgermq_projections::views::session::Session;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::v1::request::{Path, Query};
use crate::v1::{Rooms, answer, instant, page};

/// Owed messages that are shown.
const QUEUE_SHOWN: usize = 20;
/// Subscriptions and deliveries under way that are shown.
const SHOWN: usize = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    prefix: Option<String>,
    state: Option<String>,
    #[serde(flatten)]
    page: page::Ask,
}

/// A client as lists show it.
#[derive(Debug, Serialize)]
struct Client {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    state: &'static str,
    since: Option<String>,
    node: u64,
    address: String,
    protocol: &'static str,
    keep_alive_seconds: u16,
    session_expiry_seconds: u32,
    subscriptions: usize,
    queued_messages: usize,
    queued_bytes: u64,
}

/// `GET /clients?prefix=&state=`: in the order of their identifiers.
pub(super) async fn list(
    State(rooms): State<Arc<Rooms>>,
    Query(ask): Query<Ask>,
) -> Result<Response, Problem> {
    let page = ask.page.page()?;
    let wants_online = match ask.state.as_deref() {
        None => None,
        Some("online") => Some(true),
        Some("offline") => Some(false),
        Some(_) => return Err(Problem::invalid("state", "online or offline")),
    };
    let prefix = ask.prefix.as_deref().unwrap_or_default();
    let (applied, list) = rooms.views.with(|views| {
        let applied = views.applied();
        let list = page.collect(
            behind(views, page.after.as_deref(), prefix),
            |session| session.client(),
            |session| {
                let is_online = session.presence().is_online();
                wants_online
                    .is_none_or(|wanted| wanted == is_online)
                    .then(|| Client::from(*session))
            },
            applied,
        );
        (applied, list)
    });
    Ok(answer(applied, &list))
}

/// The sessions whose client begins with `prefix`, from the one behind `after` on.
fn behind<'v>(
    views: &'v Views,
    after: Option<&'v str>,
    prefix: &'v str,
) -> impl Iterator<Item = &'v Session> {
    // The prefix itself may be a client, and is before all that is longer.
    let first = views.session(prefix).filter(|_| after.is_none() && !prefix.is_empty());
    let from = after.unwrap_or(prefix).max(prefix);
    let rest = views.sessions().iter(Some(from).filter(|from| !from.is_empty()));
    first.into_iter().chain(rest.take_while(move |session| session.client().starts_with(prefix)))
}

/// `GET /clients/{id}`
pub(super) async fn one(
    State(rooms): State<Arc<Rooms>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let found = rooms
        .views
        .with(|views| views.session(&id).map(|session| (views.applied(), detail(views, session))));
    let Some((applied, mut body)) = found else {
        return Err(Problem::not_found(format!("no client {id:?} has a session")));
    };
    body["counters"] = json!((rooms.counts)(&id).await);
    Ok(answer(applied, &body))
}

fn detail(views: &Views, session: &Session) -> Value {
    let mut owed = Vec::new();
    views.owed(session.client(), DeliveryRef::default(), QUEUE_SHOWN, &mut owed);
    let owed: Vec<_> = owed
        .iter()
        .map(|owed| json!({"offset": place(owed.message), "qos": owed.qos as u8}))
        .collect();
    let outstanding: Vec<_> = session
        .outstanding()
        .iter()
        .take(SHOWN)
        .map(|held| {
            let phase = match held.phase {
                DeliveryPhase::Published => "published",
                DeliveryPhase::Received => "received",
            };
            let offset = place(held.message);
            json!({"packet_id": held.packet_id.get(), "offset": offset, "phase": phase})
        })
        .collect();
    let subscriptions: Vec<_> =
        session.subscriptions().iter().take(SHOWN).map(subscription).collect();
    json!({
        "client": Client::from(session),
        "session": {
            "epoch": session.epoch().to_string(),
            "expires": session.expires().and_then(instant),
            "cursor": place(session.cursor()),
        },
        "subscriptions": subscriptions,
        "inflight": {
            "to_client": outstanding,
            "to_client_total": session.outstanding().len(),
            "from_client": session.inbound().iter().map(|id| id.get()).collect::<Vec<_>>(),
        },
        "queue": {
            "messages": session.owed_messages(),
            "bytes": session.owed_bytes(),
            "head": owed,
        },
        "as_of": views.applied().to_string(),
    })
}

fn subscription(subscription: &Subscription) -> Value {
    let options = &subscription.options;
    json!({
        "filter": subscription.filter.as_str(),
        "qos": options.qos as u8,
        "no_local": options.no_local,
        "retain_as_published": options.retain_as_published,
        "identifier": subscription.identifier,
    })
}

fn protocol(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V31 => "3.1",
        ProtocolVersion::V311 => "3.1.1",
        ProtocolVersion::V5 => "5",
    }
}

/// The offset of a message; that of the subscription and the place in its answer for a retained
/// one; with the number of the group for one of a Shared Subscription.
fn place(message: DeliveryRef) -> String {
    match (message.nth, message.group()) {
        (0, _) => message.at.to_string(),
        (_, Some(group)) => format!("{}/group-{group}", message.at),
        (nth, None) => format!("{}/{nth}", message.at),
    }
}

impl From<&Session> for Client {
    fn from(session: &Session) -> Self {
        let (state, since) = match session.presence() {
            Presence::Online { since } => ("online", since),
            Presence::Offline { since, .. } => ("offline", since),
        };
        Self {
            id: session.client().to_string(),
            username: session.username().map(str::to_owned),
            state,
            since: instant(since),
            node: session.node(),
            address: session.peer().to_owned(),
            protocol: protocol(session.protocol()),
            keep_alive_seconds: session.keep_alive(),
            session_expiry_seconds: session.session_expiry_interval(),
            subscriptions: session.subscriptions().len(),
            queued_messages: session.owed_messages(),
            queued_bytes: session.owed_bytes(),
        }
    }
}
