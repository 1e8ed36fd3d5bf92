//! The cluster: who is in it, and what an operator may have done to it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use ledgermq_core::quantity::Span;
use ledgermq_log::cluster::{Answer, Command, Members, Role, Standing};
use ledgermq_log::{ClusterStatus, Health, Log, NodeStatus, SnapshotStatus, SnapshotStep};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::v1::request::{Body, Path};
use crate::v1::{Rooms, answer};

/// How often to look whether a command was answered.
const LOOK: Duration = Duration::from_millis(10);
/// For so long a command waits for a quorum before it is begun: elections are shorter.
const QUORUM_WAIT: Duration = Duration::from_secs(4);
/// The log answers within half a minute, and then its node may be about to stop.
const ANSWER_WAIT: Duration = Duration::from_secs(35);
/// Time that a token is valid if nothing is said.
const TTL: Duration = Duration::from_secs(3600);
/// Longest time that a token may be valid.
const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenAsk {
    /// What the node will be for.
    pub role: Role,
    /// For how long the token is valid.
    pub ttl: Duration,
    /// The only number that the node may have, if it is fixed.
    pub node: Option<u64>,
    /// The member whose place it is to take, if it is for that.
    pub replaces: Option<u64>,
}

/// Makes a token to join the cluster with, or says why it cannot. Must be quick.
pub type MakeToken = Arc<dyn Fn(TokenAsk) -> Result<String, String> + Send + Sync>;

/// One node as it is answered.
#[derive(Debug, Serialize)]
struct Item<'a> {
    node: u64,
    address: &'a str,
    role: Role,
    standing: &'static str,
    held: bool,
    replaces: Option<u64>,
    draining: bool,
    leader: bool,
    version: &'a str,
    start: u64,
    connected: bool,
    matched: Option<u64>,
    lag_entries: Option<u64>,
    lag_seconds: Option<f64>,
    applied: u64,
    silence_ms: Option<u64>,
    refusal: Option<&'a str>,
    last_fsync_us: u64,
    bytes_free: u64,
}

impl<'a> Item<'a> {
    fn new(node: &'a NodeStatus, members: &Members, leader: u64, last: Option<u64>) -> Self {
        let standing = match node.standing {
            Standing::Learner => "learner",
            Standing::Voter => "voter",
            Standing::Away => "away",
        };
        Self {
            node: node.node,
            address: &node.address,
            role: members.nodes.get(&node.node).map(|member| member.role).unwrap_or_default(),
            standing,
            held: node.held,
            replaces: node.replaces,
            draining: node.draining,
            leader: node.node == leader,
            version: &node.version,
            start: node.start,
            connected: node.connected,
            matched: node.matched,
            lag_entries: last.zip(node.matched).map(|(last, matched)| last.saturating_sub(matched)),
            lag_seconds: node.lag.map(|lag| lag.as_secs_f64()),
            applied: node.applied,
            silence_ms: node.silence.map(|silence| number(silence.as_millis())),
            refusal: node.refusal.as_deref(),
            last_fsync_us: number(node.last_fsync.as_micros()),
            bytes_free: node.bytes_free,
        }
    }
}

fn number(of: u128) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

/// `GET /cluster`: what this node knows.
pub(super) async fn cluster(State(rooms): State<Arc<Rooms>>) -> Response {
    let (status, log) = (rooms.log.cluster_status(), rooms.log.status());
    let (own, members) = (rooms.log.node(), rooms.log.members());
    // Only the leader knows what others, or it itself, lack.
    let of_own = status.nodes.iter().find(|node| node.node == own);
    let last = of_own.and_then(|node| node.matched).filter(|_| log.leader == own);
    let items: Vec<Item<'_>> =
        status.nodes.iter().map(|node| Item::new(node, &members, log.leader, last)).collect();
    let health = status.health(own, log.leader);
    let applied = rooms.views.applied();
    answer(
        applied,
        &json!({
            "id": members.is_founded().then(|| members.cluster.to_string()),
            "generation": members.generation,
            "node": own,
            "term": log.term,
            "leader": (log.leader != 0).then_some(log.leader),
            "quorum": {
                "voters": status.voters().count(),
                "online": status.online,
                "needed": status.needed,
                "reached": health != Health::Offline,
            },
            "state": state(health),
            "doubt": status.doubt,
            "snapshots": snapshots(&status),
            "items": items,
            "next": null,
            "as_of": applied.to_string(),
        }),
    )
}

