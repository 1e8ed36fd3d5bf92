//! Attacks on identity and access rules: numbers 42 to 50.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ledgermq_core::codec;
use ledgermq_core::packet::{ForwardedProperties, Packet, ProtocolVersion, QoS, Will};
use ledgermq_core::reason::ReasonCode;

use crate::access::{refusal, with};
use crate::support::access::Files;
use crate::support::broker::Broker;
use crate::support::client::{Client, Options, message, success};
use crate::support::packets::Received;

/// What only somebody who sees the broker's insides could know.
const SECRET: &str = "correct horse battery staple";

fn subscribe(client: &mut Client, filter: &str) -> ReasonCode {
    client.subscribe_with(&[(filter, Default::default())], None)[0]
}

fn publish(client: &mut Client, topic: &str) -> ReasonCode {
    client.publish_packet(&message(topic, b"x", QoS::AtLeastOnce))
}

fn users(names: &[&str]) -> Files {
    let files = Files::new();
    for name in names {
        files.add(name, name);
    }
    files
}

fn user<'a>(broker: &Broker, options: Options<'a>, name: &'a str) -> Client {
    with(options, name, name).connect(broker.mqtt)
}

#[test]
fn attack_42_a_client_identifier_is_not_taken_over_by_another_user() {
    let files = users(&["alice", "mallory"]);
    let mut broker = files.options().argument("--allow-anonymous").start();
    let persistent = || Options::v5("valve").persistent();
    let mut alice = user(&broker, persistent(), "alice");
    alice.subscribe("for/alice", QoS::AtLeastOnce);
    let steal = |broker: &Broker, clean: bool| {
        let options = || persistent().clean_start(clean);
        let named = with(options(), "mallory", "mallory").try_connect(broker.mqtt);
        assert_eq!(refusal(named), ReasonCode::NotAuthorized);
        assert_eq!(refusal(options().try_connect(broker.mqtt)), ReasonCode::NotAuthorized);
    };
    // Live, away, and after a crash.
    steal(&broker, false);
    alice.ping();
    drop(alice);
    steal(&broker, true);
    let mut bob = user(&broker, Options::v5("bob"), "mallory");
    bob.publish("for/alice", "secret", QoS::AtLeastOnce);
    broker.crash();
    steal(&broker, false);
    let mut alice = user(&broker, persistent(), "alice");
    assert!(alice.session_present());
    assert_eq!(alice.message().text(), "secret");
    let (_, metrics) = broker.get("/metrics");
    assert!(metrics.contains("ledgermq_mqtt_foreign_sessions_refused_total 2"), "{metrics}");
}

#[test]
fn attack_43_names_with_wildcards_and_control_characters_widen_nothing() {
    let files = users(&["+", "a#", "a/b", ".*", "$SYS"]);
    files.write_acl("pattern readwrite own/%u/#\npattern readwrite id/%c/#\npattern read %u/#\n");
    let broker = files.options().start();
    for name in ["+", "a#", "a/b"] {
        let mut client = user(&broker, Options::v5(name), name);
        for filter in ["own/#", "own/+/x", "own/alice/x", "id/#", "id/a/b", "#", "$SYS/#"] {
            assert_eq!(
                subscribe(&mut client, filter),
                ReasonCode::NotAuthorized,
                "{name} {filter}"
            );
        }
        for topic in ["own/alice/x", "own/a/b/x", "id/a/b"] {
            assert_eq!(publish(&mut client, topic), ReasonCode::NotAuthorized, "{name} {topic}");
        }
    }
    let mut client = user(&broker, Options::v5("^c.*$"), ".*");
    let taken = ReasonCode::NoMatchingSubscribers;
    assert_eq!(publish(&mut client, "own/.*/x"), taken);
    assert_eq!(publish(&mut client, "id/^c.*$/x"), taken);
    assert_eq!(publish(&mut client, "own/alice/x"), ReasonCode::NotAuthorized);
    let mut client = user(&broker, Options::v5("$SYS"), "$SYS");
    assert_eq!(subscribe(&mut client, "$SYS/#"), ReasonCode::NotAuthorized);
    // The codec takes no control characters in names at all.
    for name in ["client_X", "user_X"] {
        let mut hostile = Client::open(broker.mqtt, ProtocolVersion::V5).unwrap();
        let connect = with(Options::v5("client_X"), "user_X", "password").connect;
        let (mut bytes, packet) = (Vec::new(), Packet::Connect(Box::new(connect)));
        codec::encode(&packet, ProtocolVersion::V5, &mut bytes).unwrap();
        let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        bytes[at + name.len() - 1] = 0x1b;
        hostile.send_bytes(&bytes);
        hostile.wait_closed();
    }
    let (_, metrics) = broker.get("/metrics");
    assert!(!metrics.contains(".*") && !broker.stderr().contains('\u{1b}'));
}

