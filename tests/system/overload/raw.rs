//! MQTT 3.1.1 over bare sockets, cheap enough for thousands of connections and floods.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ledgermq_core::codec;
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Connect, Packet, ProtocolVersion, Publish, QoS, Subscribe, SubscriptionOptions,
};

use crate::support::client::message;
use crate::support::{DEADLINE, transport};

const V3: ProtocolVersion = ProtocolVersion::V311;

/// The bytes of one packet.
pub(super) fn bytes_of(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(packet, V3, &mut bytes).expect("tests build what can be encoded");
    bytes
}

/// The bytes of a PUBLISH; with QoS 1 its Packet Identifier is 1.
pub(super) fn publish(topic: &str, payload: &[u8], qos: QoS) -> Vec<u8> {
    let packet_id = (qos > QoS::AtMostOnce).then_some(PacketId::MIN);
    bytes_of(&Packet::Publish(Publish { packet_id, ..message(topic, payload, qos) }))
}

/// A connection whose CONNECT was accepted; a session is kept if it is `persistent`.
pub(super) fn connect(address: SocketAddr, client_id: &str, persistent: bool) -> TcpStream {
    let mut stream = transport::tcp(address).expect("the broker is there");
    let connect = Connect::new(V3, client_id, !persistent);
    stream.write_all(&bytes_of(&Packet::Connect(Box::new(connect)))).expect("CONNECT is sent");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("CONNACK comes");
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{client_id}: {connack:?}");
    stream
}

/// Subscribes to one filter and waits for its SUBACK.
pub(super) fn subscribe(stream: &mut TcpStream, filter: &str, qos: QoS) {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        subscription_identifier: None,
        user_properties: Vec::new(),
        filters: vec![(filter, options)],
    };
    stream.write_all(&bytes_of(&Packet::Subscribe(subscribe))).expect("SUBSCRIBE is sent");
    let mut suback = [0; 5];
    stream.read_exact(&mut suback).expect("SUBACK comes");
    assert_eq!((suback[0], suback[4]), (0x90, qos as u8), "{suback:?}");
}

/// So many subscribers that will never read what comes.
pub(super) fn never_read(
    address: SocketAddr,
    count: usize,
    filter: &str,
    qos: QoS,
    persistent: bool,
) -> Vec<TcpStream> {
    let one = |number| {
        let mut stream = connect(address, &format!("stuck-{number}"), persistent);
        subscribe(&mut stream, filter, qos);
        stream
    };
    (0..count).map(one).collect()
}

/// CPU time that a process used so far.
pub(super) fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("the name stands in parentheses");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// A poll that waits a little.
pub(super) const PATIENCE: Duration = DEADLINE;