fn snapshots(status: &ClusterStatus) -> Value {
    let SnapshotStatus { made, sent, sent_bytes, received, received_bytes, failed, .. } =
        status.snapshots;
    let last = |last: Option<(u64, Duration)>| {
        last.map(|(bytes, time)| json!({ "bytes": bytes, "seconds": time.as_secs_f64() }))
    };
    let running = status.snapshots_running.iter().map(|snapshot| {
        let (step, node) = match snapshot.step {
            SnapshotStep::Made => ("made", None),
            SnapshotStep::Sent { to } => ("sent", Some(to)),
            SnapshotStep::Received { from } => ("received", Some(from)),
            SnapshotStep::Imported { from } => ("imported", Some(from)),
        };
        json!({
            "step": step,
            "node": node,
            "index": snapshot.index,
            "bytes": snapshot.bytes,
            "bytes_total": snapshot.bytes_total,
        })
    });
    json!({
        "made": made,
        "sent": sent,
        "sent_bytes": sent_bytes,
        "received": received,
        "received_bytes": received_bytes,
        "failed": failed,
        "last_sent": last(status.snapshots.last_sent),
        "last_received": last(status.snapshots.last_received),
        "running": running.collect::<Vec<_>>(),
    })
}

fn state(health: Health) -> &'static str {
    match health {
        Health::Stable => "stable",
        Health::Degraded => "degraded",
        Health::Offline => "offline",
    }
}

/// `DELETE /cluster/nodes/{id}`
pub(super) async fn remove(
    State(rooms): State<Arc<Rooms>>,
    Path(node): Path<u64>,
) -> Result<Response, Problem> {
    command(&rooms.log, node, Command::Remove { node }).await
}

/// `POST /cluster/nodes/{id}/promote`
pub(super) async fn promote(
    State(rooms): State<Arc<Rooms>>,
    Path(node): Path<u64>,
) -> Result<Response, Problem> {
    command(&rooms.log, node, Command::Promote { node }).await
}

/// `POST /cluster/nodes/{id}/demote`
pub(super) async fn demote(
    State(rooms): State<Arc<Rooms>>,
    Path(node): Path<u64>,
) -> Result<Response, Problem> {
    command(&rooms.log, node, Command::Demote { node }).await
}

/// `POST /cluster/nodes/{id}/drain`
pub(super) async fn drain(
    State(rooms): State<Arc<Rooms>>,
    Path(node): Path<u64>,
) -> Result<Response, Problem> {
    command(&rooms.log, node, Command::Drain { node }).await
}