#[test]
fn attack_44_a_right_that_is_taken_away_is_gone_at_once_everywhere() {
    let files = users(&["alice", "pub"]);
    let open = "user alice\ntopic #\nuser pub\ntopic #\n";
    let closed = "user alice\ntopic free/#\nuser pub\ntopic #\n";
    files.write_acl(open);
    let mut broker = files.options().start();
    let mut publisher = user(&broker, Options::v5("pub"), "pub");
    publisher.publish_retained("secret/kept", "retained", QoS::AtLeastOnce);

    let mut live = user(&broker, Options::v5("live"), "alice");
    live.subscribe("secret/+", QoS::AtLeastOnce);
    live.subscribe("free/#", QoS::AtLeastOnce);
    assert_eq!(live.message().text(), "retained");
    let mut stuck = user(&broker, Options::v5("stuck").receive_maximum(1).manual_ack(), "alice");
    stuck.subscribe("secret/x", QoS::AtLeastOnce);
    let mut queued = user(&broker, Options::v5("queued").persistent(), "alice");
    queued.subscribe("#", QoS::ExactlyOnce);
    queued.message();
    let mut in_flight = user(&broker, Options::v5("flight").persistent().manual_ack(), "alice");
    in_flight.subscribe("secret/x", QoS::ExactlyOnce);
    drop(queued);
    for nth in ["1", "2"] {
        publisher.publish("secret/x", nth, QoS::ExactlyOnce);
        assert_eq!(live.message().text(), nth);
        in_flight.message();
    }
    let sent = stuck.message();
    assert_eq!(sent.text(), "1");
    drop(in_flight);
    let will = Will {
        topic: "secret/x",
        payload: b"last words",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: 1,
        message_expiry_interval: None,
        forwarded: ForwardedProperties::default(),
    };
    drop(user(&broker, Options::v5("mortal").persistent().will_message(will.clone()), "alice"));
    let mut watcher = user(&broker, Options::v5("watcher"), "pub");
    watcher.subscribe("#", QoS::AtLeastOnce);
    watcher.message();

    files.replace_acl(&mut broker, closed);
    publisher.publish("secret/x", "3", QoS::AtLeastOnce);
    publisher.publish("free/x", "4", QoS::AtLeastOnce);
    // Live: nothing of the secret any more, and what is free comes.
    assert_eq!(live.message().text(), "4");
    assert_eq!(subscribe(&mut live, "secret/x"), ReasonCode::NotAuthorized);
    assert_eq!(publish(&mut live, "secret/x"), ReasonCode::NotAuthorized);
    // What waited for room is judged when there is some.
    stuck.send(&Packet::PubAck(success(sent.packet_id.unwrap())));
    stuck.no_message();
    // Queued while away: only what is free.
    let mut queued = user(&broker, Options::v5("queued").persistent(), "alice");
    assert_eq!(queued.message().text(), "4");
    queued.no_message();
    // In flight: what was not settled is not sent again, though the session is resumed.
    let mut in_flight = user(&broker, Options::v5("flight").persistent(), "alice");
    assert!(in_flight.session_present());
    in_flight.no_message();
    // Retained, and the will that waited.
    let mut late = user(&broker, Options::v5("late"), "alice");
    assert_eq!(subscribe(&mut late, "secret/kept"), ReasonCode::NotAuthorized);
    late.subscribe("#", QoS::AtLeastOnce);
    late.no_message();
    assert_eq!(watcher.message().text(), "3");
    assert_eq!(watcher.message().text(), "4");
    assert!(watcher.message_within(Duration::from_millis(1500)).is_none());
    let refused = with(Options::v5("mortal").will_message(will), "alice", "alice");
    assert_eq!(refusal(refused.try_connect(broker.mqtt)), ReasonCode::NotAuthorized);
    // Given back, it is there again, without what was withheld.
    files.replace_acl(&mut broker, open);
    publisher.publish("secret/x", "5", QoS::AtLeastOnce);
    assert_eq!(live.message().text(), "5");
    assert_eq!(in_flight.message().text(), "5");
}

