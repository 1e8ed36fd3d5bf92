//! MQTT over TLS, WebSocket and behind proxies.

use std::io::{Read, Write};
use std::net::TcpStream;

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;

use crate::access;
use crate::support::access::Files as AccessFiles;
use crate::support::broker::{Broker, Options as BrokerOptions, run_to_end};
use crate::support::certificates::Authority;
use crate::support::client::{self, Client, Options};
use crate::support::transport::{self, Stream, TlsOptions};
use crate::support::web_socket::{REQUEST, WebSocket};

/// A folder with a server's and an authority's certificates, and the TOML that names them.
struct Files {
    dir: tempfile::TempDir,
    server: Authority,
    clients: Authority,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, clients) = (Authority::new("servers"), Authority::new("clients"));
        server.server("localhost").write(dir.path(), "server");
        std::fs::write(dir.path().join("ca.pem"), clients.pem()).unwrap();
        Self { dir, server, clients }
    }

    fn keys(&self, more: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "certificate = \"{dir}/server.pem\"\nkey = \"{dir}/server.key\"\n\
             client_ca = \"{dir}/ca.pem\"\n{more}"
        )
    }
}

/// One client publishes, the other is subscribed, whatever they speak over.
fn check(mut publisher: Client, mut subscriber: Client) {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let topic = format!("t/{}", qos as u8);
        subscriber.subscribe(&topic, qos);
        let payload = vec![b'x'; 200_000];
        publisher.publish(&topic, &payload, qos);
        publisher.publish(&topic, "short", qos);
        assert!(subscriber.message().payload == payload, "200,000 bytes");
        assert_eq!(subscriber.message().payload, b"short");
    }
    publisher.disconnect();
    subscriber.disconnect();
}

fn clients(publisher: impl Stream + 'static, subscriber: impl Stream + 'static) {
    check(
        Options::v5("publisher").connect_over(publisher),
        Options::v311("subscriber").connect_over(subscriber),
    );
}

/// `[MQTT-4.2-1]`
#[test]
fn messages_pass_over_tls_of_both_versions() {
    let files = Files::new();
    let broker = BrokerOptions::default().listener(files.keys("")).start();
    let tls = |version| {
        let options = TlsOptions { versions: vec![version], ..TlsOptions::default() };
        transport::tls(broker.listeners[0], &files.server, None, &options).unwrap()
    };
    clients(tls(&rustls::version::TLS12), tls(&rustls::version::TLS13));
}

/// `[MQTT-4.2-1]`
#[test]
fn messages_pass_over_websocket_and_websocket_over_tls() {
    let files = Files::new();
    let broker = BrokerOptions::default()
        .listener("protocol = \"ws\"")
        .listener(files.keys("protocol = \"ws\""))
        .start();
    let tcp = transport::tcp(broker.listeners[0]).unwrap();
    let options = TlsOptions::default();
    let tls = transport::tls(broker.listeners[1], &files.server, None, &options).unwrap();
    clients(WebSocket::open(tcp), WebSocket::open(tls));
}

#[test]
fn a_client_that_did_not_read_gets_everything_in_order_over_every_transport() {
    let files = Files::new();
    let broker = BrokerOptions::default()
        .listener("protocol = \"ws\"")
        .listener(files.keys(""))
        .listener(files.keys("protocol = \"ws\""))
        .start();
    let options = TlsOptions::default();
    let tls =
        |at: usize| transport::tls(broker.listeners[at], &files.server, None, &options).unwrap();
    let subscribers: [Client; 3] = [
        Options::v5("ws")
            .connect_over(WebSocket::open(transport::tcp(broker.listeners[0]).unwrap())),
        Options::v5("tls").connect_over(tls(1)),
        Options::v5("wss").connect_over(WebSocket::open(tls(2))),
    ];
    let mut subscribers = subscribers.map(|mut subscriber| {
        subscriber.subscribe("much", QoS::AtLeastOnce);
        subscriber
    });
    // More than the sockets' buffers hold, so that writes are cut off within records and frames.
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    let payload = |n: u32| n.to_be_bytes().repeat(5_000 + n as usize);
    for n in 0..800 {
        publisher.publish("much", payload(n), QoS::AtLeastOnce);
    }
    for subscriber in &mut subscribers {
        for n in 0..800 {
            assert!(subscriber.message().payload == payload(n), "message {n}");
        }
        subscriber.ping();
    }
}

#[test]
fn messages_pass_at_the_path_of_the_http_port_and_are_counted_as_connections() {
    let broker = Broker::run();
    let open = || WebSocket::open(transport::tcp(broker.http).unwrap());
    let (publisher, subscriber) = (open(), open());
    let mut publisher = Options::v5("publisher").connect_over(publisher);
    publisher.ping();
    assert_eq!(broker.metric("ledgermq_mqtt_connections"), 2.0);
    check(publisher, Options::v5("subscriber").connect_over(subscriber));
}

