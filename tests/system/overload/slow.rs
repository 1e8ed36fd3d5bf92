//! Subscribers that never read among such that do.

use std::time::Duration;

use ledgermq_core::packet::QoS;

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::count_of;

use super::fanout::{Fanout, Throughput};
use super::raw;

/// Looks until those that never read are full.
const FILLING_MAX: u32 = 60;

/// How many read, how many do not, and how long is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    good: usize,
    stuck: usize,
    seconds: Duration,
}

/// Throughput without and with subscribers that never read, and the most memory.
fn measure(scale: Scale, qos: QoS, persistent: bool) -> (f64, u64) {
    let broker = BrokerOptions::default()
        .set("limits.memory_max", "512MiB")
        .set("log.hot_bytes_max", "1GiB")
        .start();
    let run = |good: &mut Fanout| good.run(scale.seconds, broker.id());
    let mut good = Fanout::connect(broker.mqtt, scale.good, qos);
    run(&mut good);
    let mut alone: Vec<_> = (0..4).map(|_| run(&mut good)).collect();
    let topic = Fanout::topic();
    let held = raw::never_read(broker.mqtt, scale.stuck, topic, qos, persistent);
    let filling = fill(&mut good, &broker, scale.stuck);
    let beside: Vec<_> = (0..8).map(|_| run(&mut good)).collect();
    let memory = broker.memory();
    drop(held);
    run(&mut good);
    // What persistent ones are owed stays with them: a broker without them is the one before.
    if !persistent {
        alone.extend((0..4).map(|_| run(&mut good)));
    }
    // Of eight: other work on the machine takes a quarter for seconds at a time.
    let median = |runs: &[Throughput], of: fn(&Throughput) -> f64| {
        let mut figures: Vec<f64> = runs.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2].midpoint(figures[(figures.len() - 1) / 2])
    };
    let rates = [&alone, &beside].map(|runs| median(runs, |run| run.per_second));
    let costs = [&alone, &beside].map(|runs| median(runs, |run| run.cpu_each.as_secs_f64() * 1e6));
    let loss = 1.0 - rates[1] / rates[0];
    println!("{qos:?}, persistent: {persistent}, {scale:?}");
    let shown =
        |runs: &[Throughput]| runs.iter().map(|run| run.per_second.round()).collect::<Vec<_>>();
    println!(
        "  alone {:?}\n  filling {:?}\n  beside {:?}",
        shown(&alone),
        shown(&[filling]),
        shown(&beside)
    );
    println!("  messages/s alone and beside {rates:.0?}: a loss of {:.0} %", loss * 100.0);
    println!("  broker CPU us/message {costs:.1?}, {} MiB resident", memory >> 20);
    (loss, memory)
}

/// Publishes until those that never read are given nothing more: before that they cost like any other.
fn fill(good: &mut Fanout, broker: &Broker, stuck: usize) -> Throughput {
    for _ in 0..FILLING_MAX {
        let before = dropped(broker);
        let run = good.run(Duration::from_millis(500), broker.id());
        if dropped(broker) - before > 0.9 * run.messages * stuck as f64 {
            return run;
        }
    }
    panic!("those that never read take what comes, or their messages are not counted as dropped");
}

/// Messages that were dropped for a connection or a session.
fn dropped(broker: &Broker) -> f64 {
    let (_, page) = broker.get("/metrics");
    let counts = page.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        name.contains("messages_dropped_total{").then(|| value.parse::<f64>().ok()).flatten()
    });
    counts.sum()
}

#[test]
#[ignore = "part long-overload of ./test.sh"]
fn good_subscribers_lose_little_to_a_thousand_that_never_read() {
    let stuck = usize::try_from(count_of("LEDGERMQ_TEST_STUCK", 1_000)).unwrap();
    let seconds = Duration::from_secs(count_of("LEDGERMQ_TEST_FANOUT_SECONDS", 5));
    let scale = Scale { good: 100, stuck, seconds };
    let cases = [(QoS::AtMostOnce, false), (QoS::AtLeastOnce, false), (QoS::AtLeastOnce, true)];
    let results = cases.map(|(qos, persistent)| (measure(scale, qos, persistent), persistent));
    for ((loss, memory), persistent) in results {
        assert!(memory < 512 << 20, "{results:?}");
        // What persistent sessions are owed is folded into each of their queues, which costs more.
        assert!(persistent || loss < 0.2, "{results:?}");
    }
}

#[test]
fn subscribers_that_never_read_cost_their_bounds_however_many_they_are() {
    let scale = Scale { good: 10, stuck: 300, seconds: Duration::from_millis(500) };
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let (_, memory) = measure(scale, qos, false);
        assert!(memory < 256 << 20, "{} MiB", memory >> 20);
    }
}