#[test]
fn attack_45_a_deny_holds_against_wider_filters_retained_messages_and_resumed_sessions() {
    let files = users(&["alice", "pub"]);
    files.write_acl("user alice\ntopic deny a/secret/#\ntopic read #\nuser pub\ntopic #\n");
    let mut broker = files.options().start();
    let mut publisher = user(&broker, Options::v5("pub"), "pub");
    publisher.publish_retained("a/secret/kept", "no", QoS::AtLeastOnce);
    publisher.publish_retained("a/open/kept", "kept", QoS::AtLeastOnce);
    let mut alice = user(&broker, Options::v5("alice").persistent(), "alice");
    for filter in ["a/secret/#", "a/secret/x", "a/secret/+", "$share/g/a/secret/x", "a/secret"] {
        let reason = subscribe(&mut alice, filter);
        assert!(reason.is_error(), "{filter}: {reason:?}");
    }
    alice.subscribe("a/#", QoS::AtLeastOnce);
    assert_eq!(alice.message().text(), "kept");
    alice.subscribe("+/+/x", QoS::AtLeastOnce);
    let both = |publisher: &mut Client, text: &str| {
        publisher.publish("a/secret/x", "no", QoS::AtLeastOnce);
        publisher.publish("a/open/x", text, QoS::AtLeastOnce);
    };
    both(&mut publisher, "live");
    assert_eq!(alice.message().text(), "live");
    drop(alice);
    both(&mut publisher, "queued");
    broker.crash();
    let mut alice = user(&broker, Options::v5("alice").persistent(), "alice");
    assert_eq!(alice.message().text(), "queued");
    alice.no_message();
}

#[test]
fn attack_46_the_brokers_own_topics_are_out_of_reach_without_a_rule() {
    let files = Files::new();
    for acl in [None, Some("topic #\ntopic +/#\npattern readwrite #\n")] {
        if let Some(acl) = acl {
            files.write_acl(acl);
        }
        let broker = files.options().start();
        let mut client = Options::v5("c").connect(broker.mqtt);
        let guarded = ["$CONTROL/dynamic-security/v1", "$replay/1/a", "$CONTROL"];
        for topic in guarded.into_iter().chain(["$SYS/broker/uptime"]) {
            assert_eq!(publish(&mut client, topic), ReasonCode::NotAuthorized, "{topic}");
        }
        for filter in ["$CONTROL/#", "$CONTROL/+/v1", "$replay/#", "$replay/1/a"] {
            assert_eq!(subscribe(&mut client, filter), ReasonCode::NotAuthorized, "{filter}");
        }
        assert!(subscribe(&mut client, "$share/g/$CONTROL/#").is_error());
        client.subscribe("#", QoS::AtLeastOnce);
        client.subscribe("+/+/+", QoS::AtLeastOnce);
        client.publish("a", "x", QoS::AtLeastOnce);
        assert_eq!(client.message().topic, "a", "and nothing of the broker's own");
        // 3.1.1 has no refusal: it goes nowhere.
        let mut old = Options::v311("old").connect(broker.mqtt);
        old.publish("$SYS/broker/uptime", "x", QoS::ExactlyOnce);
        client.no_message();
    }
}

