//! Publishers that keep to a rate, see how long each acknowledgement takes, and go elsewhere when their
//! node is gone; and whether all that was acknowledged is owed in the end.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{Packet, QoS};

use crate::faults::connection::{self, PATIENCE, PAUSE};
use crate::support::client::{Client, Options, message};
use crate::support::history::{Delivered, Published, Verdict};
use crate::support::packets::{Message, Received};
use crate::support::traffic::payload;

const PUBLISHERS: u64 = 10;
/// Messages under way: the Receive Maximum that the broker gives.
const WINDOW: usize = 20;
/// The session that is owed all of them.
const SLEEPER: &str = "meter-sleeper";
/// How long nothing may come that is owed.
const QUEUE_PATIENCE: Duration = Duration::from_secs(20);
const FILTER: &str = "meter/#";

/// See the module.
pub(super) struct Meter {
    runs: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Publisher>>,
}

/// How long acknowledgements took, by when a message was sent first.
pub(super) struct Measured {
    latencies: Vec<(Instant, Duration)>,
}

impl Meter {
    /// Starts it, `rate` messages a second in all.
    pub(super) fn start(nodes: &[SocketAddr], rate: u64) -> Self {
        let mut sleeper = Options::v5(SLEEPER).persistent().connect(nodes[0]);
        sleeper.subscribe(FILTER, QoS::AtLeastOnce);
        sleeper.disconnect();
        let runs = Arc::new(AtomicBool::new(true));
        let interval = Duration::from_secs(PUBLISHERS) / u32::try_from(rate.max(1)).expect("small");
        let start = |(n, home)| {
            let (runs, nodes) = (Arc::clone(&runs), nodes.to_vec());
            let publisher = Publisher {
                history: Published {
                    name: format!("meter-{n}"),
                    qos: QoS::AtLeastOnce,
                    ..Published::default()
                },
                nodes,
                home,
                interval,
                next: Instant::now(),
                open: VecDeque::new(),
                latencies: Vec::new(),
            };
            thread::spawn(move || publisher.run(&runs))
        };
        let publishers = (0..PUBLISHERS).zip((0..nodes.len()).cycle()).map(start).collect();
        Self { runs, publishers }
    }

    /// Ends it, and judges what came of it.
    pub(super) fn finish(self, nodes: &[SocketAddr], verdict: &mut Verdict) -> Measured {
        self.runs.store(false, Ordering::Relaxed);
        let mut published = Vec::new();
        let mut latencies = Vec::new();
        for publisher in self.publishers {
            let mut publisher = publisher.join().expect("a publisher panicked");
            latencies.append(&mut publisher.latencies);
            published.push(publisher.history);
        }
        let mut due: BTreeSet<(String, u64)> = BTreeSet::new();
        for it in &published {
            due.extend(it.acknowledged.iter().map(|number| (it.name.clone(), *number)));
        }
        let mut delivered = Delivered { name: SLEEPER.to_owned(), ..Delivered::default() };
        delivered.qos = QoS::AtLeastOnce;
        let mut sleeper = Options::v5(SLEEPER).persistent().connect(nodes[0]);
        assert!(sleeper.session_present(), "the session is there");
        while !due.is_empty() {
            let Some(message) = sleeper.message_within(QUEUE_PATIENCE) else { break };
            let (name, number) = identify(&message);
            if message.payload != payload(number) {
                verdict.violation(format!("{name}: {number} came with another payload"));
            }
            delivered.numbers.entry(name.clone()).or_default().push(number);
            due.remove(&(name, number));
        }
        sleeper.disconnect();
        verdict.published(&published);
        verdict.delivered(&delivered, &published, |_, _| true);
        Measured { latencies }
    }
}

