//! Attacks on what lies below MQTT, all without authentication: numbers 15 to 24.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ledgermq_core::codec;
use ledgermq_core::packet::{Connect, Packet, ProtocolVersion, QoS};
use rcgen::{DistinguishedName, DnType, date_time_ymd};
use rustls::HandshakeKind;

use crate::support::DEADLINE;
use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::certificates::{Authority, Issued, named};
use crate::support::client::Options;
use crate::support::transport::{self, TlsOptions};
use crate::support::web_socket::{REQUEST, WebSocket, frame};

/// The broker serves others as before.
pub(super) fn check_alive(broker: &Broker) {
    let mut client = Options::v5("bystander").connect(broker.mqtt);
    client.subscribe("alive", QoS::AtLeastOnce);
    client.publish("alive", "yes", QoS::AtLeastOnce);
    assert_eq!(client.message().payload, b"yes");
    client.disconnect();
}

fn failed(broker: &Broker, reason: &str) -> f64 {
    broker.metric(&format!("ledgermq_mqtt_connections_failed_total{{reason=\"{reason}\"}}"))
}

/// The bytes of a CONNECT.
fn connect(client_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let connect = Connect::new(ProtocolVersion::V5, client_id, true);
    codec::encode(&Packet::Connect(Box::new(connect)), ProtocolVersion::V5, &mut bytes).unwrap();
    bytes
}

/// Reads to the end of the stream, or until it is reset.
fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("not closed: {error}"),
        }
    }
}

/// `[MQTT-6.0.0-1]`
#[test]
fn attack_15_a_websocket_that_breaks_the_rules_is_closed_with_the_code_for_it() {
    let broker = BrokerOptions::default().listener("protocol = \"ws\"").start();
    let mut unmasked = frame(0x82, b"x");
    unmasked[1] &= 0x7F;
    // What the head of a frame says; its payload never comes.
    let huge = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    let cases = [
        ("text", frame(0x81, b"x"), 1003),
        ("unmasked", unmasked, 1002),
        ("reserved bit: a compressed bomb", frame(0xC2, &[0; 100]), 1002),
        ("fragmented control frame", frame(0x09, b"x"), 1002),
        ("control frame of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
        ("huge", huge.to_vec(), 1009),
    ];
    for address in [broker.listeners[0], broker.http] {
        for (name, bytes, code) in &cases {
            let mut socket = WebSocket::open(transport::tcp(address).unwrap());
            socket.send_raw(bytes);
            assert_eq!(socket.wait_closed(), Some(*code), "{name} at {address}");
        }
        let without = REQUEST.replace("Sec-WebSocket-Protocol: mqtt\r\n", "");
        let (mut socket, head) = WebSocket::ask(transport::tcp(address).unwrap(), &without);
        assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("must offer mqtt"), "{head}");
        if address != broker.http {
            assert_eq!(socket.wait_closed(), None);
        }
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        let asking = REQUEST.replace("Host:", &format!("{deflate}Host:"));
        let (_, head) = WebSocket::ask(transport::tcp(address).unwrap(), &asking);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(!head.to_ascii_lowercase().contains("extensions"), "never agreed on: {head}");
    }
    assert_eq!(failed(&broker, "websocket"), 15.0);
    let mut socket = WebSocket::open(transport::tcp(broker.listeners[0]).unwrap());
    socket.send_raw(&[frame(0x89, b"?"), frame(0x88, b"")].concat());
    assert_eq!(socket.wait_closed(), Some(0), "a ping before the end is no way to stop a worker");
    check_alive(&broker);
}

