//! Three processes that are one broker, each at an address of its own.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ledgermq_projections::checkpoint::{FileStore, Store, row_checksum};
use serde_json::Value;

use crate::support::broker::{Broker, Options, run_to_end};
use crate::support::history::Verdict;
use crate::support::random::Random;
use crate::support::traffic::QUEUE;

pub(crate) const NODES: usize = 3;
const CLUSTER_PORT: u16 = 7_000;
/// By then a cluster without faults is whole again, or it never will be.
const LIMIT: Duration = Duration::from_secs(90);
/// Time in which a node is declared lost.
pub(crate) const NODE_LOST: Duration = Duration::from_secs(6);

/// See the module.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Broker>,
    /// Their numbers.
    pub(super) ids: Vec<u64>,
    pub(super) hosts: [IpAddr; NODES],
    /// Journals and data of the nodes; left behind if the test fails.
    files: PathBuf,
}

/// Addresses of this machine that no other test process uses.
fn own_hosts() -> [IpAddr; NODES] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [1, 2, 3].map(|node| Ipv4Addr::new(127, 64 + high % 128, low, node).into())
}

impl Cluster {
    /// A cluster of three voters on addresses of this machine.
    pub(crate) fn on_loopback(name: &str) -> Self {
        Self::of_three(name, own_hosts(), |_, options| options)
    }

    /// The same, with nodes that are equipped one by one (from 1).
    pub(crate) fn equipped(name: &str, equip: impl Fn(u64, Options) -> Options) -> Self {
        Self::of_three(name, own_hosts(), equip)
    }

