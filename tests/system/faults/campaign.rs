//! What all campaigns have in common: a cluster, its load, and what is counted.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::random::Random;

use super::cluster::Cluster;
use super::load::Load;
use super::watch::{Times, Watch};

/// A cluster under load to which faults happen.
pub(crate) struct Campaign {
    pub(crate) cluster: Cluster,
    pub(crate) random: Random,
    pub(crate) times: Times,
    load: Load,
    faults: u64,
    at_leader: u64,
    started: Instant,
}

impl Campaign {
    pub(crate) fn start(cluster: Cluster, mut random: Random) -> Self {
        let load = Load::start(&cluster.addresses(), &mut random);
        let campaign = Self {
            cluster,
            random,
            times: Times::default(),
            load,
            faults: 0,
            at_leader: 0,
            started: Instant::now(),
        };
        let all = campaign.cluster.others(&[]);
        campaign.watch().begin();
        campaign.watch().until(&all);
        campaign
    }

    pub(crate) fn watch(&self) -> &Watch {
        self.load.watch()
    }

    /// Lets some time pass.
    pub(crate) fn pause(&mut self, millis: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.random.within(millis)));
    }

    /// A node to be hit: the leader in at least 40 of 100 times.
    pub(crate) fn victim(&mut self) -> (usize, bool) {
        let is_behind = self.at_leader * 100 < self.faults * 45;
        let (victim, is_leader) = match is_behind {
            true => (self.cluster.leader(), true),
            false => self.cluster.any_victim(&mut self.random),
        };
        self.count(is_leader);
        (victim, is_leader)
    }

    /// Counts a fault.
    pub(crate) fn count(&mut self, at_leader: bool) {
        self.faults += 1;
        self.at_leader += u64::from(at_leader);
    }

    /// Says what is done now.
    pub(crate) fn tell(&self, what: &str) {
        let seconds = self.started.elapsed().as_secs();
        println!("{} (after {seconds} s, {} arrivals): {what}", self.faults, self.load.arrivals());
    }

    /// Waits until all nodes acknowledge what is sent to them from now on.
    pub(crate) fn flows_again(&mut self, kind: &'static str) {
        let all = self.cluster.others(&[]);
        self.flows_at(&all, kind);
    }

    /// The same for those nodes, since the watch was begun.
    pub(crate) fn flows_at(&mut self, nodes: &[usize], kind: &'static str) {
        let time = self.watch().until(nodes);
        self.times.add(kind, time);
    }

    /// Ends the load and judges it; panics if anything was violated.
    pub(crate) fn finish(mut self, what: &str) {
        self.cluster.wait_whole();
        let mut verdict = self.load.finish();
        self.cluster.compare_views(&mut verdict);
        let (faults, at_leader) = (self.faults, self.at_leader);
        print!("{}", self.times.summary());
        let leaders = match at_leader {
            0 => String::new(),
            _ => format!(" ({at_leader} at the leader)"),
        };
        verdict.announce(&format!("{faults} {what}{leaders}"));
        self.times.check();
    }
}
