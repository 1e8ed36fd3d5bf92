//! How long a restart takes, and the memory it needs, with many events and sessions.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ledgermq_core::packet::{Packet, QoS};

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Options, message};
use crate::support::count_of;

/// Events and sessions in a run of `./test.sh`.
const EVENTS: u64 = 200_000;
const SESSIONS: u64 = 1_000;
/// Clients that work at the same time.
const CLIENTS: u64 = 8;
/// Messages between two waits for the broker.
const CHUNK: u64 = 1_000;

fn session(n: u64) -> String {
    format!("session-{n}")
}

fn make_sessions(address: SocketAddr, sessions: u64) {
    in_parallel(sessions, move |range| {
        for n in range {
            let name = session(n);
            let mut client = Options::v5(&name).persistent().connect(address);
            client.subscribe(&format!("to/{name}"), QoS::AtLeastOnce);
            client.disconnect();
        }
    });
}

/// Publishes with QoS 0, and at the end of each chunk with QoS 1, so that the broker keeps up.
fn make_events(address: SocketAddr, events: u64) {
    in_parallel(events / CHUNK, move |range| {
        let name = format!("publisher-{}", range.start);
        let mut client = Options::v5(&name).connect(address);
        for chunk in range {
            for n in 0..CHUNK - 1 {
                let topic = format!("plant/{}/sensor/{n}", chunk % 100);
                client.send(&Packet::Publish(message(&topic, &[b'x'; 100], QoS::AtMostOnce)));
            }
            client.publish("plant/end", "", QoS::AtLeastOnce);
        }
    });
}

fn in_parallel(count: u64, work: impl Fn(std::ops::Range<u64>) + Clone + Send + 'static) {
    let share = count.div_ceil(CLIENTS);
    let threads: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let work = work.clone();
            let range = (n * share).min(count)..((n + 1) * share).min(count);
            thread::spawn(move || work(range))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a client panicked"));
}

/// Starts the broker and prints how long that took.
fn measure(broker: &mut Broker, what: &str) {
    let started = Instant::now();
    broker.start();
    let elapsed = started.elapsed();
    println!("{what}: ready after {elapsed:?}, {} MiB resident", broker.memory() >> 20);
    assert!(elapsed < Duration::from_secs(60), "a restart takes less than a minute");
}

#[test]
#[ignore = "part restart of ./test.sh"]
fn a_restart_folds_only_the_tail_of_a_long_log() {
    let events = count_of("LEDGERMQ_TEST_EVENTS", EVENTS);
    let sessions = count_of("LEDGERMQ_TEST_SESSIONS", SESSIONS);
    let mut broker = BrokerOptions::default().start();
    let started = Instant::now();
    make_sessions(broker.mqtt, sessions);
    println!("{sessions} sessions after {:?}", started.elapsed());
    make_events(broker.mqtt, events);
    println!("{events} messages after {:?}", started.elapsed());
    println!("{} MiB resident before the restart", broker.memory() >> 20);

    broker.terminate();
    assert!(broker.wait_end().success(), "{}", broker.stderr());
    measure(&mut broker, "after an orderly stop");
    broker.kill();
    measure(&mut broker, "after a kill");

    for n in [0, sessions / 2, sessions - 1] {
        let name = session(n);
        let mut client = Options::v5(&name).persistent().connect(broker.mqtt);
        assert!(client.session_present(), "{name}");
        client.publish(&format!("to/{name}"), "still subscribed", QoS::AtLeastOnce);
        assert_eq!(client.message().text(), "still subscribed");
    }
}
