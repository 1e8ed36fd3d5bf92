//! `ledgermq cluster status`: the nodes, as one of them sees them.

use std::fmt::Write as _;

use clap::Args;
use ledgermq_core::quantity::ByteSize;
use serde::Deserialize;

use super::Common;
use crate::cli::{Exit, Failure, Output, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
}

/// The parts of the answer that people are shown.
#[derive(Debug, Deserialize)]
struct Status {
    id: Option<String>,
    generation: u64,
    term: u64,
    leader: Option<u64>,
    quorum: Quorum,
    state: String,
    /// Why the node that answers takes no part.
    #[serde(default)]
    doubt: Option<String>,
    node: Option<u64>,
    items: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Quorum {
    voters: u64,
    online: u64,
    needed: u64,
    reached: bool,
}

#[derive(Debug, Deserialize)]
struct Node {
    node: u64,
    address: String,
    role: String,
    standing: String,
    #[serde(default)]
    held: bool,
    #[serde(default)]
    replaces: Option<u64>,
    #[serde(default)]
    draining: bool,
    leader: bool,
    version: String,
    connected: bool,
    lag_entries: Option<u64>,
    silence_ms: Option<u64>,
    #[serde(default)]
    refusal: Option<String>,
    last_fsync_us: u64,
    bytes_free: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let common = &arguments.common;
    let answer = common.node.find()?.ask("GET", "/cluster", None)?;
    if common.output == Output::Json {
        return print(&answer.to_string());
    }
    let status: Status = serde_json::from_value(answer).map_err(|error| {
        Failure::new(Exit::Failure, format!("the node answered in another form: {error}"))
    })?;
    print(text(&status).trim_end())
}

const HEADS: [&str; 10] =
    ["NODE", "ADDRESS", "ROLE", "STANDING", "LEADER", "REACHED", "LAG", "FSYNC", "FREE", "VERSION"];

/// A few lines about the cluster, and a table of its nodes.
fn text(status: &Status) -> String {
    let Status { generation, term, quorum, .. } = status;
    let id = status.id.as_deref().map_or("none: this node is alone".to_owned(), shown);
    let leader = status.leader.map_or("none".to_owned(), |leader| format!("node {leader}"));
    let reached = if quorum.reached { "reached" } else { "NOT reached" };
    let mut text = format!(
        "cluster  {id}, generation {generation}\n\
         state    {}\n\
         leader   {leader}, term {term}\n\
         quorum   {reached}: {} of {} voters online, {} needed\n\n",
        shown(&status.state),
        quorum.online,
        quorum.voters,
        quorum.needed,
    );
    if let Some(doubt) = &status.doubt {
        let node = status.node.map_or_else(String::new, |node| format!("node {node}: "));
        let _ = write!(text, "doubt    {node}{}\n\n", shown(doubt));
    }
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(status.items.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; HEADS.len()] = std::array::from_fn(|column| width(column).unwrap_or(0));
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for node in &status.items {
        if let Some(refusal) = &node.refusal {
            let _ = writeln!(text, "\nnode {} refuses this one: {}", node.node, shown(refusal));
        }
    }
    text
}

fn row(node: &Node) -> [String; HEADS.len()] {
    let reached = match (node.connected, node.silence_ms) {
        (true, _) => "yes".to_owned(),
        (false, None) => "no, never".to_owned(),
        (false, Some(silence)) => format!("no, for {}s", silence / 1000),
    };
    [
        node.node.to_string(),
        or_dash(&node.address),
        shown(&node.role),
        standing(node),
        if node.leader { "yes" } else { "" }.to_owned(),
        reached,
        node.lag_entries.map_or("-".to_owned(), |lag| lag.to_string()),
        format!("{}.{}ms", node.last_fsync_us / 1000, node.last_fsync_us % 1000 / 100),
        rounded(node.bytes_free),
        or_dash(&node.version),
    ]
}

/// How it takes part, and what an operator did about it.
fn standing(node: &Node) -> String {
    let held = if node.held { ", held" } else { "" };
    let draining = if node.draining { ", draining" } else { "" };
    let replaces = node.replaces.map_or_else(String::new, |other| format!(", replaces {other}"));
    format!("{}{held}{draining}{replaces}", shown(&node.standing))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { shown(text) }
}

/// What another node said, without anything that a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// In the largest unit of which there is at least ten.
fn rounded(bytes: u64) -> String {
    let unit = [1 << 40, 1 << 30, 1 << 20].into_iter().find(|unit| bytes / unit >= 10);
    ByteSize(unit.map_or(bytes, |unit| bytes / unit * unit)).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(id: u64, leads: bool, connected: bool) -> serde_json::Value {
        json!({
            "node": id, "address": format!("node-{id}:7000"), "role": "log",
            "standing": if id >= 3 { "learner" } else { "voter" }, "held": id == 3,
            "draining": id == 2, "replaces": (id == 4).then_some(3),
            "leader": leads, "version": "0.1.0", "start": 2, "connected": connected,
            "matched": 7, "lag_entries": leads.then_some(0), "applied": 7,
            "silence_ms": (id == 3).then_some(12_345),
            "refusal": (id == 3).then_some("this is cluster ab\n, not cd"), "last_fsync_us": 1_234,
            "bytes_free": 22_548_578_304_u64,
        })
    }

    #[test]
    fn the_nodes_are_a_table() {
        let status = json!({
            "id": "ab", "generation": 1, "term": 4, "leader": 1, "state": "degraded",
            "quorum": { "voters": 3, "online": 2, "needed": 2, "reached": true },
            "items": [node(1, true, true), node(2, false, true), node(3, false, false), node(4, false, true)],
        });
        let status: Status = serde_json::from_value(status).unwrap();
        let expected = "\
cluster  ab, generation 1
state    degraded
leader   node 1, term 4
quorum   reached: 2 of 3 voters online, 2 needed

NODE  ADDRESS      ROLE  STANDING             LEADER  REACHED      LAG  FSYNC  FREE   VERSION
1     node-1:7000  log   voter                yes     yes          0    1.2ms  21GiB  0.1.0
2     node-2:7000  log   voter, draining              yes          -    1.2ms  21GiB  0.1.0
3     node-3:7000  log   learner, held                no, for 12s  -    1.2ms  21GiB  0.1.0
4     node-4:7000  log   learner, replaces 3          yes          -    1.2ms  21GiB  0.1.0

node 3 refuses this one: this is cluster ab?, not cd
";
        assert_eq!(text(&status), expected);
        let doubt = Some("the log ends at 90, node 1 saw 100 acknowledged".to_owned());
        let text = text(&Status { doubt, node: Some(3), ..status });
        let line = "doubt    node 3: the log ends at 90, node 1 saw 100 acknowledged\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_another_node_says_of_itself_does_nothing_to_the_terminal() {
        assert_eq!(shown("0.1\u{1b}[2J\n"), "0.1?[2J?");
        assert_eq!(rounded(9), "9B");
        assert_eq!(rounded(11 << 30), "11GiB");
    }
}
