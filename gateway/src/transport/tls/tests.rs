use std::io::{Read as _, Write as _};

use proptest::prelude::*;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::certificates::tests::authority::{Authority, Issued};

struct World {
    server: Arc<ServerConfig>,
    authority: Authority,
}

impl World {
    /// A server that asks for a certificate of its own authority.
    fn new() -> Self {
        let authority = Authority::new("authority");
        let Issued { certificate, key } = authority.server("localhost");
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots(&authority), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialized_der().to_vec().into()),
            )
            .unwrap();
        Self { server: Arc::new(server), authority }
    }

    fn client(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
        issued: Option<Issued>,
    ) -> ClientConnection {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots(&self.authority));
        let config = match issued {
            None => builder.with_no_client_auth(),
            Some(Issued { certificate, key }) => builder
                .with_client_auth_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::Pkcs8(key.serialized_der().to_vec().into()),
                )
                .unwrap(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    fn tls(&self) -> Tls {
        Tls::new(Arc::clone(&self.server), IdentityFrom::Cn).unwrap()
    }
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    Arc::new(roots)
}

/// What the server side made of what a client sent.
#[derive(Default)]
struct Outcome {
    plain: Vec<u8>,
    identity: Option<Box<str>>,
    is_closed: bool,
}

/// Carries bytes both ways, those to the server in pieces, until nobody has anything to say.
fn talk(
    client: &mut ClientConnection,
    tls: &mut Tls,
    pieces: &mut impl Iterator<Item = usize>,
) -> Result<Outcome, TlsError> {
    let mut outcome = Outcome::default();
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        if wire.is_empty() {
            return Ok(outcome);
        }
        let mut out = Vec::new();
        let mut rest = &mut wire[..];
        while !rest.is_empty() {
            let (piece, left) = rest.split_at_mut(pieces.next().unwrap().clamp(1, rest.len()));
            let progress = tls.receive(piece, &mut outcome.plain, &mut out)?;
            outcome.identity = outcome.identity.or(progress.identity);
            outcome.is_closed |= progress.is_closed;
            rest = left;
        }
        deliver(client, &out);
    }
}

fn deliver(client: &mut ClientConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
    }
}

fn versions() -> [&'static rustls::SupportedProtocolVersion; 2] {
    [&rustls::version::TLS12, &rustls::version::TLS13]
}

#[test]
fn both_versions_with_and_without_a_client_certificate() {
    let world = World::new();
    for version in versions() {
        for name in [None, Some("device-1")] {
            let issued = name.map(|name| world.authority.client(name));
            let mut client = world.client(version, issued);
            let mut tls = world.tls();
            client.writer().write_all(b"hello").unwrap();
            let outcome = talk(&mut client, &mut tls, &mut std::iter::repeat(usize::MAX)).unwrap();
            assert_eq!(outcome.plain, b"hello");
            assert_eq!(outcome.identity.as_deref(), name);
            assert!(tls.is_open() && tls.input.capacity() == 0, "an idle connection keeps nothing");
            let mut out = Vec::new();
            tls.send(b"world", &mut out).unwrap();
            tls.close(&mut out);
            deliver(&mut client, &out);
            let mut read = Vec::new();
            client.reader().read_to_end(&mut read).expect("close_notify came");
            assert_eq!(read, b"world");
        }
    }
}

#[test]
fn a_certificate_of_another_authority_or_without_a_usable_name_ends_the_handshake_with_an_alert() {
    let world = World::new();
    for issued in [
        Authority::new("authority").client("device"),
        world.authority.client("admin\0"),
        world.authority.client(""),
    ] {
        let mut client = world.client(&rustls::version::TLS13, Some(issued));
        let error = talk(&mut client, &mut world.tls(), &mut std::iter::repeat(usize::MAX));
        assert!(error.is_err());
    }
}

#[test]
fn what_is_no_tls_is_answered_with_an_alert_at_once() {
    let world = World::new();
    for bytes in [&b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"[..], b"GET /mqtt HTTP/1.1\r\n"] {
        let mut tls = world.tls();
        let mut out = Vec::new();
        let received = tls.receive(&mut bytes.to_vec(), &mut Vec::new(), &mut out);
        assert!(matches!(received, Err(TlsError::Protocol(_))));
        assert_eq!(out.first(), Some(&21), "a record with an alert: {out:?}");
        assert!(tls.receive(&mut [22], &mut Vec::new(), &mut Vec::new()).unwrap().is_closed);
    }
}

#[test]
fn a_handshake_that_never_ends_is_given_up_at_its_bound() {
    let mut tls = World::new().tls();
    // A ClientHello of 60 KiB, in records of 16 KiB.
    let mut taken = 0;
    let result = (0..5).try_for_each(|number| {
        let mut record = vec![22, 3, 1, 0x40, 0];
        if number == 0 {
            record.extend([1, 0, 0xF0, 0]);
        }
        record.resize(5 + 0x4000, 0);
        taken += record.len();
        tls.receive(&mut record, &mut Vec::new(), &mut Vec::new()).map(drop)
    });
    assert_eq!(result, Err(TlsError::TooLong));
    assert!(taken <= 2 * INPUT_BYTES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_cut_of_the_records_gives_the_same_plaintext(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40_000), 1..4),
        pieces in prop::collection::vec(1_usize..5_000, 1..30),
        is_new in any::<bool>(),
    ) {
        let world = World::new();
        let version = versions()[usize::from(is_new)];
        let mut client = world.client(version, Some(world.authority.client("device-1")));
        client.set_buffer_limit(None);
        let mut tls = world.tls();
        for message in &messages {
            client.writer().write_all(message).unwrap();
        }
        let mut pieces = pieces.into_iter().cycle();
        let outcome = talk(&mut client, &mut tls, &mut pieces).unwrap();
        prop_assert_eq!(outcome.plain, messages.concat());
        prop_assert_eq!(outcome.identity.as_deref(), Some("device-1"));
        client.send_close_notify();
        prop_assert!(talk(&mut client, &mut tls, &mut pieces).unwrap().is_closed);
    }

    #[test]
    fn damaged_records_are_an_error_and_never_a_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        pieces in prop::collection::vec(1_usize..700, 1..20),
        is_new in any::<bool>(),
        is_cut in any::<bool>(),
    ) {
        let world = World::new();
        let mut client = world.client(versions()[usize::from(is_new)], None);
        let mut tls = world.tls();
        let mut pieces = pieces.into_iter().cycle();
        // The first flight, the second, and records.
        for _ in 0..3 {
            client.writer().write_all(&[7; 300]).unwrap();
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            for (at, value) in &damage {
                if !wire.is_empty() {
                    let at = at.index(wire.len());
                    wire[at] = *value;
                }
            }
            if is_cut {
                wire.truncate(wire.len() / 2);
            }
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let mut rest = &mut wire[..];
            while !rest.is_empty() {
                let (piece, left) = rest.split_at_mut(pieces.next().unwrap().min(rest.len()));
                let _ = tls.receive(piece, &mut plain, &mut out);
                rest = left;
            }
            if tls.is_open() {
                let _ = tls.send(b"x", &mut out);
            }
            if client.read_tls(&mut &out[..]).is_err() || client.process_new_packets().is_err() {
                break;
            }
        }
    }
}
