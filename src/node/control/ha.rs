//! `$CONTROL/cedalo/ha/v1`: the cluster, for tools that know the vendor's.

use std::time::Duration;

use ledgermq_api::v1::{MakeToken, TokenAsk};
use ledgermq_log::cluster::{Answer, Command, Role, Standing};
use ledgermq_log::{ClusterStatus, Health, Log, NodeStatus, Status};
use ledgermq_projections::reader::Reader;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

/// Where it is asked.
pub(super) const TOPIC: &str = "$CONTROL/cedalo/ha/v1";
const NOT_LEADER: &str = "This broker is not the cluster leader.";
const MEMBER: &str = "This broker is already part of a cluster.";
const JOINS_AT_START: &str = "A node joins when it is started: ledgermq serve --cluster HOST:PORT \
    --join LEADER with the token that addNode answers";
/// The vendor's rule: fewer do not survive the loss of one.
const NODES_MIN: usize = 3;
/// How often to look whether a command was answered; the log answers within half a minute.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 3_500;
/// Commands that wait for the cluster at a time; more are refused.
const WAITING_MAX: usize = 4;
/// How long the token of `addNode` is valid.
const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// A command's name as it should be, and what it takes.
const COMMANDS: [(&str, &[&str]); 11] = [
    ("getCluster", &[]),
    ("getNode", &[]),
    ("getRaftStatus", &[]),
    ("isLeader", &[]),
    ("setLeader", &["clustername", "nodeid"]),
    ("removeNode", &["clustername", "address", "port", "nodeid"]),
    ("addNode", &["clustername", "address", "port", "nodeid", "replaces"]),
    ("joinCluster", &["clustername", "nodes"]),
    ("leaveCluster", &["clustername", "address", "port", "nodeid"]),
    ("createCluster", &["clustername", "nodes", "syncmode"]),
    ("deleteCluster", &["clustername"]),
];

/// What answers.
pub(in crate::node) struct Ha {
    log: Log,
    /// The views, for what the vendor counts; none where there are none.
    views: Option<Reader>,
    tokens: Option<MakeToken>,
    waiting: Semaphore,
}

