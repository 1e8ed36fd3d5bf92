//! Publishers that have so many messages to store.

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{ForwardedProperties, Publish, QoS};

use super::answer::{answer, settled};
use super::clock::Instant;
use super::fleet::Fleet;
use super::opening::{Client, Pace, open};
use super::progress::Progress;
use super::window::Window;
use super::{BenchError, Brokers, names};

/// What to store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    /// Publishers.
    pub(super) publishers: usize,
    /// Messages of all of them.
    pub(super) count: u64,
    /// Their QoS, 1 or 2.
    pub(super) qos: QoS,
    /// Whether they are retained.
    pub(super) retain: bool,
    /// Messages of each publisher that are not acknowledged.
    pub(super) window: u16,
}

/// Which message is to be made: the `nth`, from 0, of a publisher, sent at that instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) publisher: usize,
    pub(super) nth: u64,
    pub(super) at: Instant,
}

struct Publisher {
    window: Window,
    sent: u64,
    /// Whether it may have more to send.
    has_more: bool,
}

/// Publishes until all is acknowledged. `fill` makes topic and payload of a message; `false` if that
/// publisher has sent all of its own.
pub(super) fn store(
    brokers: &Brokers,
    plan: Store,
    mut fill: impl FnMut(Turn, &mut String, &mut Vec<u8>) -> bool,
) -> Result<(), BenchError> {
    let mut fleet = Fleet::new(brokers)?;
    let clients = (0..plan.publishers).map(|number| Client {
        id: names::client("store", number),
        target: number,
        is_clean: true,
        is_kept: false,
        filters: Vec::new(),
    });
    let opened = open(&mut fleet, clients, Pace::default(), |_, _, _| Ok(()))?;
    let publisher = |_| {
        let mut window = Window::new(plan.window);
        window.limit(opened.receive_maximum);
        Publisher { window, sent: 0, has_more: true }
    };
    let mut publishers: Vec<Publisher> = (0..plan.publishers).map(publisher).collect();
    let mut progress = Progress::new(brokers.shows_progress);
    let (mut topic, mut payload) = (String::new(), Vec::new());
    let mut done = 0;
    while done < plan.count {
        let at = Instant::now();
        for (slot, publisher) in publishers.iter_mut().enumerate() {
            let output = fleet.output(slot);
            while publisher.has_more && !publisher.window.is_full() {
                let turn = Turn { publisher: slot, nth: publisher.sent, at };
                publisher.has_more = fill(turn, &mut topic, &mut payload);
                if publisher.has_more {
                    let packet_id = publisher.window.take(at);
                    output.publish(&message(&plan, &topic, packet_id, &payload))?;
                    publisher.sent += 1;
                }
            }
        }
        fleet.turn(None, |slot, packet, output| {
            if let Some(ack) = settled(packet) {
                if ack.reason.is_error() {
                    let client = "a message to be stored".to_owned();
                    return Err(BenchError::Refused { client, reason: ack.reason });
                }
                done += u64::from(publishers[slot].window.settle(ack.packet_id).is_some());
            }
            answer(packet, output)
        })?;
        fleet.check_silence("messages are stored")?;
        progress.show(at, done, "stored", String::new);
    }
    Ok(())
}

fn message<'a>(
    plan: &Store,
    topic: &'a str,
    packet_id: Option<PacketId>,
    payload: &'a [u8],
) -> Publish<'a> {
    Publish {
        dup: false,
        qos: plan.qos,
        retain: plan.retain,
        topic,
        packet_id,
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ForwardedProperties::default(),
        payload,
    }
}