impl Measured {
    /// Prints how long it took for those whose acknowledgement came from `from` on and before `to`.
    pub(super) fn print(&self, when: &str, from: Option<Instant>, to: Option<Instant>) {
        let is_so = |(sent, time): &&(Instant, Duration)| {
            from.is_none_or(|from| *sent + *time >= from) && to.is_none_or(|to| *sent + *time < to)
        };
        let of = self.latencies.iter().filter(is_so);
        let mut times: Vec<Duration> = of.map(|(_, time)| *time).collect();
        times.sort_unstable();
        let Some(max) = times.last() else { return println!("{when}: nothing was sent") };
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!(
            "{when}: {} messages, acknowledged within {:?} (half), {:?} (p99), {max:?} (all)",
            times.len(),
            at(50),
            at(99)
        );
    }
}

/// Publisher and number of a message; 0 if it has none.
fn identify(message: &Message) -> (String, u64) {
    let name = message.topic.split_once('/').map_or("", |(_, name)| name);
    let text = String::from_utf8_lossy(&message.payload);
    let number = text.split(' ').next().and_then(|number| number.parse().ok());
    (name.to_owned(), number.unwrap_or(0))
}

struct Open {
    packet_id: PacketId,
    number: u64,
    sent: Instant,
}

struct Publisher {
    history: Published,
    nodes: Vec<SocketAddr>,
    /// Where it is, or tries next.
    home: usize,
    interval: Duration,
    next: Instant,
    open: VecDeque<Open>,
    latencies: Vec<(Instant, Duration)>,
}

impl Publisher {
    fn run(mut self, runs: &AtomicBool) -> Self {
        let name = self.history.name.clone();
        let connect = connection::persistent(&name);
        while runs.load(Ordering::Relaxed) || !self.open.is_empty() {
            if let Ok((mut client, _)) = connection::connect(self.nodes[self.home], &connect)
                && self.resume(&mut client).and_then(|()| self.turn(&mut client, runs)).is_ok()
            {
                break;
            }
            self.home = (self.home + 1) % self.nodes.len();
            thread::sleep(PAUSE);
        }
        self
    }

    fn resume(&self, client: &mut Client) -> io::Result<()> {
        self.open.iter().try_for_each(|open| self.send(client, open, true))
    }

    fn turn(&mut self, client: &mut Client, runs: &AtomicBool) -> io::Result<()> {
        let mut heard = Instant::now();
        loop {
            let is_running = runs.load(Ordering::Relaxed);
            let now = Instant::now();
            if is_running && now >= self.next && self.open.len() < WINDOW {
                // What it could not send in time it does not send later.
                self.next = now.max(self.next + self.interval);
                self.history.sent += 1;
                let number = self.history.sent;
                let packet_id = u16::try_from(number % 65_535 + 1).ok().and_then(PacketId::new);
                let open = Open { packet_id: packet_id.expect("1 to 65,535"), number, sent: now };
                self.open.push_back(open);
                let open = self.open.back().expect("just put there");
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
            let wait = match is_running && self.open.len() < WINDOW {
                true => self.next.saturating_duration_since(now),
                false => Duration::from_millis(100),
            };
            match client.next(wait)? {
                None => continue,
                Some(Received::PubAck(id, reason)) => self.answered(id, !reason.is_error()),
                Some(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
            heard = Instant::now();
        }
    }

    fn answered(&mut self, id: PacketId, is_taken: bool) {
        let Some(at) = self.open.iter().position(|open| open.packet_id == id) else { return };
        let Some(Open { number, sent, .. }) = self.open.remove(at) else { return };
        self.latencies.push((sent, sent.elapsed()));
        let answered = match is_taken {
            true => &mut self.history.acknowledged,
            false => &mut self.history.refused,
        };
        answered.insert(number);
    }

    fn send(&self, client: &mut Client, open: &Open, dup: bool) -> io::Result<()> {
        let (topic, payload) = (format!("meter/{}", self.history.name), payload(open.number));
        let mut publish = message(&topic, &payload, QoS::AtLeastOnce);
        (publish.dup, publish.packet_id) = (dup, Some(open.packet_id));
        client.try_send(&Packet::Publish(publish))
    }
}