#[test]
fn what_is_no_websocket_at_the_path_of_the_http_port_is_told_so() {
    let mut broker = Broker::run();
    let (status, text) = broker.get("/mqtt");
    assert_eq!(status, 426);
    assert!(text.contains("connect with an MQTT client"), "{text}");
    let request = REQUEST.replace(": mqtt\r\n", ": chat\r\n");
    let (_, answer) = WebSocket::ask(transport::tcp(broker.http).unwrap(), &request);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("must offer mqtt"), "{answer}");
    broker.terminate();
    assert!(broker.wait_end().success());
}

#[test]
fn a_page_from_elsewhere_that_a_browser_of_this_machine_shows_is_refused_unless_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("l.toml");
    std::fs::write(&config, "gateway.websocket_origins = [\"https://good.example\"]\n").unwrap();
    let broker = BrokerOptions::default()
        .argument("--config")
        .argument(config.display().to_string())
        .start();
    let status = |origin: &str| {
        let request = REQUEST.replace("Host:", &format!("Origin: {origin}\r\nHost:"));
        let (_, head) = WebSocket::ask(transport::tcp(broker.http).unwrap(), &request);
        head.get(9..12).unwrap().to_owned()
    };
    assert_eq!(status("https://evil.example"), "403");
    assert_eq!(status("null"), "403");
    assert_eq!(status("https://good.example"), "101");
    assert_eq!(status("http://localhost:3000"), "101");
}

#[test]
fn a_ping_is_answered_and_a_broker_that_stops_says_goodbye() {
    let mut broker = BrokerOptions::default().listener("protocol = \"ws\"").start();
    let mut socket = WebSocket::open(transport::tcp(broker.listeners[0]).unwrap());
    socket.send_frame(0x89, b"are you there?");
    assert_eq!(socket.wait_pong(), b"are you there?");
    broker.terminate();
    assert!(broker.wait_end().success());
    assert_eq!(socket.wait_closed(), Some(1000));
}

#[test]
fn a_client_is_known_by_its_certificate_where_one_is_required_and_turned_away_without() {
    let files = Files::new();
    let broker = BrokerOptions::default()
        .listener(files.keys("client_certificate = \"required\""))
        .listener(files.keys("client_certificate = \"optional\""))
        .start();
    let issued = files.clients.client("device-1");
    let options = TlsOptions::default();
    for address in &broker.listeners {
        let tls = transport::tls(*address, &files.server, Some(&issued), &options).unwrap();
        Options::v5("with").connect_over(tls).disconnect();
    }
    let tls = transport::tls(broker.listeners[1], &files.server, None, &options).unwrap();
    Options::v5("without").connect_over(tls).disconnect();
    let refused = transport::tls(broker.listeners[0], &files.server, None, &options);
    let refused = refused.map(|tls| Options::v5("without").try_connect_over(Box::new(tls)));
    assert!(!matches!(refused, Ok(Ok(_))));
    assert_eq!(broker.metric("ledgermq_mqtt_connections_failed_total{reason=\"tls\"}"), 1.0);
}

#[test]
fn a_certificate_is_a_proven_user_to_passwords_and_access_rules() {
    let (files, who) = (Files::new(), AccessFiles::new());
    who.add("alice", "secret");
    who.write_acl("user device-1\ntopic device/1\nuser alice\ntopic alice\n");
    let keys = files.keys("client_certificate = \"optional\"");
    let broker = who.options().listener(keys).start();
    let issued = files.clients.client("device-1");
    let (address, options) = (broker.listeners[0], TlsOptions::default());
    let tls = |issued| transport::tls(address, &files.server, issued, &options).unwrap();
    let connect = || Options::v5("device").persistent();
    // No password is asked for, and a User Name does not help to be somebody else.
    let mut plain = connect();
    plain.connect.username = Some("alice");
    let mut device = plain.connect_over(tls(Some(&issued)));
    let publish = |client: &mut Client, topic| {
        client.publish_packet(&client::message(topic, b"x", QoS::AtLeastOnce))
    };
    assert_eq!(publish(&mut device, "device/1"), ReasonCode::NoMatchingSubscribers);
    assert_eq!(publish(&mut device, "alice"), ReasonCode::NotAuthorized);
    drop(device);
    // Without the certificate nobody gets in, and a user does not get the session of another.
    let refused = connect().try_connect_over(Box::new(tls(None)));
    assert_eq!(access::refusal(refused), ReasonCode::NotAuthorized);
    let alice = || access::with(connect(), "alice", "secret");
    let refused = alice().try_connect_over(Box::new(tls(None)));
    assert_eq!(access::refusal(refused), ReasonCode::NotAuthorized);
    assert!(connect().connect_over(tls(Some(&issued))).session_present());
}

