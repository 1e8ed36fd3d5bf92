//! The codec against two others: `rmqtt-codec` and `mqtt-protocol-core`.
//!
//! An oracle decodes bytes and encodes what it understood. Of our bytes that must mean the same
//! packet when we decode it again: so they decode what we encode, and we decode what they encode.
//! Of damaged bytes, both must agree whether they are a packet, but for the differences that each
//! oracle's file lists with their reasons.

mod protocol_core;
mod rmqtt;

use std::panic::{self, AssertUnwindSafe};

use ledgermq_core::codec::{DecodeError, ForwardedProperty, PACKET_BYTES_MAX, decode, encode};
use ledgermq_core::packet::{ForwardedProperties, Packet, ProtocolVersion};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::generate;

/// Another implementation of the protocol.
pub(super) struct Oracle {
    /// Decodes one packet and encodes it again; why not, if it refuses the bytes.
    recode: fn(ProtocolVersion, &[u8]) -> Result<Vec<u8>, String>,
    /// Brings a packet to what the oracle can carry.
    reduce: fn(&mut Packet<'_>),
    /// Whether it is known why we refuse what the oracle takes; also says the first byte.
    we_refuse: fn(&DecodeError, u8) -> bool,
    /// Whether it is known why the oracle refuses what we take.
    it_refuses: fn(&Packet<'_>, &str) -> bool,
}

impl Oracle {
    /// A panic is a refusal, too.
    fn recode(&self, version: ProtocolVersion, bytes: &[u8]) -> Result<Vec<u8>, String> {
        panic::catch_unwind(AssertUnwindSafe(|| (self.recode)(version, bytes)))
            .unwrap_or_else(|_| Err("panic".into()))
    }

    fn understands(
        &self,
        version: ProtocolVersion,
        packet: &Packet<'_>,
    ) -> Result<(), TestCaseError> {
        let mut expected = packet.clone();
        (self.reduce)(&mut expected);
        normalise(&mut expected);
        let mut bytes = Vec::new();
        encode(&expected, version, &mut bytes).unwrap();
        let again = self.recode(version, &bytes);
        let again = again.map_err(|error| TestCaseError::fail(format!("{error}: {bytes:02x?}")))?;
        let (mut understood, length) = decode(&again, version, PACKET_BYTES_MAX)
            .map_err(|error| TestCaseError::fail(format!("{error}: {again:02x?}")))?
            .expect("a whole packet");
        prop_assert_eq!(length, again.len());
        (self.reduce)(&mut understood);
        normalise(&mut understood);
        prop_assert_eq!(understood, expected);
        Ok(())
    }

    fn agrees(&self, version: ProtocolVersion, bytes: &[u8]) -> Result<(), TestCaseError> {
        let (ours, bytes) = match decode(bytes, version, PACKET_BYTES_MAX) {
            Ok(None) => return Ok(()),
            Ok(Some((packet, length))) => (Ok(packet), &bytes[..length]),
            Err(error) => (Err(error), bytes),
        };
        let theirs = self.recode(version, bytes);
        match (ours, theirs) {
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
            (Ok(packet), Err(error)) => {
                let is_known = (self.it_refuses)(&packet, &error);
                prop_assert!(is_known, "it refuses ({error}) {packet:?} {bytes:02x?}");
            }
            (Err(error), Ok(again)) => {
                let is_known = (self.we_refuse)(&error, bytes[0]);
                prop_assert!(is_known, "we refuse ({error}) {bytes:02x?}, it says {again:02x?}");
            }
        }
        Ok(())
    }
}

/// The order of different properties means nothing: sorts them.
fn normalise(packet: &mut Packet<'_>) {
    match packet {
        Packet::Publish(publish) => sort(&mut publish.forwarded),
        Packet::Connect(connect) => {
            if let Some(will) = &mut connect.will {
                sort(&mut will.forwarded);
            }
        }
        _ => {}
    }
}

fn sort(properties: &mut ForwardedProperties<'_>) {
    let mut sorted: Vec<_> = properties.iter().collect();
    sorted.sort_by_key(|property| match property {
        ForwardedProperty::PayloadFormatIndicator(_) => 0,
        ForwardedProperty::ContentType(_) => 1,
        ForwardedProperty::ResponseTopic(_) => 2,
        ForwardedProperty::CorrelationData(_) => 3,
        ForwardedProperty::UserProperty(..) => 4,
    });
    let sorted = ForwardedProperties::new(sorted).unwrap();
    *properties = sorted;
}

fn bytes_of(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).unwrap();
    bytes
}

/// The same damage in each run: a further difference of an oracle is no reason to fail a build.
/// `PROPTEST_RNG_SEED` and `PROPTEST_CASES` look further.
fn same_each_time() -> ProptestConfig {
    let config = ProptestConfig::default();
    let config = ProptestConfig { cases: config.cases.max(4096), ..config };
    match config.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(1), ..config },
        RngSeed::Fixed(_) => config,
    }
}

proptest! {
    #![proptest_config(same_each_time())]

    #[test]
    fn rmqtt_understands_our_packets((version, packet) in generate::versioned()) {
        rmqtt::ORACLE.understands(version, &packet)?;
    }

    #[test]
    fn rmqtt_agrees_on_damaged_packets(
        (version, packet) in generate::versioned(),
        changes in generate::mutation(),
    ) {
        let bytes = generate::mutated(&bytes_of(&packet, version), &changes);
        rmqtt::ORACLE.agrees(version, &bytes)?;
    }

    #[test]
    fn protocol_core_understands_our_packets((version, packet) in generate::versioned()) {
        protocol_core::ORACLE.understands(version, &packet)?;
    }

    #[test]
    fn protocol_core_agrees_on_damaged_packets(
        (version, packet) in generate::versioned(),
        changes in generate::mutation(),
    ) {
        let bytes = generate::mutated(&bytes_of(&packet, version), &changes);
        protocol_core::ORACLE.agrees(version, &bytes)?;
    }
}
