//! Whoever is not let in, and what it is told.

use rustls::StreamOwned;

use super::*;
use crate::cluster::frame::RefusalCode;
use crate::peers::tls::Tls;

/// Node 1 of a cluster of two, and where it is. Node 2 is nowhere.
fn one(has_tls: bool) -> (End, String) {
    let (listener, address) = listener();
    let security = if has_tls { tls(1) } else { Security::Plain };
    let mut one = End::start(1, 1, listener, security, ROOM);
    one.update(&members(&[address.clone(), super::listener().1]));
    (one, address)
}

#[test]
fn each_wrong_greeting_is_told_what_is_wrong() {
    let (mut one, address) = one(false);
    let refused = |change: fn(&mut Hello)| {
        let mut bare = Bare::dial(&address);
        let mut hello = hello(2, 2, 1, Lane::Log);
        change(&mut hello);
        bare.send(&Frame::Hello(Box::new(hello)));
        bare.refusal().code
    };
    assert_eq!(refused(|hello| hello.cluster = ClusterId([1; 16])), RefusalCode::Cluster);
    assert_eq!(refused(|hello| hello.generation = 2), RefusalCode::Generation);
    assert_eq!(refused(|hello| hello.node = 1), RefusalCode::Cloned);
    assert_eq!(refused(|hello| hello.node = 9), RefusalCode::Unknown);
    let _ = bare_node(&address, 2, 2);
    one.connected(2);
}

/// It may go before all lanes are up: whom it takes for one of before it does not let speak.
#[test]
fn that_somebody_knows_of_newer_members_is_heard_at_its_first_greeting() {
    let (mut one, address) = one(false);
    let greet = |(lane, members_index)| {
        let mut bare = Bare::dial(&address);
        let hello = Hello { members_index, ..hello(2, 2, 1, lane) };
        bare.send(&Frame::Hello(Box::new(hello)));
        assert!(matches!(bare.read(), Some(Frame::Hello(_))));
        bare
    };
    let _lanes = [(Lane::Log, 2), (Lane::Pulse, 10)].map(greet);
    let members = one.wait("the greeting", |input| match input {
        PeerInput::Greeted { peer: 2, members } => Some(members),
        _ => None,
    });
    assert_eq!(members, 10);
}

#[test]
fn a_second_process_as_a_live_node_is_told_so() {
    let (mut one, address) = one(false);
    let _lanes = bare_node(&address, 2, 2);
    one.connected(2);
    let mut clone = Bare::dial(&address);
    clone.send(&Frame::Hello(Box::new(hello(2, 3, 1, Lane::Log))));
    assert_eq!(clone.refusal().code, RefusalCode::Cloned);
    assert_eq!(one.send(2, &heartbeat(1, 2, 1)), Sent::Taken, "the first one stays");
}

#[test]
fn garbage_is_answered_and_the_connection_closed() {
    let (mut one, address) = one(false);
    let sent = |bytes: &[u8]| {
        let mut bare = Bare::dial(&address);
        bare.socket.write_all(bytes).unwrap();
        bare.refusal()
    };
    assert_eq!(sent(&[0xFF; 64]).code, RefusalCode::Malformed);
    assert!(sent(b"GET / HTTP/1.1\r\n\r\n").text.contains("where 16384 are the most"));
    assert!(sent(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]).text.contains("TLS"));
    let mut bytes = Vec::new();
    Frame::Hello(Box::new(hello(2, 2, 1, Lane::Log))).encode(&mut bytes).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(sent(&bytes).text.contains("checksum"));
    let protocol = {
        let mut body = bytes[8..].to_vec();
        body[last - 8] ^= 1;
        body[4] = 9;
        let sum = crc32c::crc32c(&body).to_le_bytes();
        [&bytes[..4], &sum, &body].concat()
    };
    assert_eq!(sent(&protocol).code, RefusalCode::Protocol);
    let _ = bare_node(&address, 2, 2);
    one.connected(2);
}

#[test]
fn garbage_amid_a_session_ends_it() {
    let (mut one, address) = one(false);
    let mut lanes = bare_node(&address, 2, 2);
    one.connected(2);
    // In the name of another node.
    lanes[1].send(&heartbeat(3, 1, 1));
    one.disconnected(2);
    assert_eq!(lanes[1].refusal().code, RefusalCode::Malformed);
    assert_eq!(lanes[0].read(), None);
}

#[test]
fn half_a_frame_holds_nobody_up_and_is_not_waited_for() {
    let (mut one, address) = one(false);
    let mut half = Bare::dial(&address);
    let mut bytes = Vec::new();
    Frame::Hello(Box::new(hello(2, 2, 1, Lane::Log))).encode(&mut bytes).unwrap();
    half.socket.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let _lanes = bare_node(&address, 2, 2);
    one.connected(2);
    assert_eq!(half.read(), None, "it is closed after a while");
}

