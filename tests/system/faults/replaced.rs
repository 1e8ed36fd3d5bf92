//! A node of the cluster that loses its disk, and the one that takes its place.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::broker::{Options, run_to_end};

use super::cluster::{Cluster, joining};

impl Cluster {
    /// Kills the node at `at` and removes its disk.
    pub(crate) fn lose(&mut self, at: usize) {
        self.nodes[at].kill();
        std::fs::remove_dir_all(&self.nodes[at].dir).expect("its data");
    }

    /// The token of a node `id` that takes the place of the one at `goes`, by one command at the node at
    /// `at`: asked again until its connection is seen to be broken.
    pub(crate) fn replacing_token(
        &self,
        at: usize,
        goes: usize,
        id: u64,
        limit: Duration,
    ) -> String {
        let start = Instant::now();
        let node = &self.nodes[at];
        let (id, goes) = (id.to_string(), self.ids[goes].to_string());
        let dir = node.dir.display().to_string();
        let arguments = ["cluster", "add", &id, "--replaces", &goes, "--data-dir", &dir];
        loop {
            let (code, token, stderr) = run_to_end(&node.dir, &arguments);
            if code == 0 {
                return token;
            }
            assert!(start.elapsed() < limit, "no token: {stderr}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Starts a fresh node at the addresses of the one that was at `at`.
    pub(crate) fn put(
        &mut self,
        at: usize,
        id: u64,
        token: &str,
        equip: impl Fn(u64, Options) -> Options,
    ) {
        let by = self.hosts[(at + 1) % self.hosts.len()];
        let options = joining(self.options(id, self.hosts[at]), by, token);
        let mut node = equip(id, options).prepare();
        node.spawn();
        (self.nodes[at], self.ids[at]) = (node, id);
    }

    /// Waits until the node at `at` shows that node `id` votes.
    pub(crate) fn wait_voter(&mut self, at: usize, id: u64, limit: Duration) {
        let start = Instant::now();
        let votes = |cluster: &Self| {
            let status = cluster.ask(at, "/api/v1/cluster")?;
            let mut items = status["items"].as_array()?.iter();
            Some(items.any(|node| node["node"] == id && node["standing"] == "voter"))
        };
        while votes(self) != Some(true) {
            let new = self.ids.iter().position(|known| *known == id).expect("it was put in");
            if let Some(status) = self.nodes[new].ended() {
                panic!("node {id} ended: {status}\n{}", self.nodes[new].stderr());
            }
            assert!(start.elapsed() < limit, "no vote:\n{}", self.describe());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Prints what snapshots cost each node.
    pub(crate) fn print_snapshots(&self) {
        for (node, id) in self.nodes.iter().zip(&self.ids) {
            let (_, page) = node.get("/metrics");
            let lines = page.lines().filter(|line| line.starts_with("ledgermq_snapshot"));
            let told = lines.filter(|line| !line.ends_with(" 0"));
            for line in told {
                println!("node {id}: {line}");
            }
        }
    }
}
