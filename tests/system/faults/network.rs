//! A network namespace for each node, joined by a bridge: what they hear of each other can be cut. Needs
//! root.
//!
//! The test is at the bridge, too: clients reach every node whatever the nodes hear of each other, unless
//! a node is unplugged.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use crate::support::broker::Options;

use super::cluster::{Cluster, NODES};

/// The bridge, and what hangs on it; taken down when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    /// Distinguishes it from networks of other test processes.
    tag: String,
    hosts: [IpAddr; NODES],
}

impl Network {
    pub(crate) fn new() -> Self {
        let id = std::process::id();
        let [.., high, low] = id.to_be_bytes();
        // Of the block for tests of networks: 198.18.0.0/15.
        let host = |last| Ipv4Addr::new(198, 18 + high % 2, low, last);
        let network = Self { tag: format!("lm{id}"), hosts: [1, 2, 3].map(|n| host(n).into()) };
        let bridge = network.bridge();
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("addr add {}/24 dev {bridge}", host(254)));
        ip(&format!("link set {bridge} up"));
        for at in 0..NODES {
            network.attach(at);
        }
        network
    }

    fn attach(&self, at: usize) {
        let (space, port, bridge) = (self.space(at), self.port(at), self.bridge());
        ip(&format!("netns add {space}"));
        ip(&format!("link add {port} type veth peer name eth0 netns {space}"));
        ip(&format!("link set {port} master {bridge} up"));
        self.inside(at, &format!("ip addr add {}/24 dev eth0", self.hosts[at]));
        self.inside(at, "ip link set eth0 up");
        self.inside(at, "ip link set lo up");
        self.inside(at, "nft add table inet cut");
        self.inside(at, "nft add chain inet cut in { type filter hook input priority 0; }");
    }

    /// A cluster whose nodes live in it.
    pub(crate) fn cluster(&self, name: &str) -> Cluster {
        Cluster::of_three(name, self.hosts, |id, options| self.equip(id, options))
    }

    fn equip(&self, id: u64, options: Options) -> Options {
        let at = usize::try_from(id).expect("small") - 1;
        options.within(&["ip", "netns", "exec", &self.space(at)])
    }

    /// `at` hears nothing of `of` any more: what that sends is dropped.
    pub(crate) fn deafen(&self, at: usize, of: usize) {
        let of = self.hosts[of];
        self.inside(at, &format!("nft add rule inet cut in ip saddr {of} drop"));
    }

    /// Neither hears the other.
    pub(crate) fn cut(&self, one: usize, other: usize) {
        self.deafen(one, other);
        self.deafen(other, one);
    }

    /// Everybody hears everybody.
    pub(crate) fn heal(&self) {
        for at in 0..NODES {
            self.inside(at, "nft flush chain inet cut in");
        }
    }

    /// Nobody reaches that node, clients neither.
    pub(crate) fn unplug(&self, at: usize) {
        ip(&format!("link set {} down", self.port(at)));
    }

    pub(crate) fn plug_in(&self, at: usize) {
        ip(&format!("link set {} up", self.port(at)));
    }

    fn inside(&self, at: usize, command: &str) {
        ip(&format!("netns exec {} {command}", self.space(at)));
    }

    fn space(&self, at: usize) -> String {
        format!("{}-{}", self.tag, at + 1)
    }

    fn port(&self, at: usize) -> String {
        format!("{}p{}", self.tag, at + 1)
    }

    fn bridge(&self) -> String {
        format!("{}b", self.tag)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for at in 0..NODES {
            let _ = command(&format!("netns del {}", self.space(at))).status();
        }
        let _ = command(&format!("link del {}", self.bridge())).status();
    }
}

fn command(words: &str) -> Command {
    let mut command = Command::new("ip");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command.env("PATH", path).args(words.split(' '));
    command
}

fn ip(words: &str) {
    let output = command(words).output().expect("./test.sh installs it");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {stderr}");
}
