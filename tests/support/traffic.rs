//! Publishers and subscribers that live through the faults of a broker and keep their history.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{Packet, Publish, QoS};
use ledgermq_core::reason::ReasonCode;

use super::client::{Client, Options, message, success};
use super::history::{Delivered, Published, Verdict};
use super::packets::{Message, Received};

/// Messages that a publisher has unacknowledged: the Receive Maximum that the broker gives.
const WINDOW: usize = 20;
/// Key of the limit that a long run would reach: set it high, so that nothing is dropped.
pub(crate) const QUEUE: &str = "gateway.limits.queued_messages";
/// Sessions that are offline during the faults.
const SLEEPERS: usize = 20;
/// How long a client tries to come back before it gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the end of the traffic may stand still before it counts as lost.
const STANDSTILL: Duration = Duration::from_secs(30);
/// The same for the queue of one sleeping session, which nobody else is served before.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);

/// Every topic that is published to: `crash/NAME` mostly, `kept/NAME` (retained) and `rare/NAME`.
pub(crate) fn topic(name: &str, number: u64) -> String {
    match number % 10 {
        3 => format!("kept/{name}"),
        7 => format!("rare/{name}"),
        _ => format!("crash/{name}"),
    }
}

pub(crate) fn is_kept(number: u64) -> bool {
    number % 10 == 3
}

pub(crate) fn is_rare(number: u64) -> bool {
    number % 10 == 7
}

/// `NUMBER` and filling that depends on it, so that a mixed-up payload is noticed.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    let filling = usize::try_from(number * 37 % 600).expect("below 600");
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(payload.len() + filling, b'a' + u8::try_from(number % 26).expect("below 26"));
    payload
}

/// Publisher and number of a message; a violation if its bytes are not those that were sent.
pub(crate) fn identify(message: &Message) -> Result<(String, u64), String> {
    let wrong = || format!("a message at {} is none that was sent", message.topic);
    let name = message.topic.split_once('/').ok_or_else(wrong)?.1;
    let text = String::from_utf8_lossy(&message.payload);
    let number = text.split(' ').next().and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    if message.topic != topic(name, number) || message.payload != payload(number) {
        return Err(wrong());
    }
    Ok((name.to_owned(), number))
}

/// Running traffic: publishers and subscribers of QoS 1 and 2, and sessions that sleep.
pub(crate) struct Traffic {
    address: SocketAddr,
    publishing: Arc<AtomicBool>,
    subscribing: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Published>>,
    subscribers: Vec<JoinHandle<Delivered>>,
    arrivals: Arc<AtomicU64>,
}

impl Traffic {
    /// Starts it; every session and subscription exists when this returns.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let publishing = Arc::new(AtomicBool::new(true));
        let subscribing = Arc::new(AtomicBool::new(true));
        let arrivals = Arc::new(AtomicU64::new(0));
        for n in 0..SLEEPERS {
            let mut sleeper = Options::v5(&sleeper(n)).persistent().connect(address);
            sleeper.subscribe("rare/#", QoS::AtLeastOnce);
            sleeper.disconnect();
        }
        let mut subscribers = Vec::new();
        for (n, qos) in [QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
            let name = format!("subscriber-{n}");
            let mut client = Options::v5(&name).persistent().connect(address);
            for filter in ["crash/#", "kept/#", "rare/#"] {
                client.subscribe(filter, qos);
            }
            let subscriber = Subscriber {
                address,
                running: subscribing.clone(),
                arrivals: arrivals.clone(),
                history: Delivered { name, qos, ..Delivered::default() },
                unreleased: HashSet::new(),
            };
            subscribers.push(thread::spawn(move || subscriber.run(client)));
        }
        let mut publishers = Vec::new();
        let levels = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        for (n, qos) in levels.into_iter().enumerate() {
            let publisher = Publisher {
                address,
                running: publishing.clone(),
                history: Published { name: format!("publisher-{n}"), qos, ..Published::default() },
                open: VecDeque::new(),
                progress: Instant::now(),
            };
            publishers.push(thread::spawn(move || publisher.run()));
        }
        Self { address, publishing, subscribing, publishers, subscribers, arrivals }
    }

    /// Messages that arrived at subscribers so far.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Lets publishers complete what is on its way and subscribers receive it, and judges.
    pub(crate) fn finish(self) -> Verdict {
        self.publishing.store(false, Ordering::Relaxed);
        let join = |thread: JoinHandle<Published>| thread.join().expect("a publisher panicked");
        let published: Vec<Published> = self.publishers.into_iter().map(join).collect();
        wait_standstill(&self.arrivals, &published);
        self.subscribing.store(false, Ordering::Relaxed);
        let mut verdict = Verdict::default();
        verdict.published(&published);
        for subscriber in self.subscribers {
            let delivered = subscriber.join().expect("a subscriber panicked");
            verdict.delivered(&delivered, &published, |_, _| true);
        }
        for n in 0..SLEEPERS {
            verdict.delivered(&wake(self.address, n, &published), &published, |_, number| {
                is_rare(number)
            });
        }
        check_retained(self.address, &published, &mut verdict);
        verdict
    }
}