#[test]
fn attack_47_files_that_are_empty_wrong_or_unreadable_let_nobody_in() {
    let files = Files::new();
    fs::write(files.passwords(), "").unwrap();
    files.write_acl("# all rules were deleted\n");
    let broker = files.options().start();
    let refused = with(Options::v5("c"), "root", "").try_connect(broker.mqtt);
    assert_eq!(refusal(refused), ReasonCode::BadUserNameOrPassword);
    assert_eq!(refusal(Options::v5("c").try_connect(broker.mqtt)), ReasonCode::NotAuthorized);
    drop(broker);
    let broker = files.options().argument("--allow-anonymous").start();
    let mut client = Options::v5("c").connect(broker.mqtt);
    assert_eq!(subscribe(&mut client, "#"), ReasonCode::NotAuthorized);
    assert_eq!(publish(&mut client, "a"), ReasonCode::NotAuthorized);
    drop(broker);

    // A broker that cannot tell who may come in does not start, and says file, line and what to do.
    for (acl, passwords, says) in [
        ("topic read\u{0}", "", "line 1"),
        ("user\n", "", "say 'user NAME'"),
        ("topic a\n", "nobody\n", "ledgermq passwd add"),
    ] {
        files.write_acl(acl);
        fs::write(files.passwords(), passwords).unwrap();
        let mut broker = files.options().prepare();
        broker.spawn();
        assert_eq!(broker.wait_end().code(), Some(1));
        let stderr = broker.stderr();
        assert!(stderr.contains(says) && stderr.contains("_file /"), "{says}: {stderr}");
    }
    for missing in ["gateway.password_file", "gateway.acl_file"] {
        let mut broker = Files::new().options().set(missing, "/nowhere/x").prepare();
        broker.spawn();
        assert_eq!(broker.wait_end().code(), Some(1));
        assert!(broker.stderr().contains("/nowhere/x: cannot be read"), "{}", broker.stderr());
    }
    // Readable by everybody: served, with a warning.
    let files = users(&["alice"]);
    fs::set_permissions(files.passwords(), fs::Permissions::from_mode(0o644)).unwrap();
    let broker = files.options().start();
    assert!(broker.stderr().contains("chmod 600"), "{}", broker.stderr());
}

