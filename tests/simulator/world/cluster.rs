//! What several nodes have that one has not: links between them, and faults of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_log::ClusterStatus;

use crate::net::Net;
use crate::node::Node;
use crate::peers::{Habits, Partition};
use crate::rng::Rng;
use crate::seen::Seen;
use crate::world::World;

/// Drawn behind everything else, and only for several nodes.
pub(super) struct Cluster {
    pub(super) net: Net,
    /// After this time unheard a node is declared lost.
    pub(super) node_lost: Duration,
    /// The longest time between two steps, in microseconds.
    pub(super) step_max: u64,
    /// Of a thousand steps, those in which a node's log takes a turn.
    pub(super) turns: u32,
    /// How often faults come: a partition, a pause, a clock that drifts, a connection that breaks,
    /// leadership that is handed over.
    pub(super) weights: [u32; KINDS],
    /// Entries in the log beyond which the oldest are given up: who is farther behind needs a snapshot.
    pub(super) hot_entries: u64,
    /// Of a thousand crashes, those after which a node is away for long.
    pub(super) absences: u32,
}

/// Kinds of faults that only several nodes have.
pub(super) const KINDS: usize = 5;

impl Cluster {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let net = Net::new(Habits::draw(rng));
        let weights = [(); KINDS].map(|()| if rng.permille(300) { 0 } else { rng.range(0, 200) });
        let weights = weights.map(|weight| u32::try_from(weight).expect("it is small"));
        let node_lost = Duration::from_secs(rng.range(4, 10));
        let step_max = *rng.pick(&[5_000, 20_000, 50_000]);
        let turns = 300 + u32::from(rng.small(0, 600));
        let hot_entries = if rng.permille(500) { rng.range(10, 150) } else { u64::MAX };
        let absences = u32::from(rng.small(0, 400));
        Self { net, node_lost, step_max, turns, weights, hot_entries, absences }
    }

    pub(super) fn advance(&mut self, now: Timestamp, rng: &mut Rng) {
        self.net.links.advance(now, rng);
    }
}

impl World {
    /// What goes wrong in a cluster, by the place of its weight.
    pub(super) fn strike_cluster(&mut self, kind: usize) {
        match kind {
            0 => self.part(),
            1 => {
                let at = self.pick_seat();
                let most = *self.rng.pick(&[100, 2_000, 30_000]);
                let pause = Duration::from_millis(self.rng.range(10, most));
                self.say_of(at, format_args!("it is paused for {pause:?}"));
                self.seats[at].pause(self.now, pause);
            }
            2 => {
                let at = self.pick_seat();
                let drift = i32::from(self.rng.small(0, 20_000)) - 10_000;
                self.say_of(at, format_args!("its clocks gain {drift} millionths"));
                self.seats[at].set_drift(self.now, drift);
            }
            3 => self.reset_link(),
            _ => {
                let (at, to) = (self.pick_seat(), self.pick_seat());
                let to = self.seats[to].name.id;
                if let Some(node) = &mut self.seats[at].node {
                    node.log.transfer(to);
                    self.say_of(at, format_args!("it hands over to {to}, if it leads"));
                }
            }
        }
    }

    /// A step of several nodes: each takes a turn or two, so that elections do not take up the run.
    pub(super) fn step_cluster(&mut self) -> Result<(), String> {
        let (step_max, turns) = self.cluster.as_ref().map_or((0, 0), |it| (it.step_max, it.turns));
        let most = match self.rng.below(10_000) {
            0..3 => 20_000_000,
            3..20 => 1_000_000,
            _ => step_max,
        };
        let passed = self.rng.below(most);
        self.advance(Duration::from_micros(passed));
        for at in 0..self.seats.len() {
            if self.rng.permille(turns) {
                self.turn_by(at, Node::turn_log)?;
            }
            if self.rng.permille(600) {
                self.turn_by(at, Node::turn)?;
            }
            let is_amid = |node: &Node| node.projections.is_amid_snapshot();
            if self.seats[at].node.as_ref().is_some_and(is_amid) && self.rng.permille(10) {
                self.crash(at, "power fails amid a snapshot");
            }
        }
        self.look_for_leaders();
        match self.rng.below(100) {
            0..65 => self.turn_client(),
            65..97 => self.turn_network(),
            _ => self.look(),
        }
        Ok(())
    }

    /// Tells who leads, by its own word.
    pub(super) fn look_for_leaders(&mut self) {
        let Self { seats, seen, leading, trace, .. } = self;
        for seat in seats {
            let Some(node) = &seat.node else { continue };
            let Some(term) = node.log.log.leading().map(|leading| leading.term) else { continue };
            let node = seat.name.id;
            if leading.get(&node) != Some(&term) {
                trace.say(format_args!("node {node} leads term {term}"));
                leading.insert(node, term);
                seen.push(Seen::Leads { term, node });
            }
        }
    }

    fn reset_link(&mut self) {
        let Self { cluster, rng, now, trace, .. } = self;
        let Some(cluster) = cluster else { return };
        if let Some(between) = cluster.net.links.reset_any(*now, rng) {
            trace.say(format_args!("a connection breaks: {between:?}"));
        }
    }

    /// Term and leader, if all nodes run and say the same, with what they say is committed; else why
    /// not.
    pub(super) fn leader(&self) -> Result<(u64, u64, BTreeSet<Index>), String> {
        let (mut said, mut why) = (Vec::new(), Vec::new());
        let mut committed = BTreeSet::new();
        for seat in self.seats.iter().filter(|seat| seat.is_in()) {
            let Some(node) = &seat.node else {
                return Err(format!("node {} does not run", seat.name.id));
            };
            let status = node.log.log.status();
            said.push((status.term, status.leader));
            why.push((seat.name.id, node.log.log.cluster_status()));
            committed.insert(status.commit_index);
        }
        match said[..] {
            [first, ..] if first.1 > 0 && said.iter().all(|it| *it == first) => {
                Ok((first.0, first.1, committed))
            }
            _ => {
                let why = why.iter().map(|(node, status)| format!("{node}: {}", reasons(status)));
                let why: Vec<_> = why.collect();
                Err(format!("(term, leader) are {said:?}; {}", why.join("; ")))
            }
        }
    }

    fn part(&mut self) {
        let members = self.seats.iter().filter(|seat| seat.is_in());
        let nodes: Vec<u64> = members.map(|seat| seat.name.id).collect();
        let Self { cluster, rng, now, trace, .. } = self;
        let Some(cluster) = cluster.as_mut().filter(|_| nodes.len() > 1) else { return };
        let partition = Partition::draw(&nodes, *now, rng);
        trace.say(format_args!("a path fails: {partition:?}"));
        cluster.net.links.strike(partition, *now, rng);
    }

    /// Paths are whole, nobody is paused, clocks go as they should.
    pub(super) fn mend_cluster(&mut self) {
        for seat in &mut self.seats {
            seat.paused_until = self.now;
            seat.set_drift(self.now, 0);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.net.links.mend(self.now, &mut self.rng);
            cluster.net.links.calm();
        }
    }
}

/// What a node says of itself and of those that it does not reach.
fn reasons(status: &ClusterStatus) -> String {
    let others = status.nodes.iter().filter(|node| !node.connected);
    let others = others.map(|node| format!("{}: {:?}", node.node, node.refusal));
    format!("{:?}, does not reach {:?}", status.doubt, others.collect::<Vec<_>>())
}