/// `POST /cluster/nodes/{id}/undrain`
pub(super) async fn undrain(
    State(rooms): State<Arc<Rooms>>,
    Path(node): Path<u64>,
) -> Result<Response, Problem> {
    command(&rooms.log, node, Command::Undrain { node }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lead {
    node: u64,
}

/// `POST /cluster/leader`
pub(super) async fn lead(
    State(rooms): State<Arc<Rooms>>,
    Body(Lead { node }): Body<Lead>,
) -> Result<Response, Problem> {
    command(&rooms.log, node, Command::Transfer { to: node }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    role: Role,
    ttl: Option<Span>,
    node: Option<u64>,
    replaces: Option<u64>,
}

/// `POST /cluster/tokens`
pub(super) async fn token(
    State(rooms): State<Arc<Rooms>>,
    Body(wanted): Body<Wanted>,
) -> Result<Response, Problem> {
    let ask = check(&wanted)?;
    let members = rooms.log.members();
    if let Some(node) = wanted.node {
        let free = members.check_number(node);
        free.map_err(|error| Problem::conflict(error.to_string()))?;
    }
    if let Some(node) = wanted.replaces {
        rooms.log.check_replaced(node).map_err(Problem::conflict)?;
    }
    let Some(make) = &rooms.tokens else {
        return Err(Problem::conflict(
            "this node cannot let others in: it was started without an address for them \
             (cluster.address, --cluster HOST:PORT), or it does not keep the keys of the cluster",
        ));
    };
    let token = make(ask).map_err(Problem::conflict)?;
    Ok(Json(json!({ "token": token })).into_response())
}

fn check(wanted: &Wanted) -> Result<TokenAsk, Problem> {
    if wanted.role == Role::Edge {
        return Err(Problem::invalid("role", "edge nodes come later"));
    }
    let ttl = wanted.ttl.map_or(TTL, |ttl| ttl.0);
    if ttl < Duration::from_secs(1) || ttl > TTL_MAX {
        return Err(Problem::invalid("ttl", "from 1s to 720h"));
    }
    if wanted.node == Some(0) {
        return Err(Problem::invalid("node", "the number of a node is 1 or more"));
    }
    if wanted.replaces == Some(0) {
        return Err(Problem::invalid("replaces", "the number of a node is 1 or more"));
    }
    Ok(TokenAsk { role: wanted.role, ttl, node: wanted.node, replaces: wanted.replaces })
}

/// Has the cluster do something to a node that it has, and says what became of it.
async fn command(log: &Log, node: u64, command: Command) -> Result<Response, Problem> {
    let members = log.members();
    let is_known = members.nodes.contains_key(&node) || members.retired.contains(&node);
    // Before it is founded, a node knows of nobody else.
    if !is_known && (members.is_founded() || node != log.node()) {
        return Err(Problem::not_found(format!("there is no node {node} in this cluster")));
    }
    // A node is drained by itself, whether there is a quorum or not.
    if !matches!(command, Command::Drain { .. } | Command::Undrain { .. }) {
        wait_for_quorum(log).await?;
    }
    let commanded = log.command(command);
    // Not a blocking wait: a thread that waits would hold up the end of the process.
    for _ in 0..ANSWER_WAIT.as_millis() / LOOK.as_millis() {
        match commanded.answer() {
            None => tokio::time::sleep(LOOK).await,
            Some(Answer::Done) => {
                return Ok(Json(json!({ "node": node, "result": "done" })).into_response());
            }
            Some(Answer::Refused { text }) => return Err(Problem::conflict(text)),
            Some(Answer::Unsettled { text }) => return Err(Problem::unavailable(text)),
            Some(Answer::NotLeader { .. }) => {
                return Err(Problem::unavailable("the leader has changed: ask again"));
            }
        }
    }
    Err(Problem::unavailable("it was not answered: look whether it was done"))
}

/// Nothing is begun that nobody could finish.
async fn wait_for_quorum(log: &Log) -> Result<(), Problem> {
    for _ in 0..QUORUM_WAIT.as_millis() / LOOK.as_millis() {
        if has_quorum(log) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    let ClusterStatus { online, needed, .. } = log.cluster_status();
    Err(Problem::unavailable(format!(
        "there is no leader that most of the cluster follows (this node reaches {online} of the \
         {needed} voters that are needed): nothing was done"
    )))
}

fn has_quorum(log: &Log) -> bool {
    log.cluster_status().health(log.node(), log.status().leader) != Health::Offline
}

#[cfg(test)]
mod tests {
    use ledgermq_log::RunningSnapshot;

    use super::*;

    fn wanted(text: &str) -> Result<TokenAsk, String> {
        let wanted = serde_json::from_str(text).map_err(|error| error.to_string())?;
        check(&wanted).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn snapshots_are_counted_and_those_on_their_way_named() {
        let running =
            |step, index, bytes, bytes_total| RunningSnapshot { step, index, bytes, bytes_total };
        let status = ClusterStatus {
            snapshots: SnapshotStatus {
                made: 2,
                sent: 1,
                sent_bytes: 700,
                last_sent: Some((700, Duration::from_millis(1500))),
                failed: 3,
                ..SnapshotStatus::default()
            },
            snapshots_running: vec![
                running(SnapshotStep::Made, 90, 5, None),
                running(SnapshotStep::Sent { to: 3 }, 80, 6, Some(700)),
            ],
            ..ClusterStatus::default()
        };
        let expected = json!({
            "made": 2, "sent": 1, "sent_bytes": 700, "received": 0, "received_bytes": 0, "failed": 3,
            "last_sent": { "bytes": 700, "seconds": 1.5 },
            "last_received": null,
            "running": [
                { "step": "made", "node": null, "index": 90, "bytes": 5, "bytes_total": null },
                { "step": "sent", "node": 3, "index": 80, "bytes": 6, "bytes_total": 700 },
            ],
        });
        assert_eq!(snapshots(&status), expected);
    }

    #[test]
    fn a_token_is_for_a_node_that_keeps_the_log_and_for_an_hour_unless_that_is_said() {
        let ask = TokenAsk { role: Role::Log, ttl: TTL, node: None, replaces: None };
        assert_eq!(wanted("{}"), Ok(ask));
        let asked = wanted(r#"{"role":"log","ttl":"10m","node":3}"#);
        assert_eq!(asked, Ok(TokenAsk { ttl: Duration::from_secs(600), node: Some(3), ..ask }));
        let asked = wanted(r#"{"node":4,"replaces":3}"#);
        assert_eq!(asked, Ok(TokenAsk { node: Some(4), replaces: Some(3), ..ask }));
    }

    #[test]
    fn what_no_token_can_be_for_is_refused() {
        for (text, parameter) in [
            (r#"{"role":"edge"}"#, "role"),
            (r#"{"ttl":"0s"}"#, "ttl"),
            (r#"{"ttl":"721h"}"#, "ttl"),
            (r#"{"node":0}"#, "node"),
            (r#"{"replaces":0}"#, "replaces"),
            (r#"{"nodes":1}"#, "unknown field"),
            (r#"{"node":-1}"#, "invalid value"),
        ] {
            assert!(wanted(text).unwrap_err().contains(parameter), "{text}");
        }
    }
}
