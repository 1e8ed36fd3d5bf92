//! Attacks by connecting: numbers 25, 26 and 41.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use ledgermq_core::packet::{Packet, ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::access::{refusal, with};
use crate::support::access::Files;
use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Client, Options};
use crate::support::packets::Received;

use super::cost::{Cost, MIB, at_once, check_refused};
use super::transport::check_alive;

/// Connects and goes, again and again, in every way there is to go.
fn storm(broker: &Broker, connections: usize) {
    at_once(8, |attacker| {
        for number in 0..connections / 8 {
            let name = format!("storm-{attacker}-{number}");
            let options = match number % 2 {
                0 => Options::v5(&name).will("w", b"gone", QoS::AtMostOnce),
                _ => Options::v311(&name),
            };
            match number % 4 {
                // Gone before CONNACK.
                0 => {
                    let version = options.connect.version;
                    let mut client = Client::open(broker.mqtt, version).unwrap();
                    client.send(&Packet::Connect(Box::new(options.connect)));
                }
                1 => options.connect(broker.mqtt).disconnect(),
                2 => {
                    let mut client = options.connect(broker.mqtt);
                    client.subscribe("storm/#", QoS::AtLeastOnce);
                }
                _ => drop(options.connect(broker.mqtt)),
            }
        }
    });
}

#[test]
fn attack_25_a_storm_of_connections_leaves_nothing_behind_and_others_are_served() {
    let mut broker = Broker::run();
    let mut bystander = Options::v5("bystander").connect(broker.mqtt);
    bystander.subscribe("alive", QoS::AtLeastOnce);
    let settle = |broker: &mut Broker| {
        broker.wait_for("the end of all", |b| b.metric("ledgermq_mqtt_connections") == 1.0);
        broker.wait_for("no sessions", |b| b.metric("ledgermq_sessions") == 1.0);
    };
    // The first storm fills what is used again.
    storm(&broker, 2_000);
    settle(&mut broker);
    let cost = Cost::before(&broker);
    let (mut slowest, began) = (Duration::ZERO, Instant::now());
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| storm(&broker, 12_000));
        while !attack.is_finished() {
            let began = Instant::now();
            bystander.publish("alive", "yes", QoS::AtLeastOnce);
            assert_eq!(bystander.message().text(), "yes");
            slowest = slowest.max(began.elapsed());
        }
    });
    println!("{:?}, and {slowest:?} for the slowest message", began.elapsed());
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    settle(&mut broker);
    // 1.5 KiB for a connection with its session: 18 MiB if they stayed.
    cost.check(&broker, 8 * MIB);
    check_alive(&broker);
}

#[test]
fn attack_25_a_storm_is_held_off_by_the_rate_of_connections() {
    let mut broker = BrokerOptions::default().set("gateway.limits.connection_rate", 50).start();
    let mut bystander = Options::v5("bystander").connect(broker.mqtt);
    let began = Instant::now();
    let refusals: u32 = at_once(4, |attacker| {
        let mut refused = 0;
        for number in 0..500 {
            let name = format!("storm-{attacker}");
            let options = if number % 2 == 0 { Options::v5(&name) } else { Options::v311(&name) };
            let version = options.connect.version;
            if let Err(result) = options.try_connect(broker.mqtt) {
                let expected = match version {
                    ProtocolVersion::V5 => ReasonCode::ConnectionRateExceeded,
                    _ => ReasonCode::ServerUnavailable,
                };
                assert_eq!(refusal(Err(result)), expected);
                refused += 1;
            }
        }
        refused
    })
    .into_iter()
    .sum();
    // A second's worth at once, and then as many as there were seconds.
    let most = 50.0 * (began.elapsed().as_secs_f64() + 1.0) + 1.0;
    assert!(f64::from(2_000 - refusals) <= most, "{refusals} refused, {most} may come in");
    check_refused(&mut broker, "connects", "connection_rate", refusals);
    bystander.ping();
}

#[test]
fn attack_26_who_squats_without_a_keep_alive_takes_a_place_and_little_else() {
    const PLACES: usize = 2_001;
    let mut broker = BrokerOptions::default().set("gateway.limits.connections", PLACES).start();
    let mut bystander = Options::v5("bystander").connect(broker.mqtt);
    bystander.subscribe("alive", QoS::AtLeastOnce);
    let cost = Cost::before(&broker);
    let squatters: Vec<Client> = at_once(4, |attacker| {
        let connect = |number: usize| {
            let name = format!("squatter-{attacker}-{number}");
            let options = match number % 3 {
                0 => Options::v311(&name).keep_alive(0),
                1 => Options::v5(&name).keep_alive(0),
                _ => Options::v5(&name).keep_alive(u16::MAX),
            };
            options.connect(broker.mqtt)
        };
        (0..(PLACES - 1) / 4).map(connect).collect::<Vec<_>>()
    })
    .into_iter()
    .flatten()
    .collect();
    // 1.5 KiB with the session in the worker, 1 KiB in the views, and their tables. A buffer of 64 KiB
    // each would be 128 MiB.
    cost.check(&broker, 2_000 * (8 << 10));
    let full = |options: Options<'_>| refusal(options.try_connect(broker.mqtt));
    assert_eq!(full(Options::v5("late")), ReasonCode::QuotaExceeded);
    assert_eq!(full(Options::v311("late")), ReasonCode::ServerUnavailable);
    bystander.publish("alive", "yes", QoS::AtLeastOnce);
    assert_eq!(bystander.message().text(), "yes");
    drop(squatters);
    broker.wait_for("their places", |b| b.metric("ledgermq_mqtt_connections") == 1.0);
    check_alive(&broker);
    check_refused(&mut broker, "connects", "connections", 2);
}

