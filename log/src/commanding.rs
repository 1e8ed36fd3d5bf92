//! What operators ask of the cluster, by any of its nodes.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::cluster::{Answer, Command, Members, Standing};
use crate::log::Log;
use crate::shared::lock;
use crate::status::{ClusterStatus, NodeStatus};

/// Commands of this node that may wait for their answers.
pub(crate) const COMMANDS_MAX: usize = 64;

/// A command on its way.
#[derive(Debug)]
pub struct Commanded {
    place: Arc<Place>,
}

/// Where its answer comes.
#[derive(Debug, Default)]
pub(crate) struct Place {
    answer: Mutex<Option<Answer>>,
    given: Condvar,
}

impl Place {
    pub(crate) fn give(&self, answer: Answer) {
        lock(&self.answer).get_or_insert(answer);
        self.given.notify_all();
    }
}

impl Commanded {
    /// The answer, if it is there. It comes within about half a minute.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        lock(&self.place.answer).clone()
    }

    /// Waits for the answer. Never to be called by the thread that turns the log.
    #[must_use]
    pub fn wait(self) -> Answer {
        let mut answer = lock(&self.place.answer);
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            answer = self.place.given.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Commands that the log thread has not taken yet.
#[derive(Default)]
pub(crate) struct Commanding {
    pub(crate) waiting: VecDeque<(Command, Arc<Place>)>,
    is_stopped: bool,
}

impl Commanding {
    /// The log has stopped: nothing is done any more.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
        for (_, place) in self.waiting.drain(..) {
            place.give(unsettled("the log of this node has stopped"));
        }
    }
}

pub(crate) fn refused(text: impl Into<String>) -> Answer {
    Answer::Refused { text: text.into() }
}

pub(crate) fn unsettled(text: impl Into<String>) -> Answer {
    Answer::Unsettled { text: text.into() }
}

/// Why nobody may take the place of a node yet.
pub(crate) fn serving(node: u64) -> String {
    format!(
        "node {node} is there and serves: drain it, or stop it, before another one takes its place"
    )
}

impl Log {
    /// Asks the leader, wherever it is, to do this. Without waiting.
    #[must_use]
    pub fn command(&self, command: Command) -> Commanded {
        let place = Arc::new(Place::default());
        let mut commanding = lock(&self.shared().commanding);
        if commanding.is_stopped {
            place.give(unsettled("the log of this node has stopped"));
        } else if commanding.waiting.len() >= COMMANDS_MAX {
            place.give(unsettled("too many commands are waiting: try again in a moment"));
        } else {
            commanding.waiting.push_back((command, Arc::clone(&place)));
            drop(commanding);
            self.shared().wake_thread();
        }
        Commanded { place }
    }

    /// Hands leadership over, if it is here, and does not want it back: before the node stops.
    pub fn hand_over(&self) {
        *lock(&self.shared().is_handing_over) = true;
        self.shared().wake_thread();
    }

    /// Whether an operator drains this node: no new clients are to be let in.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared().is_draining.load(Ordering::Relaxed)
    }

    /// Where clients find other nodes: those that this one reaches and that are not drained
    /// themselves, the one with the next higher number first.
    #[must_use]
    pub fn mqtt_elsewhere(&self) -> Vec<String> {
        let (members, status) = (self.members(), self.cluster_status());
        elsewhere(&members, &status, self.node())
    }

    /// Whether another node may be let in to take the place of that one, as far as this node can tell:
    /// the leader looks again.
    ///
    /// # Errors
    ///
    /// Why not, for people: it is no member, it serves, another one does already, or it has the only
    /// vote.
    pub fn check_replaced(&self, node: u64) -> Result<(), String> {
        self.members().check_replaced(node).map_err(|error| error.to_string())?;
        let status = self.cluster_status();
        let serves = |known: &NodeStatus| known.node == node && known.connected && !known.draining;
        match status.nodes.iter().any(serves) {
            true => Err(serving(node)),
            false => Ok(()),
        }
    }

    /// What this node knows of the cluster.
    #[must_use]
    pub fn cluster_status(&self) -> ClusterStatus {
        lock(&self.shared().cluster).clone()
    }

    /// Who the nodes of the cluster are, as this node has applied it.
    #[must_use]
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&lock(&self.shared().members))
    }
}

fn elsewhere(members: &Members, status: &ClusterStatus, own: u64) -> Vec<String> {
    let serves = |node: &&NodeStatus| {
        node.node != own && node.connected && !node.draining && node.standing != Standing::Away
    };
    let mut nodes: Vec<u64> = status.nodes.iter().filter(serves).map(|node| node.node).collect();
    // Each sends its clients to another one first.
    let after = nodes.partition_point(|node| *node < own);
    nodes.rotate_left(after);
    let mqtt = |node: u64| members.nodes.get(&node).map_or(&[][..], |member| &member.mqtt);
    nodes.into_iter().flat_map(mqtt).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::{Member, Role, Traffic};

    fn node(node: u64, connected: bool, draining: bool) -> NodeStatus {
        NodeStatus {
            node,
            address: String::new(),
            standing: Standing::Voter,
            held: false,
            replaces: None,
            draining,
            connected,
            refusal: None,
            silence: None,
            version: String::new(),
            start: 1,
            matched: None,
            lag: None,
            traffic: Traffic::default(),
            applied: 0,
            last_fsync: Duration::ZERO,
            bytes_free: 0,
        }
    }

    #[test]
    fn clients_are_sent_to_nodes_that_take_them() {
        let member = |node: u64| Member {
            address: String::new(),
            mqtt: vec![format!("n{node}:1883"), format!("n{node}:8883")],
            role: Role::Log,
            standing: Standing::Voter,
            key: [0; 32],
            joined: 1,
            is_held: false,
            replaces: None,
        };
        let nodes = (1..=5).map(|id| (id, member(id))).collect();
        let mut members = Members { nodes, ..Members::default() };
        members.nodes.get_mut(&5).unwrap().mqtt.clear();
        let nodes = vec![
            node(1, true, false),
            node(2, true, true),
            node(3, false, false),
            node(4, true, false),
            node(5, true, false),
        ];
        let status = ClusterStatus { nodes, ..ClusterStatus::default() };
        let four = ["n4:1883", "n4:8883"];
        let one = ["n1:1883", "n1:8883"];
        assert_eq!(elsewhere(&members, &status, 2), [four, one].concat());
        assert_eq!(elsewhere(&members, &status, 5), [one, four].concat());
        assert_eq!(elsewhere(&members, &status, 1), four);
        assert_eq!(elsewhere(&members, &ClusterStatus::default(), 1), [""; 0]);
    }
}
