//! `$CONTROL/cedalo/ha/v1`: the cluster, for tools that know the vendor's.

use std::time::Duration;

use ledgermq_log::cluster::{Answer, Command, Standing};
use ledgermq_log::{Health, Log, NodeStatus};
use serde_json::{Map, Value, json};

/// Where it is asked.
pub(super) const TOPIC: &str = "$CONTROL/cedalo/ha/v1";
const NOT_LEADER: &str = "This broker is not the cluster leader.";
const MEMBER: &str = "This broker is already part of a cluster.";
/// The vendor's rule: fewer do not survive the loss of one.
const NODES_MIN: usize = 3;
/// How often to look whether a command was answered; the log answers within half a minute.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 3_500;

/// A command's name as it should be, and what it takes.
const COMMANDS: [(&str, &[&str]); 11] = [
    ("getCluster", &[]),
    ("getNode", &[]),
    ("getRaftStatus", &[]),
    ("isLeader", &[]),
    ("setLeader", &["clustername", "nodeid"]),
    ("removeNode", &["clustername", "address", "port", "nodeid"]),
    ("addNode", &["clustername", "address", "port", "nodeid"]),
    ("joinCluster", &["clustername", "nodes"]),
    ("leaveCluster", &["clustername", "address", "port", "nodeid"]),
    ("createCluster", &["clustername", "nodes", "syncmode"]),
    ("deleteCluster", &["clustername"]),
];

/// What answers.
pub(in crate::node) struct Ha {
    log: Log,
}

/// The name as it should be, and the data; none if there is nothing to say but that it is done.
type Answered = Result<Option<(&'static str, Value)>, String>;

impl Ha {
    pub(in crate::node) fn new(log: Log) -> Self {
        Self { log }
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
            "getCluster" | "setLeader" | "removeNode" if !leads => {
                return Err(NOT_LEADER.to_owned());
            }
            "getCluster" => json!({ "cluster": self.cluster() }),
            "setLeader" => return self.set_leader(fields).await,
            "removeNode" => return self.remove_node(fields).await,
            // Nodes join by tokens, of which the vendor knows nothing.
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
        let state = match status.health(own, log.leader) {
            Health::Offline => 0,
            _ if log.leader == own => 3,
            _ => 1,
        };
        json!({
            "nodes": nodes,
            "state": state,
            "commit_index": log.commit_index,
            "last_applied": of_own.map_or(0, |node| node.applied),
            "last_stored": of_own.and_then(|node| node.matched).unwrap_or(log.commit_index),
            "current_term": log.term,
            "errmsg": if state == 0 { "no quorum" } else { "" },
            "syncmode": "full",
        })
    }

    async fn set_leader(&self, fields: &Map<String, Value>) -> Answered {
        self.check_name(fields)?;
        let node = number(fields, "nodeid")?;
        self.known(node)?;
        self.command(Command::Transfer { to: node }).await
    }

    async fn remove_node(&self, fields: &Map<String, Value>) -> Answered {
        self.check_name(fields)?;
        let node = number(fields, "nodeid")?;
        let address = fields.get("address").and_then(Value::as_str);
        let address = address.ok_or("Invalid/missing address")?;
        let port = number(fields, "port")?;
        let known = self.known(node)?;
        let (host, listed) = split(&known);
        if (host, u64::from(listed)) != (address, port) {
            return Err(format!("Node {node} has another address"));
        }
        if self.log.members().nodes.len() <= NODES_MIN {
            return Err("A cluster must keep at least 3 nodes".to_owned());
        }
        self.command(Command::Remove { node }).await
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
        let commanded = self.log.command(command);
        for _ in 0..LOOKS_MAX {
            match commanded.answer() {
                None => tokio::time::sleep(LOOK).await,
                Some(Answer::Done) => return Ok(None),
                Some(Answer::Refused { text }) => return Err(text),
                Some(Answer::NotLeader { .. }) => return Err(NOT_LEADER.to_owned()),
            }
        }
        Err("it was not answered: look whether it was done".to_owned())
    }
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
