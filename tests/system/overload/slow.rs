//! Subscribers that never read among such that do.

use std::time::Duration;

use ledgermq_core::packet::QoS;

use crate::support::broker::Options as BrokerOptions;
use crate::support::count_of;

use super::fanout::{Fanout, Throughput};
use super::raw;

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
    let mut alone = vec![run(&mut good), run(&mut good)];
    let topic = Fanout::topic();
    let held = raw::never_read(broker.mqtt, scale.stuck, topic, qos, persistent);
    // Until their sockets are full they cost like any other.
    let filling = run(&mut good);
    let beside: Vec<_> = (0..4).map(|_| run(&mut good)).collect();
    let memory = broker.memory();
    drop(held);
    run(&mut good);
    alone.extend([run(&mut good), run(&mut good)]);
    let mean = |runs: &[Throughput], of: fn(&Throughput) -> f64| {
        runs.iter().map(of).sum::<f64>() / runs.len() as f64
    };
    let rates = [&alone, &beside].map(|runs| mean(runs, |run| run.per_second));
    let costs = [&alone, &beside].map(|runs| mean(runs, |run| run.cpu_each.as_secs_f64() * 1e6));
    let loss = 1.0 - rates[1] / rates[0];
    println!("{qos:?}, persistent: {persistent}, {scale:?}");
    println!("  alone {alone:.0?}\n  filling {filling:.0?}\n  beside {beside:.0?}");
    println!("  messages/s alone and beside {rates:.0?}: a loss of {:.0} %", loss * 100.0);
    println!("  broker CPU us/message {costs:.1?}, {} MiB resident", memory >> 20);
    (loss, memory)
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