/// `[MQTT-6.0.0-2]`
#[test]
fn attack_16_packets_split_over_frames_and_packed_into_one_are_the_same() {
    let broker = BrokerOptions::default().listener("protocol = \"ws\"").start();
    for address in [broker.listeners[0], broker.http] {
        let mut bytes = connect("client");
        // Two PINGREQ, and the beginning of a PUBLISH.
        bytes.extend([0xC0, 0, 0xC0, 0, 0x30, 5]);
        let split = WebSocket::open(transport::tcp(address).unwrap());
        let packed = WebSocket::open(transport::tcp(address).unwrap());
        let mut split_frames: Vec<u8> =
            bytes.iter().flat_map(|byte| frame(0x82, &[*byte])).collect();
        // Within a fragmented message, with a ping between its frames.
        split_frames.extend([frame(0x02, &[0, 1]), frame(0x89, b""), frame(0x80, b"t")].concat());
        bytes.extend([0, 1, b't']);
        let mut packed_frame = frame(0x82, &[&bytes[..], &[0, b'x'], &[0xC0, 0]].concat());
        split_frames.extend(frame(0x82, &[0, b'x', 0xC0, 0]));
        for (mut socket, frames) in [(split, &mut split_frames), (packed, &mut packed_frame)] {
            socket.send_raw(frames);
            let mut answer = [0; 3];
            socket.read_exact(&mut answer[..2]).unwrap();
            assert_eq!(answer[0], 0x20, "CONNACK");
            let mut rest = vec![0; usize::from(answer[1])];
            socket.read_exact(&mut rest).unwrap();
            let mut pings = [0; 6];
            socket.read_exact(&mut pings).unwrap();
            assert_eq!(pings, [0xD0, 0, 0xD0, 0, 0xD0, 0]);
        }
    }
    check_alive(&broker);
}

#[test]
fn attack_17_the_path_of_the_http_port_is_not_there_if_mqtt_is_off() {
    let broker = BrokerOptions::default().set("api.mqtt", false).start();
    assert_eq!(broker.get("/mqtt").0, 404);
    let (_, head) = WebSocket::ask(transport::tcp(broker.http).unwrap(), REQUEST);
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(broker.get("/readyz").0, 200);
    check_alive(&broker);
}

#[test]
fn attack_18_a_forged_or_damaged_proxy_header_gets_nowhere() {
    let elsewhere = "proxy_protocol = true\nproxy_trusted = [\"192.0.2.0/24\"]";
    let here = "proxy_protocol = true\nproxy_trusted = [\"127.0.0.1\"]";
    let broker = BrokerOptions::default()
        .set("gateway.limits.connect_timeout", "1s")
        .listener(elsewhere)
        .listener(here)
        .start();
    let v1 = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1883\r\n".to_vec();
    let v2 = |length: u16, body: &[u8]| {
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length.to_be_bytes()[..], body].concat()
    };
    let addresses = [127, 0, 0, 1, 127, 0, 0, 1, 0, 1, 7, 0x5B];
    let with_field = |length: u16| [&addresses[..], &[4], &length.to_be_bytes(), &[0; 8]].concat();
    let ask = |address: SocketAddr, header: &[u8]| {
        let mut stream = transport::tcp(address).unwrap();
        let _ = stream.write_all(&[header, &connect("forged")].concat());
        read_to_end(&mut stream)
    };
    // From an address that is not trusted: closed, whatever comes.
    for header in [v1.clone(), v2(12, &addresses), Vec::new()] {
        assert!(ask(broker.listeners[0], &header).is_empty());
    }
    assert_eq!(failed(&broker, "untrusted"), 3.0);
    // From a trusted one: damaged.
    let bad = [
        v2(23, &with_field(9)),
        v2(23, &with_field(0xFFFF)),
        v2(0xFFFF, &with_field(8)),
        v2(11, &addresses[..11]),
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 188888\r\n".to_vec(),
        [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
    ];
    for header in &bad {
        let shown = header.escape_ascii().to_string();
        assert!(ask(broker.listeners[1], header).is_empty(), "{shown}");
    }
    assert_eq!(failed(&broker, "proxy"), 6.0);
    // Cut off: given up after the time for CONNECT.
    for header in [&v1[..20], &v2(12, &addresses)[..20]] {
        let mut stream = transport::tcp(broker.listeners[1]).unwrap();
        stream.write_all(header).unwrap();
        assert!(read_to_end(&mut stream).is_empty());
    }
    // A listener without proxies takes a header for what it is: no CONNECT.
    let mut stream = transport::tcp(broker.mqtt).unwrap();
    stream.write_all(&v1).unwrap();
    assert!(read_to_end(&mut stream).is_empty());
    check_alive(&broker);
}

/// A broker with TLS listeners: no certificates of clients, required ones, and its files.
struct TlsWorld {
    broker: Broker,
    server: Authority,
    clients: Authority,
    _dir: tempfile::TempDir,
}