#[test]
fn attack_48_passwords_that_come_faster_than_they_are_compared_let_nobody_in() {
    let broker = users(&["alice"]).options().start();
    let mut waiting = Vec::new();
    for number in 0..1_000 {
        let name: &'static str = format!("flood {number}").leak();
        let mut client = Client::open(broker.mqtt, ProtocolVersion::V5).unwrap();
        let connect = with(Options::v5(name), name, "guess").connect;
        client.send(&Packet::Connect(Box::new(connect)));
        waiting.push(client);
    }
    let mut reasons = BTreeMap::<u8, u32>::new();
    for mut client in waiting {
        match client.answer() {
            Received::ConnAck(connack) => {
                *reasons.entry(connack.reason.into()).or_default() += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // Refused, or told that the server is busy; and it serves on.
    assert_eq!(reasons.keys().copied().collect::<Vec<_>>(), [0x86, 0x89], "{reasons:?}");
    with(Options::v5("alice"), "alice", "alice").connect(broker.mqtt).disconnect();
}

#[test]
fn attack_49_an_unknown_user_takes_as_long_as_a_wrong_password() {
    let names = [("alice", "nobody"), ("bob", "no one"), ("carol", "none"), ("dave", "not one")];
    let broker = users(&names.map(|(known, _)| known)).options().start();
    // The fastest of some: without the decoy an unknown user is answered some twenty times faster,
    // each time. The others are for a machine that is busy.
    let fastest = |name| {
        let guess = |_| {
            let begin = Instant::now();
            let refused = with(Options::v5("c"), name, "guess").try_connect(broker.mqtt);
            assert_eq!(refusal(refused), ReasonCode::BadUserNameOrPassword);
            begin.elapsed()
        };
        (0..9).map(guess).min().unwrap()
    };
    let times: Vec<_> =
        names.iter().map(|(known, unknown)| (fastest(known), fastest(unknown))).collect();
    let is_alike =
        |(known, unknown): &(Duration, Duration)| known.max(unknown) < &(*known.min(unknown) * 3);
    assert!(times.iter().any(is_alike), "{times:?}");
}

#[test]
fn attack_50_guessing_is_held_off_and_locks_nobody_else_out() {
    let broker = users(&["alice", "bob"]).options().start();
    for _ in 0..10 {
        let refused = with(Options::v5("c"), "alice", "guess").try_connect(broker.mqtt);
        assert_eq!(refusal(refused), ReasonCode::BadUserNameOrPassword);
    }
    // Not even the right password now, from here, for a minute, and without being compared.
    let refused = with(Options::v5("c"), "alice", "alice").try_connect(broker.mqtt);
    assert_eq!(refusal(refused), ReasonCode::BadUserNameOrPassword);
    let (_, metrics) = broker.get("/metrics");
    let held_off = r#"ledgermq_mqtt_authentications_refused_total{reason="held_off"} 1"#;
    assert!(metrics.contains(held_off), "{metrics}");
    // Other users at the address come in, and the user from elsewhere.
    with(Options::v5("c"), "bob", "bob").connect(broker.mqtt).disconnect();
    let elsewhere = std::net::SocketAddr::from(([127, 0, 0, 2], 0));
    let mut alice = Client::open_from(elsewhere, broker.mqtt, ProtocolVersion::V5).unwrap();
    let connect = with(Options::v5("c"), "alice", "alice").connect;
    alice.send(&Packet::Connect(Box::new(connect)));
    match alice.answer() {
        Received::ConnAck(connack) => {
            assert_eq!(connack.reason, ReasonCode::Success);
        }
        other => panic!("{other:?}"),
    }
}

/// A secret is planted in every place where one can be given, and looked for everywhere.
#[test]
fn a_password_is_in_no_file_log_line_or_answer() {
    let files = Files::new();
    files.add("alice", SECRET);
    let hash = fs::read_to_string(files.passwords()).unwrap();
    let hash = hash.trim().rsplit('$').next().unwrap().to_owned();
    files.write_acl("user alice\ntopic #\n");
    let mut broker = files.options().start();
    let wrong = format!("not {SECRET}");
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let will = |options: Options<'static>| options.will("w", b"gone", QoS::AtLeastOnce);
        let options = will(Options::new(version, "c").persistent());
        drop(with(options, "alice", SECRET).connect(broker.mqtt));
        let refused = with(Options::new(version, "c"), "alice", &wrong).try_connect(broker.mqtt);
        refusal(refused);
        let refused = with(Options::new(version, "c"), "nobody", SECRET).try_connect(broker.mqtt);
        refusal(refused);
    }
    broker.reload();
    let mut said = broker.get("/metrics").1 + &broker.get("/readyz").1;
    broker.restart();
    broker.crash();
    said += &broker.stderr();
    broker.terminate();
    broker.wait_end();
    said += &broker.stderr();
    for secret in [SECRET, &hash] {
        assert!(!said.contains(secret), "{said}");
        let files = search(&broker.dir, secret.as_bytes());
        assert!(files > 3, "the data directory was looked through");
    }
}

/// Looks for `secret` in every file below `dir`; the number of files.
fn search(dir: &Path, secret: &[u8]) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += search(&path, secret);
            continue;
        }
        files += 1;
        let bytes = fs::read(&path).unwrap();
        let is_there = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!is_there, "the secret stands in {}", path.display());
    }
    files
}
