//! Connecting many clients: some at a time, each until its subscriptions are acknowledged.

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Connect, Disconnect, Packet, ProtocolVersion, QoS, RetainHandling, Subscribe,
    SubscriptionOptions,
};
use ledgermq_core::reason::ReasonCode;

use super::BenchError;
use super::clock::Instant;
use super::connection::Output;
use super::fleet::Fleet;
use super::latency::Latencies;
use super::pacer::Schedule;
use super::progress::Progress;

/// Topic Filters of one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 30;
/// How long the broker shall keep a session that is to stay, in MQTT 5.
const SESSION_EXPIRY_SECONDS: u32 = 24 * 3600;

/// A client that is to be connected.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Client Identifier.
    pub(super) id: String,
    /// Number of the target, modulo how many there are.
    pub(super) target: usize,
    /// Whether its session begins anew.
    pub(super) is_clean: bool,
    /// Whether its session outlives the connection.
    pub(super) is_kept: bool,
    /// What it subscribes to.
    pub(super) filters: Vec<(String, QoS)>,
}

/// How clients are connected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// So many a second; otherwise as fast as they are let in.
    pub(super) rate: Option<f64>,
    /// Whether each disconnects as soon as it is ready, so that more can be had than connections.
    pub(super) leaves: bool,
}

/// How it went.
pub(super) struct Opened {
    /// From the first CONNECT to the last acknowledgement, for each client from its first step (at a
    /// rate: from when it was due) to CONNACK.
    pub(super) handshakes: Latencies,
    /// The smallest Receive Maximum that a broker named.
    pub(super) receive_maximum: u16,
}

enum Stage {
    /// CONNECT was sent to a client that was due at that instant.
    Connecting(Client, Instant),
    /// So many SUBACKs are missing, for subscriptions of that QoS.
    Subscribing(usize, QoS),
    Ready,
}