impl TlsWorld {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, clients) = (Authority::new("servers"), Authority::new("clients"));
        server.server("localhost").write(dir.path(), "server");
        std::fs::write(dir.path().join("ca.pem"), clients.pem()).unwrap();
        std::fs::write(dir.path().join("crl.pem"), clients.revocation_list(&[666])).unwrap();
        let path = dir.path().display();
        let keys = format!("certificate = \"{path}/server.pem\"\nkey = \"{path}/server.key\"\n");
        let strict = format!(
            "{keys}client_certificate = \"required\"\nclient_ca = \"{path}/ca.pem\"\n\
             client_crl = \"{path}/crl.pem\"\n"
        );
        let broker = BrokerOptions::default()
            .set("gateway.limits.connect_timeout", "3s")
            .listener(keys)
            .listener(strict)
            .start();
        Self { broker, server, clients, _dir: dir }
    }

    /// Whether a client with that certificate gets through to CONNACK.
    fn is_let_in(&self, issued: &Issued) -> bool {
        let options = TlsOptions::default();
        let tls = transport::tls(self.broker.listeners[1], &self.server, Some(issued), &options);
        tls.is_ok_and(|tls| Options::v5("client").try_connect_over(Box::new(tls)).is_ok())
    }
}

#[test]
fn attack_19_client_certificates_that_prove_nothing_are_refused() {
    let world = TlsWorld::new();
    let mut expired = named("device");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut future = named("device");
    future.not_before = date_time_ymd(2100, 1, 1);
    let mut revoked = named("device");
    revoked.serial_number = Some(666.into());
    let mut twice = named("device");
    twice.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "admin");
    let mut nameless = named("");
    nameless.distinguished_name = DistinguishedName::new();
    nameless.distinguished_name.push(DnType::OrganizationName, "CN=admin");
    let bad = [
        ("expired", expired),
        ("not valid yet", future),
        ("revoked", revoked),
        ("with NUL in its name", named("admin\0.example.org")),
        ("with two names", twice),
        ("without a name", nameless),
    ];
    for (name, params) in bad {
        assert!(!world.is_let_in(&world.clients.issue(params)), "{name}");
    }
    let namesake = Authority::new("clients");
    assert!(!world.is_let_in(&namesake.client("device")), "of an unknown authority");
    assert!(!world.is_let_in(&world.server.client("device")), "of the server's authority");
    assert!(!world.is_let_in(&world.clients.server("device")), "for servers");
    let mut reversed = named("");
    reversed.distinguished_name = DistinguishedName::new();
    reversed.distinguished_name.push(DnType::CommonName, "device");
    reversed.distinguished_name.push(DnType::OrganizationName, "a company");
    let good = [("order of the subject", reversed), ("wildcards", named("*.#+/%u"))];
    for (name, params) in good {
        assert!(world.is_let_in(&world.clients.issue(params)), "{name}");
    }
    check_alive(&world.broker);
}

#[test]
fn attack_19_no_early_data_is_taken_and_no_host_name_is_needed() {
    let world = TlsWorld::new();
    let address = world.broker.listeners[0];
    let options = TlsOptions { sni: false, ..TlsOptions::default() };
    let tls = transport::tls(address, &world.server, None, &options).unwrap();
    Options::v5("without-sni").connect_over(tls).disconnect();

    let mut config = transport::tls_config(&world.server, None, &TlsOptions::default());
    config.enable_early_data = true;
    let config = Arc::new(config);
    let connect = || {
        let tcp = transport::tcp(address).unwrap();
        transport::tls_with(Arc::clone(&config), tcp, "localhost").unwrap()
    };
    // The ticket comes with what is read first.
    Options::v5("first").connect_over(connect()).disconnect();
    let mut second = connect();
    assert_eq!(second.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(second.conn.early_data().is_none() && !second.conn.is_early_data_accepted());
    Options::v5("second").connect_over(second).disconnect();
}

#[test]
#[ignore = "part attacks of ./test.sh"]
fn attack_19_renegotiation_is_refused() {
    let world = TlsWorld::new();
    let address = world.broker.listeners[0].to_string();
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-tls1_2", "-quiet", "-no_ign_eof"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    openssl.stdin.as_mut().unwrap().write_all(b"R\n").unwrap();
    let output = openssl.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("RENEGOTIATING") && text.contains("no renegotiation"), "{text}");
    check_alive(&world.broker);
}

