use proptest::prelude::*;

use super::*;

fn client(bytes: &[u8]) -> Option<SocketAddr> {
    let header = parse(bytes).expect("a header").expect("all of it");
    assert_eq!(header.length, bytes.len());
    for length in 0..bytes.len() {
        assert_eq!(parse(&bytes[..length]), Ok(None), "a part of {length} bytes");
    }
    header.client
}

fn v2(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2_START, &[version_and_command, family], &length, body].concat()
}

const V4_BODY: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x07, 0x5B];

#[test]
fn addresses_of_both_versions_and_families() {
    let four: SocketAddr = "192.0.2.7:12345".parse().unwrap();
    let six: SocketAddr = "[2001:db8::7]:65535".parse().unwrap();
    assert_eq!(client(b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 1883\r\n"), Some(four));
    assert_eq!(client(b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n"), Some(six));
    assert_eq!(client(&v2(0x21, 0x11, &V4_BODY)), Some(four));
    let with_fields = [&V4_BODY[..], &[4, 0, 2, 0, 0, 0xEA, 0, 0]].concat();
    assert_eq!(client(&v2(0x21, 0x11, &with_fields)), Some(four));
    let mut body = [0; 36];
    body[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    body[32..34].copy_from_slice(&[0xFF, 0xFF]);
    assert_eq!(client(&v2(0x21, 0x21, &body)), Some(six));
}

#[test]
fn a_proxy_that_speaks_for_itself_or_does_not_know_names_nobody() {
    assert_eq!(client(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(client(b"PROXY UNKNOWN ffff::1 whatever it likes\r\n"), None);
    assert_eq!(client(&v2(0x20, 0x00, &[])), None);
    assert_eq!(client(&v2(0x20, 0x11, b"ignored")), None);
    assert_eq!(client(&v2(0x21, 0x00, &[])), None);
    assert_eq!(client(&v2(0x21, 0x31, &[0; 216])), None);
    assert_eq!(client(&v2(0x21, 0x12, &V4_BODY)), None);
}

#[test]
fn what_is_no_header_is_refused_as_soon_as_it_shows() {
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; V1_BYTES_MAX]].concat();
    let mut too_long = v2(0x21, 0x11, &V4_BODY);
    too_long[14..16].copy_from_slice(&[0xFF, 0xFF]);
    for bytes in [
        &b"\x10"[..],
        b"PROXX",
        b"GET / HTTP/1.1\r\n",
        b"\r\n\r\n\0\r\nQUIX",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 1883 9\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 65536\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 +1234 1883\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 01234 1883\r\n",
        b"PROXY TCP4 192.0.2.7  10.0.0.1 1234 1883\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 \xFF 1 2\r\n",
        b"PROXY \r\n",
        &long,
        &too_long,
        &v2(0x11, 0x11, &V4_BODY),
        &v2(0x22, 0x11, &V4_BODY),
        &v2(0x21, 0x13, &V4_BODY),
        &v2(0x21, 0x41, &V4_BODY),
        &v2(0x21, 0x11, &V4_BODY[..11]),
        &v2(0x21, 0x11, &[&V4_BODY[..], &[4, 0, 9, 0]].concat()),
        &v2(0x21, 0x11, &[&V4_BODY[..], &[4, 0]].concat()),
    ] {
        assert!(parse(bytes).is_err(), "{:?}", bytes.escape_ascii().to_string());
    }
}

fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..300);
    let family = prop_oneof![Just(0x11), Just(0x21), Just(0x00), Just(0x31), any::<u8>()];
    let binary =
        (0x1F_u8..0x23, family, body).prop_map(|(first, family, body)| v2(first, family, &body));
    let words = prop::collection::vec("[0-9a-f.:]{1,15}", 0..6);
    let line = (prop_oneof![Just("TCP4"), Just("TCP6"), Just("UNKNOWN")], words)
        .prop_map(|(family, words)| format!("PROXY {family} {}\r\n", words.join(" ")));
    let valid = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| {
        format!("PROXY TCP4 {} 10.0.0.1 {port} 1883\r\n", Ipv4Addr::from(ip)).into_bytes()
    });
    prop_oneof![binary, line.prop_map(String::into_bytes), valid]
}

proptest! {
    #[test]
    fn any_cut_of_the_bytes_gives_the_same_header_and_leaves_the_same_rest(
        header in any_header(),
        rest in prop::collection::vec(any::<u8>(), 0..40),
        pieces in prop::collection::vec(1_usize..60, 1..20),
    ) {
        let bytes = [header, rest].concat();
        let whole = Reader::default().receive(&bytes);
        let mut reader = Reader::default();
        let (mut at, mut outcome) = (0, Ok(None));
        let mut pieces = pieces.into_iter().cycle();
        while at < bytes.len() && outcome == Ok(None) {
            let piece = pieces.next().unwrap().min(bytes.len() - at);
            outcome = reader.receive(&bytes[at..at + piece]);
            if let Ok(Some((_, used))) = &mut outcome {
                *used += at;
            }
            at += piece;
        }
        prop_assert_eq!(outcome, whole);
    }
}
