//! Publishers offer far more than the broker takes.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ledgermq_core::packet::QoS;

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::Options;
use crate::support::count_of;

use super::fanout::Fanout;
use super::flood::{Flood, Scale};
use super::probe::{Probe, Sample, percentile};
use super::raw;

const MEMORY_MAX: u64 = 512 << 20;
/// How long what is normal is looked at before and after.
const CALM: Duration = Duration::from_secs(2);

/// What a campaign found.
#[derive(Debug)]
#[expect(dead_code, reason = "most of it is only printed")]
struct Figures {
    /// Messages a second of publishers that wait for their acknowledgements.
    closed_loop: f64,
    /// Bytes a second that the broker took of the flood.
    taken: f64,
    memory: u64,
    /// Half and 99 percent of the acknowledgements of the well-behaved publisher.
    normal: [Duration; 2],
    flooded: [Duration; 2],
    slowest: Duration,
    /// The slowest answers of `/readyz` and `/api/v1/node`.
    http: [Duration; 2],
    not_ready: usize,
    /// Until acknowledgements took no longer than before.
    normal_again: Option<Duration>,
}

/// Watches a broker beside what a campaign does to it.
struct Watch<'a> {
    broker: &'a Broker,
    stop: AtomicBool,
}

impl Watch<'_> {
    /// The most memory that the broker had.
    fn memory(&self) -> u64 {
        let mut most = 0;
        while !self.stop.load(Ordering::Relaxed) {
            most = most.max(self.broker.memory());
            thread::sleep(Duration::from_millis(20));
        }
        most
    }

    /// The slowest answers, and how often the node was not ready.
    fn http(&self) -> ([Duration; 2], usize) {
        let (mut slowest, mut not_ready) = ([Duration::ZERO; 2], 0);
        while !self.stop.load(Ordering::Relaxed) {
            for (path, slowest) in ["/readyz", "/api/v1/node"].iter().zip(&mut slowest) {
                let asked = Instant::now();
                let (status, body) = self.broker.get(path);
                *slowest = (*slowest).max(asked.elapsed());
                if status != 200 {
                    if not_ready == 0 {
                        println!("{path}: {status} {body}");
                    }
                    not_ready += 1;
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        (slowest, not_ready)
    }
}

/// Those who do not read what is published: connected, and away.
fn bystanders(broker: &Broker, count: usize) -> Vec<TcpStream> {
    let mut held = raw::never_read(broker.mqtt, count, "flood/zero/0", QoS::AtMostOnce, false);
    for number in 0..count {
        let name = format!("away-{number}");
        let mut away = Options::v311(&name).persistent().connect(broker.mqtt);
        away.subscribe("flood/windowless/0", QoS::AtLeastOnce);
        away.disconnect();
        let mut slow = raw::connect(broker.mqtt, &format!("slow-{number}"), true);
        raw::subscribe(&mut slow, "flood/windowless/1", QoS::AtLeastOnce);
        held.push(slow);
    }
    held
}

fn campaign(seconds: u64, scale: Scale, stuck: usize) -> Figures {
    let broker = BrokerOptions::default()
        .set("limits.memory_max", "512MiB")
        .set("log.hot_bytes_max", "2GiB")
        .start();
    let closed_loop = Fanout::connect(broker.mqtt, 1, QoS::AtLeastOnce).run(CALM, broker.id());
    let probe = Probe::start(broker.mqtt, "well-behaved", "probe");
    thread::sleep(CALM);
    let before = probe.samples();
    let _held = bystanders(&broker, stuck);
    let watch = Watch { broker: &broker, stop: AtomicBool::new(false) };
    thread::scope(|scope| {
        let memory = scope.spawn(|| watch.memory());
        let http = scope.spawn(|| watch.http());
        let begun = Instant::now();
        let flood = Flood::start(broker.mqtt, scale);
        thread::sleep(Duration::from_secs(seconds));
        let taken = flood.sent() as f64 / begun.elapsed().as_secs_f64();
        flood.stop();
        let ended = Instant::now();
        let normal = [50, 99].map(|percent| percentile(&before, percent));
        let normal_again = wait_normal(&probe, ended, normal[1]);
        watch.stop.store(true, Ordering::Relaxed);
        let (http, not_ready) = http.join().expect("HTTP answers");
        let samples = probe.stop();
        let during = |sample: &&Sample| sample.due >= begun && sample.due < ended;
        let during: Vec<Sample> = samples.iter().filter(during).copied().collect();
        println!(
            "pressure was entered {} times, memory held: {:?}",
            entered(&broker),
            held(&broker)
        );
        Figures {
            closed_loop: closed_loop.per_second,
            taken,
            memory: memory.join().expect("memory can be read"),
            normal,
            flooded: [50, 99].map(|percent| percentile(&during, percent)),
            slowest: percentile(&during, 100),
            http,
            not_ready,
            normal_again,
        }
    })
}

fn entered(broker: &Broker) -> f64 {
    broker.metric("ledgermq_memory_pressure_total{reason=\"publishes\"}")
}

fn held(broker: &Broker) -> [f64; 5] {
    ["output", "unread", "references", "input", "waiting"]
        .map(|what| broker.metric(&format!("ledgermq_memory_held_bytes{{reason=\"{what}\"}}")))
}

/// How long after `ended` acknowledgements took no longer than three times what was `normal` (and
/// 20 ms, which a busy machine takes) for a second on end.
fn wait_normal(probe: &Probe, ended: Instant, normal: Duration) -> Option<Duration> {
    let most = (normal * 3).max(Duration::from_millis(20));
    while ended.elapsed() < 3 * raw::PATIENCE {
        thread::sleep(Duration::from_millis(100));
        let after = probe.samples();
        let after = after.iter().filter(|sample| sample.due >= ended);
        let last_slow = after.clone().rfind(|sample| sample.took > most);
        let normal_since = last_slow.map_or(ended, |sample| sample.due + sample.took);
        let is_calm = after.clone().filter(|sample| sample.due >= normal_since).count() > 80;
        if is_calm && probe.waiting() < most {
            return Some(normal_since - ended);
        }
    }
    None
}

/// Every publisher always has more to send than its socket takes: whatever the broker takes, ten times as
/// much and more is offered.
#[test]
#[ignore = "part long-overload of ./test.sh"]
fn publishers_offer_ten_times_what_the_broker_takes() {
    let seconds = count_of("LEDGERMQ_TEST_SECONDS", 120);
    let scale = Scale { at_most_once: 60, windowless: 30, deaf: 30, large: 10 };
    let figures = campaign(seconds, scale, 100);
    println!("{figures:#?}");
    println!("{} MiB resident at most", figures.memory >> 20);
    assert!(figures.memory < MEMORY_MAX);
    assert!(figures.flooded[1] < Duration::from_secs(1));
    assert!(figures.http.iter().all(|slowest| *slowest < Duration::from_millis(500)));
    assert!(figures.normal_again.is_some_and(|after| after < Duration::from_secs(10)));
}

#[test]
fn a_flood_stays_within_the_memory_and_leaves_nothing_unacknowledged() {
    let scale = Scale { at_most_once: 10, windowless: 5, deaf: 5, large: 4 };
    let figures = campaign(3, scale, 20);
    println!("{figures:#?}");
    assert!(figures.memory < MEMORY_MAX, "{} MiB", figures.memory >> 20);
    assert!(figures.normal_again.is_some(), "acknowledgements stay slow");
}