#[test]
fn attack_20_plain_mqtt_on_a_tls_port_and_tls_on_a_plain_one_end_at_once() {
    let world = TlsWorld::new();
    for address in &world.broker.listeners {
        let mut stream = transport::tcp(*address).unwrap();
        stream.write_all(&connect("plain")).unwrap();
        let answer = read_to_end(&mut stream);
        assert!(answer.is_empty() || answer[0] == 21, "an alert, not MQTT: {answer:?}");
    }
    assert_eq!(failed(&world.broker, "tls"), 2.0);
    let started = Instant::now();
    for address in [world.broker.mqtt, world.broker.http] {
        let tls = transport::tls(address, &world.server, None, &TlsOptions::default());
        assert!(tls.is_err());
    }
    assert!(started.elapsed() < Duration::from_secs(2), "not only after a time limit");
    check_alive(&world.broker);
}

#[test]
fn attack_21_ambiguous_and_over_long_requests_do_not_get_through_http() {
    let broker = BrokerOptions::default().listener("protocol = \"ws\"").start();
    let ask = |request: String| {
        let mut stream = transport::tcp(broker.http).unwrap();
        let _ = stream.write_all(request.as_bytes());
        String::from_utf8_lossy(&read_to_end(&mut stream)).into_owned()
    };
    let hidden = "GET /metrics HTTP/1.1\r\nHost: hidden\r\n\r\n";
    for fields in [
        format!("Content-Length: 0\r\nContent-Length: {}\r\n", hidden.len()),
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length : 0\r\n".to_owned(),
        " folded: 1\r\n".to_owned(),
    ] {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        let answer = ask(format!("{head}0\r\n\r\n{hidden}"));
        assert!(!answer.contains("ledgermq_"), "{fields:?} let a hidden request through: {answer}");
    }
    let long = "x".repeat(1 << 20);
    let many: String = (0..1_000).map(|n| format!("H{n}: x\r\n")).collect();
    for request in [
        format!("GET /{long} HTTP/1.1\r\nHost: test\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\nHost: test\r\nLong: {long}\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\nHost: test\r\n{many}\r\n"),
    ] {
        let answer = ask(request);
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{}", &answer[..answer.len().min(200)]);
    }
    // The same at a WebSocket listener.
    let long = REQUEST.replace("Host:", &format!("Long: {}\r\nHost:", "x".repeat(4_000)));
    let (_, head) = WebSocket::ask(transport::tcp(broker.listeners[0]).unwrap(), &long);
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    assert_eq!(broker.get("/healthz").0, 200);
    check_alive(&broker);
}

/// Opens `count` connections that have sent `bytes` each.
fn open_many(address: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(address).expect("enough file descriptors");
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(bytes);
        stream
    };
    (0..count).map(open).collect()
}

/// Bytes that the broker needs more for each connection of `open`, which raises the number of
/// connections from the start of `counts` to its end.
fn cost_of_each<T>(
    broker: &mut Broker,
    counts: Range<usize>,
    open: impl FnOnce(&Broker) -> T,
) -> (u64, T) {
    check_alive(broker);
    let before = broker.memory();
    let held = open(broker);
    broker.wait_for("all connections", |broker| {
        broker.metric("ledgermq_mqtt_connections") >= counts.end as f64
    });
    // What was sent is read once a later client is served.
    check_alive(broker);
    let cost = broker.memory().saturating_sub(before) / counts.len() as u64;
    println!("{cost} bytes each");
    (cost, held)
}

/// All connections are closed by the broker before `end`.
fn check_all_closed(streams: Vec<TcpStream>, end: Instant) {
    for mut stream in streams {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).unwrap();
        let mut chunk = [0; 64];
        match stream.read(&mut chunk) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("not closed in time: {other:?}"),
        }
    }
}

#[test]
fn attack_22_ten_thousand_half_open_connections_cost_little_and_nobody_else_waits() {
    // Time to open them all and to look at them, on a slow machine too.
    let mut broker = BrokerOptions::default().set("gateway.limits.connect_timeout", "20s").start();
    let started = Instant::now();
    // The head of a CONNECT and no more.
    let part = &connect("half-open")[..8];
    let (cost, streams) =
        cost_of_each(&mut broker, 0..10_000, |broker| open_many(broker.mqtt, 10_000, part));
    assert!(cost <= 4_096, "{cost} bytes each");
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let began = Instant::now();
        Options::v5("client").connect(broker.mqtt).disconnect();
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    check_all_closed(streams, Instant::now() + Duration::from_secs(25));
    println!("all closed after {:?}", started.elapsed());
    check_alive(&broker);
}

