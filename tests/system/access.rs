//! Users, passwords and access rules of a running node, and the command that keeps passwords.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ledgermq_core::packet::{ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::support::access::{Files, passwd};
use crate::support::broker::Options as BrokerOptions;
use crate::support::client::{Client, Options, Refused, message};

pub(crate) fn with<'a>(options: Options<'a>, user: &'a str, password: &'a str) -> Options<'a> {
    let mut options = options;
    options.connect.username = Some(user);
    options.connect.password = Some(password.as_bytes());
    options
}

pub(crate) fn refusal(result: Result<Client, Refused>) -> ReasonCode {
    match result {
        Err(Refused::ConnAck(connack)) => connack.reason,
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn users_are_added_verified_and_deleted_and_foreign_lines_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passwords");
    let run = |command: &str, name: &str, password: &str| passwd(&[command], &file, name, password);
    assert_eq!(run("verify", "u", "x").0, 3, "no file");
    assert_eq!(run("add", "u v", "secret").0, 0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let foreign = "# who is who\nm:$7$101$s9/pPC2rn/ML62Uc$Ar2KAsVqXQASBIO7hDbr1iMhFpOa4/zQvj/\
        hDA6AX3vyu+uugJzfbuy4pBFfHcDFilJvbfXOAvhyrCf2Rlyx+w==\n";
    let ours = fs::read_to_string(&file).unwrap();
    assert!(ours.starts_with("u v:$argon2id$v=19$m=19456,t=2,p=1$") && !ours.contains("secret"));
    fs::write(&file, format!("{foreign}{ours}")).unwrap();
    assert_eq!(run("verify", "m", "secret").0, 0, "as Mosquitto wrote it");
    assert_eq!(run("verify", "u v", "secret").0, 0);
    assert_eq!(run("verify", "u v", "Secret").0, 1);
    assert_eq!(run("verify", "nobody", "secret").0, 3);
    let (code, stdout, _) = run("add", "u v", "other");
    assert_eq!((code, stdout.as_str()), (0, "user \"u v\": changed\n"));
    assert_eq!((run("verify", "u v", "other").0, run("verify", "u v", "secret").0), (0, 1));
    assert_eq!(run("delete", "u v", "").0, 0);
    assert_eq!(run("delete", "u v", "").0, 3);
    assert_eq!(fs::read_to_string(&file).unwrap(), foreign);
    for (name, password) in [("a:b", "x"), ("", "x"), ("#x", "x"), ("a\nb", "x"), ("u", "")] {
        assert_eq!(run("add", name, password).0, 2, "{name:?} {password:?}");
    }
    let (code, stdout, _) = passwd(&["add", "--output", "json"], &file, "j", "x");
    assert_eq!((code, stdout.trim()), (0, r#"{"result":"added","user":"j"}"#));
    fs::write(&file, "u:in clear\n").unwrap();
    let (code, _, stderr) = run("add", "v", "x");
    assert!(code == 1 && stderr.contains("line 1") && !stderr.contains("in clear"), "{stderr}");
}

#[test]
fn who_gives_a_right_password_comes_in_and_nobody_else() {
    let files = Files::new();
    files.add("alice", "secret");
    let broker = files.options().start();
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let options = || Options::new(version, "c");
        with(options(), "alice", "secret").connect(broker.mqtt).disconnect();
        let (bad, anonymous) = (ReasonCode::BadUserNameOrPassword, ReasonCode::NotAuthorized);
        assert_eq!(refusal(with(options(), "alice", "x").try_connect(broker.mqtt)), bad);
        assert_eq!(refusal(with(options(), "bob", "secret").try_connect(broker.mqtt)), bad);
        assert_eq!(refusal(options().try_connect(broker.mqtt)), anonymous);
    }
    let mut nameless = Options::v5("c");
    nameless.connect.password = Some(b"secret");
    assert_eq!(refusal(nameless.try_connect(broker.mqtt)), ReasonCode::BadUserNameOrPassword);
    let (_, metrics) = broker.get("/metrics");
    assert!(metrics.contains("ledgermq_mqtt_authentications_total 2"), "{metrics}");
    let refused = r#"ledgermq_mqtt_authentications_refused_total{reason="password"} 4"#;
    assert!(metrics.contains(refused), "{metrics}");
}

#[test]
fn anonymous_clients_come_in_beside_users_where_that_is_said() {
    let files = Files::new();
    files.add("alice", "secret");
    let broker = files.options().argument("--allow-anonymous").start();
    Options::v5("a").connect(broker.mqtt).disconnect();
    with(Options::v5("a"), "alice", "secret").connect(broker.mqtt).disconnect();
    let refused = with(Options::v5("a"), "alice", "x").try_connect(broker.mqtt);
    assert_eq!(refusal(refused), ReasonCode::BadUserNameOrPassword);
}

#[test]
fn passwords_are_read_again_at_sighup_and_clients_stay() {
    let files = Files::new();
    files.add("alice", "old");
    let mut broker = files.options().start();
    let mut here = with(Options::v5("here"), "alice", "old").connect(broker.mqtt);
    files.add("alice", "new");
    files.add("bob", "b");
    broker.reload();
    here.ping();
    with(Options::v5("c"), "alice", "new").connect(broker.mqtt).disconnect();
    with(Options::v5("c2"), "bob", "b").connect(broker.mqtt).disconnect();
    let refused = with(Options::v5("c"), "alice", "old").try_connect(broker.mqtt);
    assert_eq!(refusal(refused), ReasonCode::BadUserNameOrPassword);
    // What cannot be used changes nothing, and is said where an operator looks.
    fs::write(files.passwords(), "alice:new\n").unwrap();
    broker.reload();
    with(Options::v5("c"), "alice", "new").connect(broker.mqtt).disconnect();
    let (status, ready) = broker.get("/readyz");
    assert!(status == 200 && ready.contains("warning") && ready.contains("line 1"), "{ready}");
    assert!(!ready.contains("alice:new"));
}

#[test]
fn rules_survive_a_restart_and_change_with_the_file() {
    let files = Files::new();
    files.write_acl("topic read a/#\ntopic write b\n");
    let mut broker = files.options().start();
    let mut client = Options::v5("c").persistent().connect(broker.mqtt);
    let refused = client.subscribe_with(&[("b", Default::default())], None);
    assert_eq!(refused, [ReasonCode::NotAuthorized]);
    client.subscribe("a/#", QoS::AtLeastOnce);
    client.publish("b", "x", QoS::AtLeastOnce);
    broker.crash();
    let mut client = Options::v5("c").persistent().connect(broker.mqtt);
    let publish = message("a/x", b"x", QoS::ExactlyOnce);
    assert_eq!(client.publish_packet(&publish), ReasonCode::NotAuthorized);
    files.replace_acl(&mut broker, "topic a/#\n");
    // Its worker has come as far as the views when it answers what was committed after.
    client.subscribe("a/#", QoS::AtLeastOnce);
    client.publish("a/x", "now", QoS::ExactlyOnce);
    assert_eq!(client.message().text(), "now");
    let publish = message("b", b"x", QoS::AtLeastOnce);
    assert_eq!(client.publish_packet(&publish), ReasonCode::NotAuthorized);
    // A file with an error changes nothing.
    files.write_acl("topic a/#\nnonsense\n");
    broker.reload();
    client.publish("a/x", "still", QoS::AtLeastOnce);
    assert!(broker.get("/readyz").1.contains("line 2"));
}

#[test]
fn without_the_file_the_rules_of_the_log_are_lifted_by_an_event() {
    let files = Files::new();
    files.write_acl("topic read #\n");
    let dir = tempfile::tempdir().unwrap();
    let broker = files.options().dir(dir.path()).start();
    drop(broker);
    let broker = BrokerOptions::default().dir(dir.path()).start();
    let mut client = Options::v5("c").connect(broker.mqtt);
    client.publish("a", "x", QoS::AtLeastOnce);
    assert!(broker.get("/readyz").1.contains("\"rules\":null"));
}

#[test]
fn answers_can_be_made_to_tell_nothing_of_the_rules() {
    let files = Files::new();
    files.write_acl("topic read open\n");
    let options = files.options().argument("--allow-anonymous");
    let broker = options.set("gateway.conceal_access_rules", true).start();
    let mut client = Options::v5("client").connect(broker.mqtt);
    let filters = [("secret", Default::default()), ("open", Default::default())];
    let reasons = client.subscribe_with(&filters, None);
    assert_eq!(reasons, [ReasonCode::UnspecifiedError, ReasonCode::Success]);
    let refused = client.publish_packet(&message("secret", b"x", QoS::AtLeastOnce));
    assert_eq!(refused, ReasonCode::UnspecifiedError);
    let counted = "ledgermq_mqtt_subscriptions_refused_total{reason=\"not_authorized\"}";
    assert_eq!(broker.metric(counted), 1.0);
}
