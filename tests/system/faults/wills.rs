//! Clients that leave wills, and how often each of them fired.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ledgermq_core::packet::{
    Connect, Disconnect, ForwardedProperties, Packet, ProtocolVersion, QoS, Will,
};
use ledgermq_core::reason::ReasonCode;

use crate::support::client::Client;
use crate::support::history::{Delivered, Verdict};
use crate::support::packets::Message;
use crate::support::random::Random;
use crate::support::traffic::payload;

use super::connection::{self, PAUSE, Pulse};
use super::load::Scene;

/// Milliseconds that such a client lives.
const LIFE: std::ops::Range<u64> = 500..5_000;

/// One client after the other; the will of each has its number.
pub(crate) struct Testator {
    pub(crate) scene: Scene,
    pub(crate) random: Random,
    pub(crate) name: String,
}

/// How often wills may have fired, by their number: at most once each.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    name: String,
    /// Left without DISCONNECT: these fire.
    due: Vec<u64>,
    /// Highest number; those that are not due may have fired or not.
    last: u64,
}

/// The number of the will in a message.
pub(crate) fn identify(message: &Message) -> Result<(String, u64), String> {
    let wrong = || format!("a message at {} is no will", message.topic);
    let name = message.topic.strip_prefix("will/").ok_or_else(wrong)?;
    let text = String::from_utf8_lossy(&message.payload);
    let number = text.split(' ').next().and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    if message.payload != payload(number) {
        return Err(wrong());
    }
    Ok((name.to_owned(), number))
}

impl Testator {
    /// Lives and dies until it is told to end.
    pub(crate) fn run(mut self) -> Wills {
        let mut wills = Wills { name: self.name.clone(), ..Wills::default() };
        let topic = format!("will/{}", self.name);
        while self.scene.publishing.load(Ordering::Relaxed) {
            let number = wills.last + 1;
            let (client_id, payload) = (format!("{}-{number}", self.name), payload(number));
            let mut connect = Connect::new(ProtocolVersion::V5, &client_id, true);
            connect.will = Some(Will {
                topic: &topic,
                payload: &payload,
                qos: QoS::ExactlyOnce,
                retain: false,
                delay_interval: 0,
                message_expiry_interval: None,
                forwarded: ForwardedProperties::default(),
            });
            let node = self.scene.any_node(&mut self.random);
            // A CONNECT that is not answered may have been taken: its will may fire.
            wills.last = number;
            match connection::connect(self.scene.nodes[node], &connect) {
                Ok((client, _)) => {
                    if !self.live(client) {
                        wills.due.push(number);
                    }
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        wills
    }

    /// Whether it left by DISCONNECT: nobody knows whether the node took that.
    fn live(&mut self, mut client: Client) -> bool {
        let is_polite = self.random.within(0..3) == 0;
        let end = Instant::now() + Duration::from_millis(self.random.within(LIFE));
        let mut pulse = Pulse::new();
        let mut wait = || -> io::Result<()> {
            while Instant::now() < end && self.scene.publishing.load(Ordering::Relaxed) {
                pulse.feel(&mut client)?;
                if client.next(Duration::from_millis(200))?.is_some() {
                    pulse.heard();
                }
            }
            Ok(())
        };
        if wait().is_err() || !is_polite {
            return false;
        }
        let _ = client.try_send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        true
    }
}

/// Whether all wills that are due have come.
pub(crate) fn are_complete(wills: &[Wills], came: u64) -> bool {
    came >= wills.iter().map(|wills| wills.due.len() as u64).sum::<u64>()
}

/// Judges what the watcher of all wills saw.
pub(crate) fn judge(wills: &[Wills], watcher: &Delivered, verdict: &mut Verdict) -> usize {
    let none = Vec::new();
    watcher.violations.iter().cloned().for_each(|violation| verdict.violation(violation));
    let mut fired = 0;
    for Wills { name, due, last } in wills {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for &number in watcher.numbers.get(name).unwrap_or(&none) {
            *counts.entry(number).or_default() += 1;
        }
        fired += counts.len();
        for (number, count) in &counts {
            if *count > 1 {
                verdict.violation(format!("the will of {name}-{number} fired {count} times"));
            }
            if number > last {
                verdict.violation(format!("the will of {name}-{number} was never left"));
            }
        }
        for number in due.iter().filter(|number| !counts.contains_key(number)) {
            verdict.violation(format!("the will of {name}-{number} did not fire"));
        }
    }
    fired
}