#[test]
fn attack_22_half_open_handshakes_below_mqtt_are_bounded_too() {
    let files = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    authority.server("localhost").write(files.path(), "server");
    let path = files.path().display();
    let tls = format!("certificate = \"{path}/server.pem\"\nkey = \"{path}/server.key\"\n");
    let proxy = "proxy_protocol = true\nproxy_trusted = [\"127.0.0.1\"]\n";
    let request = [REQUEST.trim_end().as_bytes(), b"\r\nCookie: ", &[b'x'; 2_700]].concat();
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0B\0"[..], &[0; 2_800]].concat();
    // A ClientHello that says it has 16,000 bytes and does not come whole.
    let hello = [&[22, 3, 1, 0x3E, 0x80, 1, 0, 0x3E, 0x7C, 3, 3][..], &[0; 500]].concat();
    for (keys, bytes, bound) in
        [("protocol = \"ws\"", request, 4_096), (proxy, header, 4_096), (&tls, hello, 16_384)]
    {
        // A broker each: what another freed would be used first. A thousand come before those that are
        // counted, for what any traffic fills once is not the cost of a connection.
        let options = BrokerOptions::default().set("gateway.limits.connect_timeout", "20s");
        let mut broker = options.listener(keys).start();
        let address = broker.listeners[0];
        let (_, first) = cost_of_each(&mut broker, 0..1_000, |_| open_many(address, 1_000, &bytes));
        let (cost, streams) =
            cost_of_each(&mut broker, 1_000..5_000, |_| open_many(address, 4_000, &bytes));
        assert!(cost <= bound, "{cost} bytes each: {keys}");
        drop((first, streams));
        broker.wait_for("the end of all", |b| b.metric("ledgermq_mqtt_connections") == 0.0);
    }
}

#[test]
fn attack_23_a_connect_that_dribbles_is_given_up_in_time_on_every_transport() {
    let broker = BrokerOptions::default()
        .set("gateway.limits.connect_timeout", "2s")
        .listener("protocol = \"ws\"")
        .start();
    let started = Instant::now();
    let bytes = connect(&"x".repeat(200));
    let mut streams = open_many(broker.mqtt, 200, &bytes[..1]);
    let masked: Vec<u8> = bytes.iter().flat_map(|byte| frame(0x82, &[*byte])).collect();
    streams.extend(open_many(broker.listeners[0], 200, &REQUEST.as_bytes()[..1]));
    let sockets: Vec<_> =
        (0..100).map(|_| WebSocket::open(transport::tcp(broker.listeners[0]).unwrap())).collect();
    let mut at = 1;
    let mut sockets: Vec<Option<WebSocket>> = sockets.into_iter().map(Some).collect();
    while started.elapsed() < Duration::from_secs(6) {
        thread::sleep(Duration::from_millis(100));
        for (number, stream) in streams.iter_mut().enumerate() {
            let bytes = if number < 200 { &bytes[..] } else { REQUEST.as_bytes() };
            // After the end of the connection it fails.
            let _ = stream.write_all(&bytes[at..at + 1]);
        }
        for socket in sockets.iter_mut().flatten() {
            let _ = socket.write_raw(&masked[7 * at..7 * at + 7]);
        }
        at += 1;
    }
    check_all_closed(streams, Instant::now() + Duration::from_secs(1));
    for socket in &mut sockets {
        socket.take().unwrap().wait_closed();
    }
    check_alive(&broker);
}

#[test]
fn attack_24_many_long_connects_that_do_not_come_whole_share_one_bound() {
    let mut broker = Broker::run();
    check_alive(&broker);
    let before = broker.memory();
    // The head of a CONNECT of 1 MiB, and 512 KiB of its will.
    let mut part = vec![0x10, 0x80, 0x80, 0x3F, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x06, 0, 0, 0, 1];
    part.extend([b'c', 0, 1, b't', 0xFF, 0xFF]);
    part.resize(512 << 10, b'x');
    let streams = open_many(broker.mqtt, 200, &part);
    broker.wait_for("those given up", |broker| {
        broker.metric("ledgermq_mqtt_connects_given_up_total") >= 150.0
    });
    let grown = broker.memory().saturating_sub(before);
    println!("{} KiB more", grown >> 10);
    assert!(grown < 64 << 20, "{grown} bytes");
    // Those with a usual CONNECT are not concerned.
    check_alive(&broker);
    drop(streams);
    broker.wait_for("the end of all", |b| b.metric("ledgermq_mqtt_connections") == 0.0);
    let will = vec![b'w'; 60_000];
    let long = Options::v311("long").will("t", &will, QoS::AtLeastOnce);
    long.connect(broker.mqtt).disconnect();
}
