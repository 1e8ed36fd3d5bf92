//! Packets to bytes and back.
//!
//! Watches "read + decode: at most 0.3 us a message", of which decoding is a part, "deliver: encode
//! into the connection's write buffer, at most 0.5 us" and "ack: at most 0.1 us".

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ledgermq_core::codec::{self, PACKET_BYTES_MAX};
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{Ack, Packet, ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::messages::publish;

/// Packets in one run.
const RUN: u16 = 100;
const VERSIONS: [(ProtocolVersion, &str); 2] =
    [(ProtocolVersion::V311, "3.1.1"), (ProtocolVersion::V5, "5")];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// All of this subject.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(u64::from(RUN)));
    for (version, name) in VERSIONS {
        for qos in QOS {
            let number = qos as u8;
            let bytes = run(version, |id| Packet::Publish(publish(qos, id)));
            group.bench_function(format!("decode/publish/{name}/qos {number}"), |bencher| {
                bencher.iter(|| decode_all(black_box(&bytes), version));
            });
            let mut out = Vec::new();
            group.bench_function(format!("encode/publish/{name}/qos {number}"), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    for id in 1..=RUN {
                        codec::encode_publish(black_box(&publish(qos, id)), version, &mut out)
                            .unwrap();
                    }
                    out.len()
                });
            });
        }
        let bytes = run(version, puback);
        group.bench_function(format!("decode/puback/{name}"), |bencher| {
            bencher.iter(|| decode_all(black_box(&bytes), version));
        });
        let mut out = Vec::new();
        group.bench_function(format!("encode/puback/{name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                for id in 1..=RUN {
                    codec::encode(black_box(&puback(id)), version, &mut out).unwrap();
                }
                out.len()
            });
        });
    }
    group.finish();
}

fn puback(id: u16) -> Packet<'static> {
    let id = PacketId::new(id).unwrap();
    Packet::PubAck(Ack::new(id, ReasonCode::Success))
}

/// The bytes of a run of packets, as one read brings them.
fn run(version: ProtocolVersion, packet: impl Fn(u16) -> Packet<'static>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 1..=RUN {
        codec::encode(&packet(id), version, &mut bytes).unwrap();
    }
    bytes
}

/// Decodes all packets of `bytes`, and says how many there are.
fn decode_all(bytes: &[u8], version: ProtocolVersion) -> usize {
    let (mut at, mut packets) = (0, 0);
    while let Some((packet, length)) =
        codec::decode(&bytes[at..], version, PACKET_BYTES_MAX).unwrap()
    {
        black_box(&packet);
        at += length;
        packets += 1;
    }
    packets
}
