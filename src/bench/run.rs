//! A run of pairs.

use std::time::{Duration, Instant};

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Ack, Connect, ForwardedProperties, Packet, Publish, QoS, RetainHandling, Subscribe,
    SubscriptionOptions,
};
use ledgermq_core::reason::ReasonCode;
use mio::{Events, Poll};

use super::connection::Connection;
use super::report::{Latencies, Report};
use super::{BenchError, Plan};
use crate::process::{Usage, usage};

/// Silence after which a run is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Time for the last messages to arrive.
const TAIL: Duration = Duration::from_secs(2);
/// Bytes at the front of a payload: number and time.
const HEAD: usize = 16;

/// A publisher and its subscriber.
struct Pair {
    topic: String,
    publisher: Connection,
    subscriber: Connection,
    sent: u64,
    /// Acknowledged by the broker; for QoS 0 delivered.
    settled: u64,
    /// Number of the next message that is expected.
    expected: u64,
    delivered: u64,
    duplicates: u64,
    out_of_order: u64,
}

/// Runs `plan` and measures.
pub(crate) fn pairs(plan: &Plan) -> Result<Report, BenchError> {
    Run::new(plan)?.run()
}

struct Run<'a> {
    plan: &'a Plan,
    /// The plan's window, or the broker's Receive Maximum.
    window: u64,
    poll: Poll,
    events: Events,
    pairs: Vec<Pair>,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    latencies: Latencies,
    start: Instant,
    is_measuring: bool,
    last_input: Instant,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Result<Self, BenchError> {
        let poll = Poll::new()?;
        let start = now();
        let mut pairs = Vec::new();
        for number in 0..plan.pairs {
            let open = |token| Connection::open(plan.address, plan.version, token, poll.registry());
            pairs.push(Pair {
                topic: format!("bench/{}/{number}", std::process::id()),
                publisher: open(number * 2)?,
                subscriber: open(number * 2 + 1)?,
                sent: 0,
                settled: 0,
                expected: 0,
                delivered: 0,
                duplicates: 0,
                out_of_order: 0,
            });
        }
        Ok(Self {
            plan,
            window: u64::from(plan.window),
            poll,
            events: Events::with_capacity(1024),
            pairs,
            buffer: vec![0; 64 << 10],
            payload: vec![b'x'; plan.payload_bytes.max(HEAD)],
            latencies: Latencies::new(),
            start,
            is_measuring: false,
            last_input: start,
        })
    }

    fn run(mut self) -> Result<Report, BenchError> {
        self.connect()?;
        self.load_for(self.plan.warm_up)?;
        let before = self.plan.pid.and_then(usage);
        let own_before = usage(std::process::id());
        let delivered_before = self.delivered();
        self.is_measuring = true;
        let began = now();
        self.load_for(self.plan.measured)?;
        let elapsed = now() - began;
        self.is_measuring = false;
        let after = self.plan.pid.and_then(usage);
        let own_after = usage(std::process::id());
        let delivered = self.delivered() - delivered_before;
        self.finish()?;
        let cpu = |before: Option<Usage>, after: Option<Usage>| {
            let spent = after?.cpu.saturating_sub(before?.cpu);
            Some(spent.as_secs_f64() * 1e6 / float(delivered.max(1)))
        };
        Ok(Report {
            delivered,
            messages_per_second: float(delivered) / elapsed.as_secs_f64(),
            latency_us_p50: self.latencies.percentile(50),
            latency_us_p99: self.latencies.percentile(99),
            lost: self.pairs.iter().map(|pair| pair.sent - pair.delivered.min(pair.sent)).sum(),
            duplicates: self.pairs.iter().map(|pair| pair.duplicates).sum(),
            out_of_order: self.pairs.iter().map(|pair| pair.out_of_order).sum(),
            broker_cpu_us_per_message: cpu(before, after),
            broker_resident_bytes: after.map(|usage| usage.resident_bytes),
            own_cpu_us_per_message: cpu(own_before, own_after).unwrap_or_default(),
        })
    }

    fn delivered(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.delivered).sum()
    }

    /// Connects all clients and subscribes; nothing is sent before all have their answer.
    fn connect(&mut self) -> Result<(), BenchError> {
        let version = self.plan.version;
        let qos = self.plan.qos;
        for (number, pair) in self.pairs.iter_mut().enumerate() {
            for (role, connection) in [("p", &mut pair.publisher), ("s", &mut pair.subscriber)] {
                let client_id = format!("bench-{}-{role}{number}", std::process::id());
                let connect = Connect::new(version, &client_id, true);
                connection.send(&Packet::Connect(Box::new(connect)))?;
            }
            pair.subscriber.send(&Packet::Subscribe(Subscribe {
                packet_id: PacketId::MIN,
                subscription_identifier: None,
                user_properties: Vec::new(),
                filters: vec![(
                    &pair.topic,
                    SubscriptionOptions {
                        qos,
                        no_local: false,
                        retain_as_published: false,
                        retain_handling: RetainHandling::Send,
                    },
                )],
            }))?;
            pair.publisher.flush()?;
            pair.subscriber.flush()?;
        }
        let mut waiting = self.pairs.len() * 3;
        let mut receive_maximum = u16::MAX;
        while waiting > 0 {
            self.turn(|_, packet| match packet {
                Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => {
                    let maximum = connack.receive_maximum.unwrap_or(u16::MAX);
                    receive_maximum = receive_maximum.min(maximum);
                    waiting -= 1;
                }
                Packet::SubAck(suback) if suback.reasons.iter().all(|code| !code.is_error()) => {
                    waiting -= 1;
                }
                _ => {}
            })?;
        }
        if qos > QoS::AtMostOnce {
            self.window = self.window.min(u64::from(receive_maximum));
        }
        Ok(())
    }

    /// Keeps the windows full for a while.
    fn load_for(&mut self, time: Duration) -> Result<(), BenchError> {
        let until = now() + time;
        while now() < until {
            self.publish()?;
            self.turn(|_, _| {})?;
        }
        Ok(())
    }

    /// Lets the last messages arrive.
    fn finish(&mut self) -> Result<(), BenchError> {
        let until = now() + TAIL;
        while now() < until && self.pairs.iter().any(|pair| pair.delivered < pair.sent) {
            self.turn(|_, _| {})?;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<(), BenchError> {
        let qos = self.plan.qos;
        for pair in &mut self.pairs {
            let stamp = micros(self.start);
            while pair.sent - pair.settled < self.window {
                self.payload[..8].copy_from_slice(&pair.sent.to_le_bytes());
                self.payload[8..HEAD].copy_from_slice(&stamp.to_le_bytes());
                let id = u16::try_from(pair.sent % 65_535).unwrap_or(0) + 1;
                pair.publisher.send(&Packet::Publish(Publish {
                    dup: false,
                    qos,
                    retain: false,
                    topic: &pair.topic,
                    packet_id: (qos > QoS::AtMostOnce).then(|| PacketId::new(id)).flatten(),
                    message_expiry_interval: None,
                    topic_alias: None,
                    subscription_identifiers: Vec::new(),
                    forwarded: ForwardedProperties::default(),
                    payload: &self.payload,
                }))?;
                pair.sent += 1;
            }
            pair.publisher.flush()?;
        }
        Ok(())
    }

    /// Waits for input and takes it. `see` is shown every packet.
    fn turn(&mut self, mut see: impl FnMut(usize, &Packet<'_>)) -> Result<(), BenchError> {
        self.poll.poll(&mut self.events, Some(Duration::from_millis(10)))?;
        let at = now();
        if self.events.is_empty() && at - self.last_input > SILENCE_MAX {
            return Err(BenchError::Silent);
        }
        let stamp = micros(self.start);
        for event in &self.events {
            self.last_input = at;
            let number = event.token().0;
            let pair = &mut self.pairs[number / 2];
            let mut counts = Counts {
                settled: 0,
                qos: self.plan.qos,
                expected: &mut pair.expected,
                delivered: &mut pair.delivered,
                duplicates: &mut pair.duplicates,
                out_of_order: &mut pair.out_of_order,
                latencies: self.is_measuring.then_some(&mut self.latencies),
                stamp,
            };
            let connection =
                if number % 2 == 0 { &mut pair.publisher } else { &mut pair.subscriber };
            let version = self.plan.version;
            connection.read(&mut self.buffer, |packet, output| {
                see(number, packet);
                let Some(answer) = counts.take(packet)? else { return Ok(()) };
                ledgermq_core::codec::encode(&answer, version, output)
                    .map_err(|error| BenchError::Protocol(error.to_string()))
            })?;
            connection.flush()?;
            pair.settled += counts.settled;
        }
        Ok(())
    }
}

/// What one connection's packets change.
struct Counts<'a> {
    settled: u64,
    qos: QoS,
    expected: &'a mut u64,
    delivered: &'a mut u64,
    duplicates: &'a mut u64,
    out_of_order: &'a mut u64,
    latencies: Option<&'a mut Latencies>,
    stamp: u64,
}

impl Counts<'_> {
    /// Takes a packet and says what to answer.
    fn take(&mut self, packet: &Packet<'_>) -> Result<Option<Packet<'static>>, BenchError> {
        let success = |id| Ack::new(id, ReasonCode::Success);
        Ok(match packet {
            Packet::Publish(publish) => {
                self.deliver(publish)?;
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => Some(Packet::PubAck(success(id))),
                    (QoS::ExactlyOnce, Some(id)) => Some(Packet::PubRec(success(id))),
                    _ => None,
                }
            }
            Packet::PubAck(_) | Packet::PubComp(_) => {
                self.settled += 1;
                None
            }
            Packet::PubRec(ack) => Some(Packet::PubRel(success(ack.packet_id))),
            Packet::PubRel(ack) => Some(Packet::PubComp(success(ack.packet_id))),
            Packet::Disconnect(disconnect) => {
                return Err(BenchError::Protocol(format!("DISCONNECT {:?}", disconnect.reason)));
            }
            _ => None,
        })
    }

    fn deliver(&mut self, publish: &Publish<'_>) -> Result<(), BenchError> {
        let head = publish.payload.first_chunk::<HEAD>();
        let head = head.ok_or_else(|| BenchError::Protocol("a payload cut short".to_owned()))?;
        let u64_at = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| head[at + i]));
        let (number, sent) = (u64_at(0), u64_at(8));
        match number.cmp(self.expected) {
            // It must not make up for one that is lost.
            std::cmp::Ordering::Less if publish.dup => *self.duplicates += 1,
            std::cmp::Ordering::Less => {
                *self.out_of_order += 1;
                *self.delivered += 1;
            }
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => {
                *self.expected = number + 1;
                *self.delivered += 1;
            }
        }
        if self.qos == QoS::AtMostOnce {
            self.settled += 1;
        }
        if let Some(latencies) = &mut self.latencies {
            latencies.record(self.stamp.saturating_sub(sent));
        }
        Ok(())
    }
}

fn micros(start: Instant) -> u64 {
    u64::try_from((now() - start).as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "a load generator measures time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::cast_precision_loss, reason = "counts of messages are far below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}