    /// One founds it at its address, two join; all vote.
    pub(crate) fn of_three(
        name: &str,
        hosts: [IpAddr; NODES],
        equip: impl Fn(u64, Options) -> Options,
    ) -> Self {
        let files =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&files).expect("a place for what nodes write");
        let mut cluster = Self { nodes: Vec::new(), ids: Vec::new(), hosts, files };
        for (id, host) in (1..).zip(hosts) {
            let mut options = cluster.options(id, host);
            if let Some(first) = cluster.nodes.first() {
                let dir = first.dir.display().to_string();
                let (code, token, stderr) =
                    run_to_end(&cluster.files, &["cluster", "token", "--data-dir", &dir]);
                assert_eq!(code, 0, "{stderr}");
                options = joining(options, hosts[0], &token);
            }
            cluster.nodes.push(equip(id, options).start());
            cluster.ids.push(id);
        }
        cluster.wait_whole();
        cluster
    }

    /// How a node is started.
    pub(super) fn options(&self, id: u64, host: IpAddr) -> Options {
        Options::default()
            .dir(self.files.join(format!("node-{id}")))
            .journal(self.files.join(format!("node-{id}.log")))
            .host(host)
            .argument("--node-id")
            .argument(id.to_string())
            .argument("--cluster")
            .argument(format!("{host}:{CLUSTER_PORT}"))
            .argument("--allow-anonymous")
            .set("cluster.node_lost", format!("{}s", NODE_LOST.as_secs()))
            .set(QUEUE, 100_000_000)
    }

    /// Where clients reach the nodes.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.mqtt).collect()
    }

    /// Nodes other than these.
    pub(crate) fn others(&self, than: &[usize]) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| !than.contains(at)).collect()
    }

    /// The JSON at `path` below `/api/v1`, or at another path of one node; none if it does not answer.
    pub(crate) fn ask(&self, at: usize, path: &str) -> Option<Value> {
        let node = &self.nodes[at];
        if !node.is_running() {
            return None;
        }
        let token = std::fs::read_to_string(node.dir.join("admin.token")).unwrap_or_default();
        let mut stream = TcpStream::connect_timeout(&node.http, Duration::from_millis(500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer \
             {}\r\n\r\n",
            token.trim()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    fn status(&self, at: usize) -> Option<Value> {
        self.ask(at, "/api/v1/cluster")
    }

    /// Term and leader (as a place, if there is one) that a node knows.
    pub(crate) fn lead(&self, at: usize) -> Option<(u64, Option<usize>)> {
        let status = self.status(at)?;
        let leader = status["leader"].as_u64();
        let leader = leader.and_then(|id| self.ids.iter().position(|known| *known == id));
        Some((status["term"].as_u64()?, leader))
    }

    /// The place of the node that leads.
    pub(crate) fn leader(&self) -> usize {
        let start = Instant::now();
        loop {
            let known = (0..self.nodes.len()).filter_map(|at| self.lead(at)).max();
            if let Some((_, Some(leader))) = known
                && self.nodes[leader].is_running()
            {
                return leader;
            }
            assert!(start.elapsed() < LIMIT, "nobody leads:\n{}", self.describe());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The leader at least every other time, else any other node; says whether it leads.
    pub(crate) fn any_victim(&self, random: &mut Random) -> (usize, bool) {
        let leader = self.leader();
        match random.within(0..2) {
            0 => (leader, true),
            step => {
                let step = usize::try_from(step + random.within(0..2)).expect("small");
                ((leader + step) % NODES, false)
            }
        }
    }

    /// Waits until every node is ready, votes and sees the others.
    pub(crate) fn wait_whole(&mut self) {
        let start = Instant::now();
        while !(0..self.nodes.len()).all(|at| self.is_whole_at(at)) {
            for (at, node) in self.nodes.iter_mut().enumerate() {
                if let Some(status) = node.is_running().then(|| node.ended()).flatten() {
                    panic!("node {} ended by itself: {status}\n{}", at + 1, node.stderr());
                }
            }
            assert!(start.elapsed() < LIMIT, "the cluster is not whole:\n{}", self.describe());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_whole_at(&self, at: usize) -> bool {
        let count = NODES as u64;
        if self.nodes.len() < NODES {
            return true;
        }
        let Some(status) = self.status(at) else { return false };
        let quorum = &status["quorum"];
        quorum["voters"] == count
            && quorum["online"] == count
            && !status["leader"].is_null()
            && self.ask(at, "/readyz").is_some_and(|answer| answer["ready"] == true)
    }

    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        for at in 0..self.nodes.len() {
            let _ = match self.nodes[at].is_running() {
                false => writeln!(text, "node {} does not run", at + 1),
                true => writeln!(
                    text,
                    "node {}: {}\n  {}",
                    at + 1,
                    self.status(at).unwrap_or_default(),
                    self.ask(at, "/readyz").unwrap_or_default()
                ),
            };
        }
        text
    }

    /// The nodes' projections are the same: waits until everything is in their checkpoints, kills
    /// them, and compares those.
    pub(crate) fn compare_views(mut self, verdict: &mut Verdict) {
        let start = Instant::now();
        let index = loop {
            let at_rest: Option<Vec<u64>> =
                (0..NODES).map(|at| checkpointed(&self.ask(at, "/api/v1/node")?)).collect();
            if let Some(all) = at_rest
                && all.iter().all(|index| *index == all[0])
            {
                break all[0];
            }
            if start.elapsed() > LIMIT {
                verdict.violation(format!("the nodes do not come to rest:\n{}", self.describe()));
                return;
            }
            thread::sleep(Duration::from_millis(50));
        };
        let mut checksums = Vec::new();
        for node in &mut self.nodes {
            node.kill();
            checksums.push(checksum(&node.dir, index));
        }
        println!("checksums of the projections at index {index}: {checksums:x?}");
        if checksums.iter().any(|checksum| *checksum != checksums[0]) {
            verdict.violation(format!("the projections differ at index {index}: {checksums:x?}"));
        }
    }
}

/// The same, let in with this token by the node at that address.
pub(super) fn joining(options: Options, by: IpAddr, token: &str) -> Options {
    options
        .argument("--join")
        .argument(format!("{by}:{CLUSTER_PORT}"))
        .variable("LEDGERMQ_JOIN_TOKEN", token.trim())
}

/// The index up to which everything is committed, applied and in the checkpoint, if it is the same.
fn checkpointed(node: &Value) -> Option<u64> {
    let commit = node["log"]["commit_index"].as_u64()?;
    let projections = &node["projections"];
    let is_it = |key: &str| projections[key].as_u64() == Some(commit);
    (is_it("applied_index") && is_it("checkpoint_index")).then_some(commit)
}

/// The sum over the rows of a node's checkpoint, which is to be of that index.
fn checksum(dir: &Path, index: u64) -> u64 {
    let mut store = FileStore::open(&dir.join("projections.redb")).expect("a checkpoint");
    let meta = store.meta().expect("it can be read").expect("it was written");
    assert_eq!(meta.applied, index, "nothing was committed meanwhile");
    let mut sum = 0_u64;
    let mut add = |table, key: &[u8], value: &[u8]| {
        sum = sum.wrapping_add(row_checksum(table, key, value));
        Ok(())
    };
    store.load(&mut add).expect("it can be read");
    assert_eq!(meta.checksum, sum, "the checkpoint is what was written");
    sum
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        if thread::panicking() {
            println!("what the nodes said and wrote is in {}", self.files.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.files);
        }
    }
}