/// The name as it should be, and the data; none if there is nothing to say but that it is done.
type Answered = Result<Option<(&'static str, Value)>, String>;

impl Ha {
    pub(in crate::node) fn new(log: Log) -> Self {
        let waiting = Semaphore::new(WAITING_MAX);
        Self { log, views: None, tokens: None, waiting }
    }

    /// The same with what is counted and with what makes tokens, if the node can be joined.
    pub(in crate::node) fn with(mut self, views: Reader, tokens: Option<MakeToken>) -> Self {
        (self.views, self.tokens) = (Some(views), tokens);
        self
    }

    /// Answers one command.
    pub(super) async fn answer(&self, name: &str, fields: &Map<String, Value>) -> Answered {
        let known = COMMANDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((name, keys)) = known else { return Err("Unknown command".to_owned()) };
        let is_known =
            |key: &str| ["command", "correlationData"].contains(&key) || keys.contains(&key);
        if let Some(key) = fields.keys().find(|key| !is_known(key)) {
            return Err(format!("Unexpected field '{key}'"));
        }
        let leads = self.log.status().leader == self.log.node();
        let data = match *name {
            "isLeader" => json!({ "isLeader": leads }),
            "getNode" => json!({ "node": self.node()? }),
            "getRaftStatus" => self.raft_status(),
            "createCluster" | "joinCluster" if self.log.members().is_founded() => {
                return Err(MEMBER.to_owned());
            }
            "getCluster" | "setLeader" | "addNode" | "removeNode" if !leads => {
                return Err(NOT_LEADER.to_owned());
            }
            "getCluster" => json!({ "cluster": self.cluster() }),
            "setLeader" => return self.set_leader(fields).await,
            "addNode" => self.add_node(fields)?,
            "removeNode" => return self.remove_node(fields).await,
            "leaveCluster" => return self.leave_cluster(fields).await,
            "joinCluster" => return Err(JOINS_AT_START.to_owned()),
            other => {
                return Err(format!(
                    "{other} is not supported here: see `ledgermq cluster --help`"
                ));
            }
        };
        Ok(Some((name, data)))
    }

    fn cluster(&self) -> Value {
        let nodes = self.log.cluster_status().nodes;
        let nodes: Vec<Value> = nodes.iter().map(|node| self.describe(node)).collect();
        json!({ "clustername": self.name(), "nodes": nodes, "syncmode": "full" })
    }

    fn node(&self) -> Result<Value, String> {
        let status = self.log.cluster_status();
        let own = status.nodes.iter().find(|node| node.node == self.log.node());
        own.map(|own| self.describe(own)).ok_or_else(|| "Node unavailable".to_owned())
    }

    fn describe(&self, node: &NodeStatus) -> Value {
        let (address, port) = split(&node.address);
        json!({
            "address": address,
            "port": port,
            "nodeid": node.node,
            "mynode": node.node == self.log.node(),
            "leader": node.node == self.log.status().leader,
        })
    }

    /// The cluster has no other name than its id.
    fn name(&self) -> String {
        let members = self.log.members();
        if members.is_founded() { members.cluster.to_string() } else { String::new() }
    }

    fn raft_status(&self) -> Value {
        let (log, status) = (self.log.status(), self.log.cluster_status());
        let own = self.log.node();
        let nodes: Vec<Value> = status
            .nodes
            .iter()
            .map(|node| {
                let role = match node.standing {
                    Standing::Learner => 0,
                    Standing::Voter => 1,
                    Standing::Away => 2,
                };
                json!({ "address": node.address, "id": node.node, "role": role })
            })
            .collect();
        let of_own = status.nodes.iter().find(|node| node.node == own);
        let state = state(own, &log, &status);
        let counts = self.counts();
        json!({
            "nodes": nodes,
            "state": state,
            "commit_index": log.commit_index,
            "last_applied": of_own.map_or(0, |node| node.applied),
            "last_stored": of_own.and_then(|node| node.matched).unwrap_or(log.commit_index),
            "current_term": log.term,
            "errmsg": if state == 0 { "no quorum" } else { "" },
            "base_msg": counts.messages,
            "client": counts.clients,
            "client_msg": counts.owed,
            "retain_msg": counts.retained,
            "subscription": counts.subscriptions,
            "syncmode": "full",
        })
    }

    fn counts(&self) -> Counts {
        let Some(views) = &self.views else { return Counts::default() };
        views.with(|views| {
            let sessions = views.sessions();
            let each = sessions.iter(None).map(|session| {
                (session.subscriptions().len() as u64, session.owed_messages() as u64)
            });
            let (subscriptions, owed) =
                each.fold((0, 0), |sum, (held, owed)| (sum.0 + held, sum.1 + owed));
            let owed = owed + views.shared_messages().0 as u64;
            let (clients, retained) = (sessions.len() as u64, views.retained().len());
            Counts { clients, subscriptions, owed, retained, messages: owed + retained }
        })
    }

    /// Lets a node of that number come in: with the token that is answered, within an hour.
    fn add_node(&self, fields: &Map<String, Value>) -> Result<Value, String> {
        self.check_name(fields)?;
        let node = number(fields, "nodeid")?;
        let (address, port) = place(fields)?;
        let members = self.log.members();
        members.check_number(node).map_err(|error| error.to_string())?;
        let is_taken = |listed: &str| {
            let (host, at) = split(listed);
            (host, u64::from(at)) == (address, port)
        };
        let replaces = match fields.contains_key("replaces") {
            true => Some(number(fields, "replaces")?),
            false => None,
        };
        // Whoever takes another one's place may do so at its address.
        let mut others = members.nodes.iter().filter(|(node, _)| Some(**node) != replaces);
        if others.any(|(_, member)| is_taken(&member.address)) {
            return Err("Another node has this address".to_owned());
        }
        if let Some(replaces) = replaces {
            self.log.check_replaced(replaces)?;
        }
        let make = self.tokens.as_ref().ok_or("This node cannot let others in")?;
        let token = make(TokenAsk { role: Role::Log, ttl: TOKEN_TTL, node: Some(node), replaces })?;
        Ok(json!({
            "node": { "address": address, "port": port, "nodeid": node },
            "token": token,
        }))
    }

    async fn set_leader(&self, fields: &Map<String, Value>) -> Answered {
        self.check_name(fields)?;
        let node = number(fields, "nodeid")?;
        self.known(node)?;
        self.command(Command::Transfer { to: node }).await
    }

    async fn remove_node(&self, fields: &Map<String, Value>) -> Answered {
        let node = self.named(fields)?;
        if self.log.members().nodes.len() <= NODES_MIN {
            return Err("A cluster must keep at least 3 nodes".to_owned());
        }
        self.command(Command::Remove { node }).await
    }

    /// Lets this node leave, whatever number of nodes stays: for where `removeNode` is impossible.
    async fn leave_cluster(&self, fields: &Map<String, Value>) -> Answered {
        let node = self.named(fields)?;
        if node != self.log.node() {
            return Err("A node leaves by itself: ask the one that is to leave".to_owned());
        }
        self.command(Command::Remove { node }).await
    }

    /// The node that all four fields name alike.
    fn named(&self, fields: &Map<String, Value>) -> Result<u64, String> {
        self.check_name(fields)?;
        let node = number(fields, "nodeid")?;
        let (address, port) = place(fields)?;
        let known = self.known(node)?;
        let (host, listed) = split(&known);
        if (host, u64::from(listed)) != (address, port) {
            return Err(format!("Node {node} has another address"));
        }
        Ok(node)
    }

    fn check_name(&self, fields: &Map<String, Value>) -> Result<(), String> {
        match fields.get("clustername").and_then(Value::as_str) {
            Some(name) if name == self.name() => Ok(()),
            Some(_) => Err("Cluster not found".to_owned()),
            None => Err("Invalid/missing clustername".to_owned()),
        }
    }

    /// The address of a member.
    fn known(&self, node: u64) -> Result<String, String> {
        let members = self.log.members();
        let member = members.nodes.get(&node);
        member.map(|member| member.address.clone()).ok_or_else(|| "Node not found".to_owned())
    }

    async fn command(&self, command: Command) -> Answered {
        let busy = "Too many commands are waiting: try again in a moment";
        let _permit = self.waiting.try_acquire().map_err(|_| busy)?;
        let commanded = self.log.command(command);
        for _ in 0..LOOKS_MAX {
            match commanded.answer() {
                None => tokio::time::sleep(LOOK).await,
                Some(Answer::Done) => return Ok(None),
                Some(Answer::Refused { text } | Answer::Unsettled { text }) => return Err(text),
                Some(Answer::NotLeader { .. }) => return Err(NOT_LEADER.to_owned()),
            }
        }
        Err("it was not answered: look whether it was done".to_owned())
    }
}

/// What the vendor replicates, counted.
#[derive(Debug, Default)]
struct Counts {
    clients: u64,
    subscriptions: u64,
    /// Messages that sessions are owed.
    owed: u64,
    retained: u64,
    /// Messages that are kept for either reason.
    messages: u64,
}

/// 0 unavailable, 1 follower, 2 candidate, 3 leader. While most voters are reached and none leads, one
/// is being elected.
fn state(own: u64, log: &Status, status: &ClusterStatus) -> u8 {
    match status.health(own, log.leader) {
        Health::Offline if log.leader == 0 && status.online >= status.needed => 2,
        Health::Offline => 0,
        Health::Stable | Health::Degraded if log.leader == own => 3,
        Health::Stable | Health::Degraded => 1,
    }
}

/// The fields `address` and `port`.
fn place(fields: &Map<String, Value>) -> Result<(&str, u64), String> {
    let address = fields.get("address").and_then(Value::as_str);
    Ok((address.ok_or("Invalid/missing address")?, number(fields, "port")?))
}

fn number(fields: &Map<String, Value>, key: &str) -> Result<u64, String> {
    let number = fields.get(key).and_then(Value::as_u64);
    number.ok_or_else(|| format!("Invalid/missing {key}"))
}

/// Host and port; those of a cluster of one are none.
fn split(address: &str) -> (&str, u16) {
    let parts = address.rsplit_once(':');
    parts.map_or((address, 0), |(host, port)| (host, port.parse().unwrap_or(0)))
}
