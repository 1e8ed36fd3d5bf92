//! A publisher that keeps to its rate and lives through faults.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{Packet, Publish, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::support::client::{Client, message, success};
use crate::support::history::Published;
use crate::support::packets::Received;
use crate::support::random::Random;
use crate::support::traffic::{is_kept, payload, topic};

use super::connection::{self, PATIENCE, PAUSE};
use super::load::Scene;

/// Messages under way: the Receive Maximum that the broker gives.
const WINDOW: usize = 20;
/// Time between two messages.
const INTERVAL: Duration = Duration::from_millis(20);
/// Without an answer for so long it gives up, which is a violation.
const DESPAIR: Duration = Duration::from_secs(120);

/// A message on its way.
#[derive(Clone, Copy, Debug)]
struct Open {
    packet_id: PacketId,
    number: u64,
    sent: Instant,
    /// PUBREC came: only PUBREL is sent from now on.
    released: bool,
}

/// See the module.
pub(crate) struct Publisher {
    scene: Scene,
    /// The only node it speaks to, as long as clients go there; none: any.
    home: Option<usize>,
    random: Random,
    history: Published,
    open: VecDeque<Open>,
    next_id: u16,
    next_send: Instant,
    /// When a node last answered.
    progress: Instant,
}

impl Publisher {
    pub(crate) fn new(
        scene: Scene,
        name: String,
        qos: QoS,
        home: Option<usize>,
        random: Random,
    ) -> Self {
        let history = Published { name, qos, ..Published::default() };
        let now = Instant::now();
        Self {
            scene,
            home,
            random,
            history,
            open: VecDeque::new(),
            next_id: 0,
            next_send: now,
            progress: now,
        }
    }

    /// Publishes until it is told to end and everything is answered.
    pub(crate) fn run(mut self) -> Published {
        let name = self.history.name.clone();
        let connect = connection::persistent(&name);
        let mut has_session = false;
        while self.is_running() || (!self.open.is_empty() && self.is_judged()) {
            if self.progress.elapsed() > DESPAIR {
                let open = self.open.len();
                self.violation(format!("no answer for {DESPAIR:?}, {open} under way"));
                break;
            }
            let home = self.home.filter(|home| self.scene.is_open(*home));
            let node = home.unwrap_or_else(|| self.scene.any_node(&mut self.random));
            let Ok((mut client, connected)) = connection::connect(self.scene.nodes[node], &connect)
            else {
                std::thread::sleep(PAUSE);
                continue;
            };
            if has_session && !connected.session_present {
                self.violation(format!("node {} knows no session of it", node + 1));
            }
            has_session = true;
            // An error means that the node is gone, or silent: resume here or elsewhere.
            let _ = self.resume(&mut client).and_then(|()| self.turn(&mut client, node));
        }
        self.history
    }

    fn is_running(&self) -> bool {
        self.scene.publishing.load(Ordering::Relaxed)
    }

    /// Whoever subscribes ends after all publishers have, unless the test has failed.
    fn is_judged(&self) -> bool {
        self.scene.subscribing.load(Ordering::Relaxed)
    }

    fn violation(&mut self, text: String) {
        self.history.violations.push(format!("{}: {text}", self.history.name));
    }

    /// Sends everything open again, in its order [MQTT-4.4.0-1].
    fn resume(&mut self, client: &mut Client) -> io::Result<()> {
        for at in 0..self.open.len() {
            self.open[at].sent = Instant::now();
            let open = self.open[at];
            if open.released {
                client.try_send(&Packet::PubRel(success(open.packet_id)))?;
            } else {
                self.send(client, open, true)?;
            }
        }
        Ok(())
    }

    /// Whether clients go where it wants to be, by now.
    fn may_go_home(&self, from: usize) -> bool {
        self.home.is_some_and(|home| home != from && self.scene.is_open(home))
    }

    fn turn(&mut self, client: &mut Client, node: usize) -> io::Result<()> {
        let mut heard = Instant::now();
        self.next_send = self.next_send.max(Instant::now());
        loop {
            let now = Instant::now();
            let is_running = self.is_running();
            if self.may_go_home(node) {
                return Ok(());
            }
            if is_running && now >= self.next_send && self.open.len() < WINDOW {
                self.next_send = now.max(self.next_send + INTERVAL);
                let packet_id = self.free_id();
                self.history.sent += 1;
                let open =
                    Open { packet_id, number: self.history.sent, sent: now, released: false };
                self.open.push_back(open);
                self.send(client, open, false)?;
                continue;
            }
            if self.open.is_empty() {
                if !is_running {
                    return Ok(());
                }
                heard = now;
            }
            if heard.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let wait = match self.open.len() < WINDOW && is_running {
                true => self.next_send.saturating_duration_since(now),
                false => Duration::from_millis(100),
            };
            match client.next(wait)? {
                None => continue,
                Some(Received::PubAck(id, reason)) => self.answered(node, id, reason, true),
                Some(Received::PubRec(id, reason)) => {
                    self.answered(node, id, reason, reason.is_error());
                    if !reason.is_error() {
                        client.try_send(&Packet::PubRel(success(id)))?;
                    }
                }
                Some(Received::PubComp(id, reason)) => self.completed(id, reason),
                Some(Received::Disconnect(_)) => {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Some(other) => self.violation(format!("unexpected {other:?}")),
            }
            heard = Instant::now();
        }
    }

    /// The next identifier that is not in use. `[MQTT-2.2.1-3]`
    fn free_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.next_id).expect("from 1");
            if self.open.iter().all(|open| open.packet_id != id) {
                return id;
            }
        }
    }

    /// Notes an acknowledgement; the message is done if it `ends` the exchange.
    fn answered(&mut self, node: usize, id: PacketId, reason: ReasonCode, ends: bool) {
        let Some(at) = self.open.iter().position(|open| open.packet_id == id) else {
            return self.violation(format!("{id} was acknowledged unasked by node {}", node + 1));
        };
        self.progress = Instant::now();
        let Open { number, sent, .. } = self.open[at];
        if reason.is_error() {
            self.history.refused.insert(number);
        } else {
            self.history.acknowledged.insert(number);
            self.scene.watch.acknowledged(node, sent);
        }
        if ends {
            self.open.remove(at);
        } else {
            self.open[at].released = true;
        }
    }

    fn completed(&mut self, id: PacketId, reason: ReasonCode) {
        self.progress = Instant::now();
        let Some(at) = self.open.iter().position(|open| open.packet_id == id) else { return };
        let Some(open) = self.open.remove(at) else { return };
        if !open.released {
            self.violation(format!("completed unasked: {reason:?}, {open:?}"));
        }
    }

    fn send(&self, client: &mut Client, open: Open, dup: bool) -> io::Result<()> {
        let topic = topic(&self.history.name, open.number);
        let payload = payload(open.number);
        client.try_send(&Packet::Publish(Publish {
            dup,
            retain: is_kept(open.number),
            packet_id: Some(open.packet_id),
            ..message(&topic, &payload, self.history.qos)
        }))
    }
}