/// Connects `clients`, into the slots in their order if none leaves. Packets that are no part of
/// this go to `other`.
pub(super) fn open(
    fleet: &mut Fleet<'_>,
    clients: impl Iterator<Item = Client>,
    pace: Pace,
    mut other: impl FnMut(usize, &Packet<'_>, &mut Output) -> Result<(), BenchError>,
) -> Result<Opened, BenchError> {
    let mut opening = Opening::new(fleet, pace);
    let mut clients = clients.peekable();
    fleet.break_silence();
    while clients.peek().is_some() || opening.under_way > 0 {
        let until = opening.start(fleet, &mut clients)?;
        fleet.turn(until, |slot, packet, output| {
            if !opening.take(slot, packet, output)? {
                other(slot, packet, output)?;
            }
            Ok(())
        })?;
        opening.finish(fleet)?;
        fleet.check_silence("clients connect")?;
    }
    let Opening { handshakes, receive_maximum, .. } = opening;
    Ok(Opened { handshakes, receive_maximum })
}

struct Opening {
    version: ProtocolVersion,
    at_once: usize,
    schedule: Option<Schedule>,
    leaves: bool,
    stages: Vec<Stage>,
    begun: u64,
    under_way: usize,
    /// Clients that became ready in this turn.
    ready: Vec<usize>,
    done: u64,
    handshakes: Latencies,
    receive_maximum: u16,
    progress: Progress,
}

impl Opening {
    fn new(fleet: &Fleet<'_>, pace: Pace) -> Self {
        Self {
            version: fleet.brokers.version,
            at_once: fleet.brokers.at_once,
            schedule: pace.rate.map(|rate| Schedule::new(Instant::now(), rate)),
            leaves: pace.leaves,
            stages: Vec::new(),
            begun: 0,
            under_way: 0,
            ready: Vec::new(),
            done: 0,
            handshakes: Latencies::new(),
            receive_maximum: u16::MAX,
            progress: Progress::new(fleet.brokers.shows_progress),
        }
    }

    /// Begins with as many clients as may be under way, and says when the next is due.
    fn start(
        &mut self,
        fleet: &mut Fleet<'_>,
        clients: &mut impl Iterator<Item = Client>,
    ) -> Result<Option<Instant>, BenchError> {
        while self.under_way < self.at_once {
            let now = Instant::now();
            let due = self.schedule.map_or(now, |schedule| schedule.due(self.begun));
            if due > now {
                if self.under_way == 0 {
                    // Nothing was asked for, so nothing has to come.
                    fleet.break_silence();
                }
                return Ok(Some(due));
            }
            let Some(client) = clients.next() else { return Ok(None) };
            let slot = fleet.add(client.id.clone(), client.target)?;
            let (username, password) = (&fleet.brokers.username, &fleet.brokers.password);
            let mut connect = Connect::new(self.version, &client.id, client.is_clean);
            if self.version < ProtocolVersion::V5 {
                connect.clean_start = !client.is_kept;
            } else if client.is_kept {
                connect.session_expiry_interval = Some(SESSION_EXPIRY_SECONDS);
            }
            connect.keep_alive = fleet.brokers.keep_alive;
            connect.username = username.as_deref();
            connect.password = password.as_deref().map(str::as_bytes);
            let connect = Packet::Connect(Box::new(connect));
            fleet.output(slot).send(&connect)?;
            if slot >= self.stages.len() {
                self.stages.resize_with(slot + 1, || Stage::Ready);
            }
            self.stages[slot] = Stage::Connecting(client, due);
            self.begun += 1;
            self.under_way += 1;
        }
        Ok(None)
    }

    /// Takes a packet if it is a part of this.
    fn take(
        &mut self,
        slot: usize,
        packet: &Packet<'_>,
        output: &mut Output,
    ) -> Result<bool, BenchError> {
        let Some(stage) = self.stages.get_mut(slot) else { return Ok(false) };
        match (packet, &mut *stage) {
            (Packet::ConnAck(connack), Stage::Connecting(client, due)) => {
                if connack.reason != ReasonCode::Success {
                    return Err(refused(&client.id, connack.reason));
                }
                self.handshakes.record(Instant::now().since(*due));
                let maximum = connack.receive_maximum.unwrap_or(u16::MAX);
                self.receive_maximum = self.receive_maximum.min(maximum);
                let qos = client.filters.first().map_or(QoS::AtMostOnce, |(_, qos)| *qos);
                *stage = Stage::Subscribing(subscribe(&client.filters, output)?, qos);
            }
            (Packet::SubAck(suback), Stage::Subscribing(missing, qos)) => {
                check(&suback.reasons, *qos)?;
                *missing -= 1;
            }
            _ => return Ok(false),
        }
        if matches!(stage, Stage::Subscribing(0, _)) {
            *stage = Stage::Ready;
            self.ready.push(slot);
        }
        Ok(true)
    }

    /// Ends what this turn made ready.
    fn finish(&mut self, fleet: &mut Fleet<'_>) -> Result<(), BenchError> {
        for slot in self.ready.drain(..) {
            self.under_way -= 1;
            self.done += 1;
            if self.leaves {
                let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
                fleet.output(slot).send(&goodbye)?;
                fleet.close(slot)?;
            } else {
                fleet.client(slot).set_open();
            }
        }
        self.progress.show(Instant::now(), self.done, "connected", String::new);
        Ok(())
    }
}

/// Sends SUBSCRIBEs, and says how many.
fn subscribe(filters: &[(String, QoS)], output: &mut Output) -> Result<usize, BenchError> {
    let mut packets = 0;
    for (filters, id) in filters.chunks(FILTERS_AT_ONCE).zip(1..=u16::MAX) {
        let filters = filters.iter().map(|(filter, qos)| (filter.as_str(), options(*qos)));
        output.send(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(id).unwrap_or(PacketId::MIN),
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters: filters.collect(),
        }))?;
        packets += 1;
    }
    Ok(packets)
}

/// Whether all subscriptions were granted with the QoS that was asked for: with a lower one something
/// else would be measured.
fn check(reasons: &[ReasonCode], asked: QoS) -> Result<(), BenchError> {
    let client = || "a subscription".to_owned();
    for reason in reasons {
        if reason.is_error() {
            return Err(refused(&client(), *reason));
        }
        let granted = u8::from(*reason);
        if granted < asked as u8 {
            return Err(BenchError::Downgraded { client: client(), asked: asked as u8, granted });
        }
    }
    Ok(())
}

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    }
}

fn refused(client: &str, reason: ReasonCode) -> BenchError {
    BenchError::Refused { client: client.to_owned(), reason }
}