#[test]
fn certificates_are_read_again_on_sighup_and_clients_stay_connected() {
    let files = Files::new();
    let mut broker = BrokerOptions::default().listener(files.keys("")).start();
    let address = broker.listeners[0];
    let options = TlsOptions::default();
    let tls = |authority| transport::tls(address, authority, None, &options);
    let mut before = Options::v5("before").connect_over(tls(&files.server).unwrap());

    // A broken file: the old certificate stays in force, and the log says so.
    std::fs::write(files.dir.path().join("server.pem"), "broken").unwrap();
    broker.hang_up();
    broker.wait_for("the error", |broker| broker.stderr().contains("there is no certificate in"));
    Options::v5("meanwhile").connect_over(tls(&files.server).unwrap()).disconnect();

    let other = Authority::new("others");
    other.server("localhost").write(files.dir.path(), "server");
    broker.hang_up();
    broker.wait_for("the new certificate", |_| tls(&other).is_ok());
    assert!(tls(&files.server).is_err(), "nobody gets the old one any more");
    before.ping();
    let after = Options::v5("after").connect_over(tls(&other).unwrap());
    check(before, after);
}

#[test]
fn a_trusted_proxy_names_the_client_in_both_versions_in_front_of_every_transport() {
    let files = Files::new();
    let trusted = "proxy_protocol = true\nproxy_trusted = [\"127.0.0.0/8\"]\n";
    let broker = BrokerOptions::default()
        .set("gateway.limits.connect_timeout", "3s")
        .listener(trusted)
        .listener(format!("{trusted}protocol = \"ws\""))
        .listener(files.keys(trusted))
        .start();
    let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883\r\n".to_vec();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C".to_vec();
    v2.extend([192, 0, 2, 7, 192, 0, 2, 1, 0x9C, 0x40, 7, 0x5B]);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    for header in [v1, v2, local, b"PROXY UNKNOWN\r\n".to_vec()] {
        let open = |at: usize| -> TcpStream {
            let mut stream = transport::tcp(broker.listeners[at]).unwrap();
            for piece in header.chunks(7) {
                stream.write_all(piece).unwrap();
            }
            stream
        };
        let config = transport::tls_config(&files.server, None, &TlsOptions::default());
        let tls = transport::tls_with(config.into(), open(2), "localhost").unwrap();
        clients(open(0), WebSocket::open(open(1)));
        Options::v5("tls").connect_over(tls).disconnect();
    }
    // MQTT without a header is refused where one is required.
    let mut plain = transport::tcp(broker.listeners[0]).unwrap();
    plain.write_all(&[0x10, 12, 0, 4]).unwrap();
    assert_eq!(plain.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(broker.metric("ledgermq_mqtt_connections_failed_total{reason=\"proxy\"}"), 1.0);
}

#[test]
fn mistakes_in_a_listener_are_named_with_their_key_before_anything_starts() {
    let files = Files::new();
    let dir = files.dir.path();
    for (keys, expected) in [
        ("certificate = \"server.pem\"", "gateway.listener[0].key: is missing"),
        ("key = \"server.key\"", "gateway.listener[0].certificate: is missing"),
        (
            "certificate = \"server.pem\"\nkey = \"none.key\"",
            "gateway.listener[0].key: cannot read none.key",
        ),
        (
            "certificate = \"server.key\"\nkey = \"server.key\"",
            "gateway.listener[0].certificate: there is no certificate in server.key",
        ),
        (
            "certificate = \"ca.pem\"\nkey = \"server.key\"",
            "gateway.listener[0].key: it does not belong to the certificate in ca.pem",
        ),
        ("proxy_protocol = true", "gateway.listener[0].proxy_trusted: is empty"),
        ("proxy_trusted = [\"10.0.0.0/33\"]", "is no network"),
        ("protocl = \"ws\"", "did you mean gateway.listener.protocol?"),
    ] {
        let text = format!("[[gateway.listener]]\naddress = \"127.0.0.1:0\"\n{keys}\n");
        std::fs::write(dir.join("l.toml"), text).unwrap();
        for command in ["check-config", "serve"] {
            let (code, _, stderr) = run_to_end(dir, &[command, "--config", "l.toml"]);
            assert_eq!(code, 2, "{keys}: {stderr}");
            assert!(stderr.contains(expected), "{keys}: {stderr}");
        }
    }
    let good = "[[gateway.listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\n\
        key = \"server.key\"\nproxy_protocol = true\nproxy_trusted = [\"10.0.0.0/8\", \"::1\"]\n";
    std::fs::write(dir.join("l.toml"), good).unwrap();
    let (code, stdout, stderr) = run_to_end(dir, &["check-config", "--config", "l.toml"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("gateway.listener[0].certificate = \"server.pem\""), "{stdout}");
}
