//! One publisher that has so many messages to store.

use ledgermq_core::packet::{ForwardedProperties, Publish, QoS};

use super::answer::{answer, settled};
use super::clock::Instant;
use super::fleet::Fleet;
use super::opening::{Client, Pace, open};
use super::progress::Progress;
use super::window::Window;
use super::{BenchError, Brokers};

/// What to store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    /// Messages.
    pub(super) count: u64,
    /// Their QoS, 1 or 2.
    pub(super) qos: QoS,
    /// Whether they are retained.
    pub(super) retain: bool,
    /// Messages that are not acknowledged.
    pub(super) window: u16,
}

/// Publishes until all is acknowledged. `fill` says topic and payload of the message with that
/// number, which is sent at that instant.
pub(super) fn store(
    brokers: &Brokers,
    plan: Store,
    mut fill: impl FnMut(u64, Instant, &mut String, &mut Vec<u8>),
) -> Result<(), BenchError> {
    let mut fleet = Fleet::new(brokers)?;
    let id = format!("bench-{}-store", std::process::id());
    let client = Client { id, target: 0, is_clean: true, is_kept: false, filters: Vec::new() };
    let opened = open(&mut fleet, [client].into_iter(), Pace::default(), |_, _, _| Ok(()))?;
    let mut window = Window::new(plan.window);
    window.limit(opened.receive_maximum);
    let mut progress = Progress::new(brokers.shows_progress);
    let (mut topic, mut payload) = (String::new(), Vec::new());
    let (mut sent, mut done) = (0, 0);
    while done < plan.count {
        let at = Instant::now();
        let output = fleet.output(0);
        while sent < plan.count
            && let Some(packet_id) = window.take(at)
        {
            fill(sent, at, &mut topic, &mut payload);
            output.publish(&Publish {
                dup: false,
                qos: plan.qos,
                retain: plan.retain,
                topic: &topic,
                packet_id: Some(packet_id),
                message_expiry_interval: None,
                topic_alias: None,
                subscription_identifiers: Vec::new(),
                forwarded: ForwardedProperties::default(),
                payload: &payload,
            })?;
            sent += 1;
        }
        fleet.turn(None, |_, packet, output| {
            if let Some(ack) = settled(packet) {
                if ack.reason.is_error() {
                    let client = "a message to be stored".to_owned();
                    return Err(BenchError::Refused { client, reason: ack.reason });
                }
                done += u64::from(window.settle(ack.packet_id).is_some());
            }
            answer(packet, output)
        })?;
        fleet.check_silence("messages are stored")?;
        progress.show(at, done, "stored", String::new);
    }
    Ok(())
}
