//! Many persistent sessions: opened, subscribed, left behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use ledgermq_core::codec;
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Connect, Disconnect, Packet, ProtocolVersion, QoS, Subscribe, SubscriptionOptions,
};
use ledgermq_core::reason::ReasonCode;

use super::BenchError;

/// Connections open at a time.
const AT_ONCE: usize = 128;
const VERSION: ProtocolVersion = ProtocolVersion::V311;
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// Leaves `count` persistent sessions behind, each with one QoS 1 subscription of its own.
pub(crate) fn open_sessions(address: SocketAddr, count: usize) -> Result<(), BenchError> {
    let failed = |source| BenchError::Connection { address, source };
    for first in (0..count).step_by(AT_ONCE) {
        let mut streams = Vec::with_capacity(AT_ONCE);
        for number in first..count.min(first + AT_ONCE) {
            let mut stream = TcpStream::connect(address).map_err(failed)?;
            stream.write_all(&hello(number)?).map_err(failed)?;
            streams.push(stream);
        }
        let mut goodbye = Vec::new();
        encode(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)), &mut goodbye)?;
        for mut stream in streams {
            await_suback(&mut stream, address)?;
            stream.write_all(&goodbye).map_err(failed)?;
        }
    }
    Ok(())
}

fn hello(number: usize) -> Result<Vec<u8>, BenchError> {
    let mut bytes = Vec::new();
    let client_id = format!("bench-session-{number}");
    let connect = Connect::new(VERSION, &client_id, false);
    encode(&Packet::Connect(Box::new(connect)), &mut bytes)?;
    let filter = format!("bench/session/{number}");
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        subscription_identifier: None,
        user_properties: Vec::new(),
        filters: vec![(&filter, options)],
    };
    encode(&Packet::Subscribe(subscribe), &mut bytes)?;
    Ok(bytes)
}

fn await_suback(stream: &mut TcpStream, address: SocketAddr) -> Result<(), BenchError> {
    let failed = |source| BenchError::Connection { address, source };
    let mut input = Vec::new();
    let mut buffer = [0; 256];
    loop {
        let bytes = stream.read(&mut buffer).map_err(failed)?;
        if bytes == 0 {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        input.extend_from_slice(&buffer[..bytes]);
        let mut at = 0;
        while let Some((packet, length)) = codec::decode(&input[at..], VERSION, PACKET_BYTES_MAX)
            .map_err(|error| BenchError::Protocol(error.to_string()))?
        {
            if matches!(packet, Packet::SubAck(_)) {
                return Ok(());
            }
            at += length;
        }
        input.drain(..at);
    }
}

fn encode(packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), BenchError> {
    codec::encode(packet, VERSION, out).map_err(|error| BenchError::Protocol(error.to_string()))
}