fn sleeper(n: usize) -> String {
    format!("sleeper-{n}")
}

/// Waits until both subscribers have as many messages as were acknowledged, or nothing comes.
fn wait_standstill(arrivals: &AtomicU64, published: &[Published]) {
    let acknowledged: usize = published.iter().map(|p| p.acknowledged.len()).sum();
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = arrivals.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        // Repetitions count too, so having enough is no proof: a moment of silence follows.
        let enough = now >= 2 * acknowledged as u64;
        let patience = if enough { Duration::from_secs(1) } else { STANDSTILL };
        if since.elapsed() > patience {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Connects a sleeping session and receives what it is owed.
fn wake(address: SocketAddr, n: usize, published: &[Published]) -> Delivered {
    let rare: usize = published
        .iter()
        .map(|publisher| publisher.acknowledged.iter().filter(|n| is_rare(**n)).count())
        .sum();
    let mut delivered =
        Delivered { name: sleeper(n), qos: QoS::AtLeastOnce, ..Delivered::default() };
    let mut client = Options::v5(&delivered.name).persistent().connect(address);
    if !client.session_present() {
        delivered.violations.push(format!("the session of {} is gone", delivered.name));
    }
    // What a publisher sent again after a crash may be there twice, so only others are counted.
    let mut different = HashSet::new();
    while different.len() < rare {
        let Some(message) = client.message_within(QUEUE_PATIENCE) else { break };
        different.extend(identify(&message).ok());
        record(&mut delivered, &message);
    }
    while let Some(message) = client.message_within(Duration::from_millis(50)) {
        record(&mut delivered, &message);
    }
    delivered
}

pub(crate) fn record(delivered: &mut Delivered, message: &Message) {
    match identify(message) {
        Ok((name, number)) => delivered.numbers.entry(name).or_default().push(number),
        Err(violation) => delivered.violations.push(violation),
    }
}

/// The retained message of each publisher is the last one that was acknowledged.
fn check_retained(address: SocketAddr, published: &[Published], verdict: &mut Verdict) {
    let mut client = Options::v5("retained").connect(address);
    for publisher in published {
        let last = publisher.acknowledged.iter().rev().find(|number| is_kept(**number));
        let Some(&last) = last else { continue };
        let topic = topic(&publisher.name, last);
        client.subscribe(&topic, QoS::AtMostOnce);
        match client.message_within(Duration::from_secs(5)) {
            Some(kept) if kept.retain && kept.payload == payload(last) => {}
            other => verdict.violation(format!(
                "{topic}: {last} was retained, but there is {:?}",
                other.as_ref().map(identify)
            )),
        }
    }
}

/// Connects again and again until the broker is there.
fn connect_patiently(options: &Options<'_>, address: SocketAddr) -> Result<Client, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match options.clone().try_connect(address) {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > end => {
                return Err(format!("{} cannot connect: {error:?}", options.connect.client_id));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
struct Open {
    packet_id: PacketId,
    number: u64,
    /// PUBREC came: only PUBREL is sent from now on.
    released: bool,
}

struct Publisher {
    address: SocketAddr,
    running: Arc<AtomicBool>,
    history: Published,
    open: VecDeque<Open>,
    /// When the broker last answered.
    progress: Instant,
}

impl Publisher {
    fn run(mut self) -> Published {
        let name = self.history.name.clone();
        let options = Options::v5(&name).persistent();
        let mut next_id = 0_u16;
        let mut is_first = true;
        while self.running.load(Ordering::Relaxed) || !self.open.is_empty() {
            let mut client = match connect_patiently(&options, self.address) {
                Ok(client) => client,
                Err(violation) => {
                    self.history.violations.push(violation);
                    break;
                }
            };
            if !is_first && !client.session_present() {
                self.history.violations.push(format!("the session of {name} is gone"));
            }
            is_first = false;
            if self.progress.elapsed() > PATIENCE {
                self.history.violations.push(format!("{name} comes back and gets no further"));
                break;
            }
            // An error means that the broker is gone: come back and resume.
            let _ = self.resume(&mut client).and_then(|()| self.turn(&mut client, &mut next_id));
        }
        self.history
    }

    /// Sends everything open again, in its order [MQTT-4.4.0-1].
    fn resume(&mut self, client: &mut Client) -> std::io::Result<()> {
        for open in self.open.clone() {
            if open.released {
                client.try_send(&Packet::PubRel(success(open.packet_id)))?;
            } else {
                self.send(client, open, true)?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, client: &mut Client, next_id: &mut u16) -> std::io::Result<()> {
        loop {
            while self.running.load(Ordering::Relaxed) && self.open.len() < WINDOW {
                let packet_id = self.free_id(next_id);
                self.history.sent += 1;
                let open = Open { packet_id, number: self.history.sent, released: false };
                self.open.push_back(open);
                self.send(client, open, false)?;
            }
            if self.open.is_empty() {
                return Ok(());
            }
            match client.next(PATIENCE)? {
                Some(Received::PubAck(id, reason)) => self.answered(id, reason, true),
                Some(Received::PubRec(id, reason)) => {
                    self.answered(id, reason, reason.is_error());
                    if !reason.is_error() {
                        client.try_send(&Packet::PubRel(success(id)))?;
                    }
                }
                Some(Received::PubComp(id, reason)) => self.completed(id, reason),
                Some(Received::Disconnect(_)) => {}
                Some(other) => self.history.violations.push(format!("unexpected {other:?}")),
                None => {
                    let name = &self.history.name;
                    self.history.violations.push(format!("{name}: no answer in {PATIENCE:?}"));
                    self.open.clear();
                }
            }
        }
    }

    /// The next identifier that is not in use. While a full disk refuses at full speed, the
    /// identifiers go round, and a few exchanges may still be open. `[MQTT-2.2.1-3]`
    fn free_id(&self, next_id: &mut u16) -> PacketId {
        loop {
            *next_id = next_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(*next_id).expect("from 1");
            if self.open.iter().all(|open| open.packet_id != id) {
                return id;
            }
        }
    }

    /// Notes an acknowledgement; the message is done if it `ends` the exchange.
    fn answered(&mut self, id: PacketId, reason: ReasonCode, ends: bool) {
        let Some(at) = self.open.iter().position(|open| open.packet_id == id) else {
            let name = &self.history.name;
            self.history.violations.push(format!("{name}: {id} was acknowledged unasked"));
            return;
        };
        self.progress = Instant::now();
        let number = self.open[at].number;
        if reason.is_error() {
            self.history.refused.insert(number);
        } else {
            self.history.acknowledged.insert(number);
        }
        if ends {
            self.open.remove(at);
        } else {
            self.open[at].released = true;
        }
    }

    fn completed(&mut self, id: PacketId, reason: ReasonCode) {
        let Some(at) = self.open.iter().position(|open| open.packet_id == id) else { return };
        let Some(open) = self.open.remove(at) else { return };
        if !open.released {
            let violation =
                format!("{} completed unasked: {reason:?}, {open:?}", self.history.name);
            self.history.violations.push(violation);
        }
    }

    fn send(&self, client: &mut Client, open: Open, dup: bool) -> std::io::Result<()> {
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

struct Subscriber {
    address: SocketAddr,
    running: Arc<AtomicBool>,
    arrivals: Arc<AtomicU64>,
    history: Delivered,
    unreleased: HashSet<PacketId>,
}

impl Subscriber {
    fn run(mut self, client: Client) -> Delivered {
        let name = self.history.name.clone();
        let options = Options::v5(&name).persistent();
        self.receive(client);
        while self.running.load(Ordering::Relaxed) {
            match connect_patiently(&options, self.address) {
                Ok(client) => {
                    if !client.session_present() {
                        self.history.violations.push(format!("the session of {name} is gone"));
                    }
                    self.receive(client);
                }
                Err(violation) => {
                    self.history.violations.push(violation);
                    break;
                }
            }
        }
        self.history
    }

    /// Receives until the connection ends.
    fn receive(&mut self, mut client: Client) {
        client.unreleased = std::mem::take(&mut self.unreleased);
        while self.running.load(Ordering::Relaxed) {
            match client.try_message(Duration::from_millis(100)) {
                Ok(Some(message)) => {
                    record(&mut self.history, &message);
                    self.arrivals.fetch_add(1, Ordering::Relaxed);
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
        self.unreleased = std::mem::take(&mut client.unreleased);
    }
}