#[test]
fn attack_26_a_server_keep_alive_ends_squatting() {
    let options = BrokerOptions::default().set("gateway.limits.connections", 50);
    let mut broker = options.set("gateway.server_keep_alive", "1s").start();
    let names: Vec<String> = (0..50).map(|number| format!("squatter-{number}")).collect();
    let mut squatters: Vec<Client> = names
        .iter()
        .zip([0, u16::MAX].into_iter().cycle())
        .map(|(name, keep_alive)| Options::v5(name).keep_alive(keep_alive).connect(broker.mqtt))
        .collect();
    for squatter in &mut squatters {
        assert_eq!(squatter.connected().server_keep_alive, Some(1));
        assert_eq!(squatter.wait_closed(), Some(ReasonCode::KeepAliveTimeout));
    }
    broker.wait_for("their places", |b| b.metric("ledgermq_mqtt_connections") == 0.0);
    assert_eq!(broker.metric("ledgermq_mqtt_keep_alive_timeouts_total"), 50.0);
    check_alive(&broker);
}

/// Series of the metrics page.
fn series(broker: &Broker) -> BTreeSet<String> {
    let (_, page) = broker.get("/metrics");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[test]
fn attack_41_failed_logins_flood_neither_log_nor_metrics_nor_memory() {
    // `secret`, hashed in a way that costs little: many can be tried.
    let cheap = "alice:$7$1$s9/pPC2rn/ML62Uc$Ar2KAsVqXQASBIO7hDbr1iMhFpOa4/zQvj/hDA6AX3vyu+\
        uugJzfbuy4pBFfHcDFilJvbfXOAvhyrCf2Rlyx+w==\n";
    let files = Files::new();
    fs::write(files.passwords(), cheap).unwrap();
    let mut broker = files.options().argument("--allow-anonymous").start();
    check_alive(&broker);
    let (before, said) = (series(&broker), broker.stderr().len());
    let cost = Cost::before(&broker);
    // Every one with names of its own, which are long.
    at_once(4, |attacker| {
        for number in 0..2_000 {
            let name = format!("{attacker}-{number}-{}", "n".repeat(1_000));
            let refused = with(Options::v5(&name), &name, &name).try_connect(broker.mqtt);
            assert!(matches!(
                refusal(refused),
                ReasonCode::BadUserNameOrPassword | ReasonCode::ServerBusy
            ));
        }
    });
    assert_eq!(series(&broker), before, "no label has a name of a client");
    let said = broker.stderr().len() - said;
    assert!(said < 64 << 10, "{said} bytes of log for 8,000 failures");
    let refusals = |broker: &mut Broker| {
        let count = |reason: &str| {
            let name = "ledgermq_mqtt_authentications_refused_total";
            broker.metric(&format!("{name}{{reason=\"{reason}\"}}"))
        };
        count("password") + count("busy")
    };
    broker.wait_for("the count of them", |broker| refusals(broker) == 8_000.0);
    // Of a failure its address and a hash of its name are remembered, 65,536 at most. The names would be
    // 16 MB.
    cost.check(&broker, 8 * MIB);
    check_alive(&broker);
}

#[test]
fn attack_41_guessed_passwords_take_the_memory_of_one_hash_for_each_thread() {
    let files = Files::new();
    files.add("alice", "alice");
    let broker = files.options().argument("--allow-anonymous").start();
    check_alive(&broker);
    let cost = Cost::before(&broker);
    for round in 0..10 {
        let mut waiting = Vec::new();
        for number in 0..30 {
            let name: &'static str = format!("guess {round} {number}").leak();
            let mut client = Client::open(broker.mqtt, ProtocolVersion::V5).unwrap();
            let connect = with(Options::v5(name), name, "guess").connect;
            client.send(&Packet::Connect(Box::new(connect)));
            waiting.push(client);
        }
        for mut client in waiting {
            match client.answer() {
                Received::ConnAck(connack) => {
                    assert_eq!(connack.reason, ReasonCode::BadUserNameOrPassword);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // 19 MiB for each of two threads. Taken anew for each of 300 comparisons it came to 320 MB.
    cost.check(&broker, (2 * 19 + 10) * MIB);
    with(Options::v5("alice"), "alice", "alice").connect(broker.mqtt).disconnect();
    check_alive(&broker);
}