#[test]
fn a_crowd_of_strangers_does_not_keep_members_out_for_long() {
    let (mut one, address) = one(false);
    let crowd: Vec<_> = (0..100).map(|_| Bare::dial(&address)).collect();
    let closed = crowd.into_iter().map(|mut bare| bare.read()).filter(Option::is_none).count();
    assert_eq!(closed, 100);
    let _lanes = bare_node(&address, 2, 2);
    one.connected(2);
}

/// A connection that comes from `from`.
fn dial_from(from: [u8; 4], address: &str) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &std::net::SocketAddr::from((from, 0))).unwrap();
    connect(&socket, &address.parse::<std::net::SocketAddr>().unwrap()).unwrap();
    socket.into()
}

#[test]
fn a_crowd_that_stays_keeps_no_member_out() {
    let (mut one, address) = one(false);
    // From one address, from many, and from that of the members itself.
    let of_one: Vec<_> = (0..100).map(|_| dial_from([127, 0, 0, 2], &address)).collect();
    let of_many: Vec<_> = (3..103).map(|last| dial_from([127, 0, 0, last], &address)).collect();
    let of_own: Vec<_> = (0..100).map(|_| Bare::dial(&address)).collect();
    let _lanes = bare_node(&address, 2, 2);
    one.connected(2);
    assert_eq!(of_one.len() + of_many.len() + of_own.len(), 300);
}

/// What a greeting over TLS with these credentials is answered; none if it is cut off.
fn greet(address: &str, credentials: Option<&Credentials>, node: u64) -> Option<Frame> {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let connection = match credentials {
        Some(credentials) => Tls::new(CLUSTER, credentials).unwrap().dial(1).unwrap(),
        None => {
            let authority = crate::cluster::authority::fingerprint(authority().certificate());
            let config = Arc::new(tls::joining(CLUSTER, authority).unwrap());
            let name = "ledgermq".try_into().unwrap();
            rustls::ClientConnection::new(config, name).unwrap().into()
        }
    };
    let rustls::Connection::Client(connection) = connection else { unreachable!("a client") };
    let mut stream = StreamOwned::new(connection, socket);
    let mut bytes = Vec::new();
    Frame::Hello(Box::new(hello(node, 2, 1, Lane::Log))).encode(&mut bytes).unwrap();
    stream.write_all(&bytes).ok()?;
    let mut decoder = Decoder::new(None);
    read(&mut stream, &mut decoder)
}

fn code(frame: Option<Frame>) -> Option<RefusalCode> {
    match frame {
        Some(Frame::Refusal(refusal)) => Some(refusal.code),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

#[test]
fn only_the_clusters_own_certificate_of_the_node_lets_in() {
    let (_one, address) = one(true);
    let own = credentials(authority(), 2);
    assert!(matches!(greet(&address, Some(&own), 2), Some(Frame::Hello(_))));
    let other = credentials(authority(), 3);
    assert_eq!(code(greet(&address, Some(&other), 2)), Some(RefusalCode::Certificate));
    assert_eq!(code(greet(&address, None, 2)), Some(RefusalCode::Certificate));
    // Issued with the authority's key, which a node that was removed still has, to another key.
    let itself = credentials_of(authority(), 2, &NodeKey::generate().unwrap());
    assert_eq!(code(greet(&address, Some(&itself), 2)), Some(RefusalCode::Certificate));
    // Issued by somebody else who calls it the same cluster.
    let stranger = Authority::found(CLUSTER).unwrap();
    let foreign = credentials(&stranger, 2);
    let mixed = Credentials { authority: own.authority.clone(), ..foreign.clone() };
    assert_eq!(greet(&address, Some(&mixed), 2), None, "the node does not believe it");
    assert_eq!(greet(&address, Some(&foreign), 2), None, "nor does it believe the node");
}

#[test]
fn in_the_clear_nobody_is_heard_where_tls_is_spoken() {
    let (mut one, address) = one(true);
    let mut bare = Bare::dial(&address);
    bare.send(&Frame::Hello(Box::new(hello(2, 2, 1, Lane::Log))));
    let mut answer = Vec::new();
    let _ = bare.socket.read_to_end(&mut answer);
    // At most an alert of TLS: type, version, length.
    assert!(answer.is_empty() || answer.starts_with(&[0x15, 3]), "{answer:?}");
    assert_eq!(one.send(2, &heartbeat(1, 2, 1)), Sent::Down);
    assert_eq!(one.come.try_iter().collect::<Vec<_>>(), []);
}
