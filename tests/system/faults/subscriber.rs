//! A subscriber with a session that moves from node to node.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{Packet, QoS, Subscribe, SubscriptionOptions};

use crate::support::client::{Client, granted, success};
use crate::support::history::Delivered;
use crate::support::packets::{Message, Received};
use crate::support::random::Random;

use super::connection::{self, PATIENCE, PAUSE, Pulse};
use super::load::Scene;

/// Milliseconds that it stays with a node, if nothing drives it away.
const STAY: std::ops::Range<u64> = 100..6_000;

/// Publisher and number of a message, or what is wrong with it.
pub(crate) type Identify = fn(&Message) -> Result<(String, u64), String>;

/// See the module.
pub(crate) struct Subscriber {
    pub(crate) scene: Scene,
    pub(crate) random: Random,
    pub(crate) history: Delivered,
    pub(crate) identify: Identify,
    /// QoS 2 messages that came and are not released.
    unreleased: HashSet<PacketId>,
}

impl Subscriber {
    pub(crate) fn new(
        scene: Scene,
        name: String,
        qos: QoS,
        identify: Identify,
        random: Random,
    ) -> Self {
        let history = Delivered { name, qos, ..Delivered::default() };
        Self { scene, random, history, identify, unreleased: HashSet::new() }
    }

    /// Makes the session with these subscriptions, on a cluster that is whole.
    pub(crate) fn subscribe(&self, address: SocketAddr, filters: &[&str]) -> Client {
        let connect = connection::persistent(&self.history.name);
        let (mut client, _) = connection::connect(address, &connect).expect("a whole cluster");
        let options =
            SubscriptionOptions { qos: self.history.qos, ..SubscriptionOptions::default() };
        let packet_id = PacketId::new(1).expect("not 0");
        let filters: Vec<_> = filters.iter().map(|&filter| (filter, options)).collect();
        let granted = vec![granted(self.history.qos); filters.len()];
        client.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters,
        }));
        assert_eq!(client.answer(), Received::SubAck(packet_id, granted));
        client
    }

    /// Receives until it is told to end.
    pub(crate) fn run(mut self, client: Client) -> Delivered {
        let name = self.history.name.clone();
        let connect = connection::persistent(&name);
        let mut current = Some(client);
        while self.is_running() {
            if let Some(client) = &mut current
                && self.receive(client).is_err()
            {
                current = None;
            }
            let node = self.scene.any_node(&mut self.random);
            // Half of the times the old connection still stands when the new one comes.
            if self.random.within(0..2) == 0 {
                current = None;
            }
            match connection::connect(self.scene.nodes[node], &connect) {
                Ok((client, connected)) => {
                    if !connected.session_present {
                        let text = format!("{name}: node {} knows no session of it", node + 1);
                        self.history.violations.push(text);
                    }
                    current = Some(client);
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        self.history
    }

    fn is_running(&self) -> bool {
        self.scene.subscribing.load(Ordering::Relaxed)
    }

    /// Receives until the connection ends or it is time to go elsewhere.
    fn receive(&mut self, client: &mut Client) -> io::Result<()> {
        let end = Instant::now() + Duration::from_millis(self.random.within(STAY));
        let mut pulse = Pulse::new();
        while self.is_running() && Instant::now() < end {
            pulse.feel(client)?;
            let Some(received) = client.next(PATIENCE / 15)? else { continue };
            pulse.heard();
            self.take(client, received)?;
        }
        Ok(())
    }

    fn take(&mut self, client: &mut Client, received: Received) -> io::Result<()> {
        match received {
            Received::Publish(message) => match (message.qos, message.packet_id) {
                (QoS::AtLeastOnce, Some(packet_id)) => {
                    self.record(&message);
                    client.try_send(&Packet::PubAck(success(packet_id)))
                }
                (QoS::ExactlyOnce, Some(packet_id)) => {
                    if self.unreleased.insert(packet_id) {
                        self.record(&message);
                    }
                    client.try_send(&Packet::PubRec(success(packet_id)))
                }
                _ => {
                    self.record(&message);
                    Ok(())
                }
            },
            Received::PubRel(packet_id, _) => {
                self.unreleased.remove(&packet_id);
                client.try_send(&Packet::PubComp(success(packet_id)))
            }
            Received::PingResp => Ok(()),
            Received::Disconnect(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            other => {
                self.history.violations.push(format!("{}: {other:?}", self.history.name));
                Ok(())
            }
        }
    }

    fn record(&mut self, message: &Message) {
        self.scene.arrivals.fetch_add(1, Ordering::Relaxed);
        match (self.identify)(message) {
            Ok((name, number)) => self.history.numbers.entry(name).or_default().push(number),
            Err(violation) => self.history.violations.push(violation),
        }
    }
}
