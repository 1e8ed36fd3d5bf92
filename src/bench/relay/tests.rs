use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::*;

const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c";
const CONNACK: &[u8] = b"\x20\x02\0\0";

/// A relay of which the test turns the loop, with its clients.
struct Turned {
    relay: Relay,
    told: Vec<String>,
}

impl Turned {
    fn new(log: Option<&Path>) -> Self {
        let relay = Relay::bind("127.0.0.1:0".parse().unwrap(), log).unwrap();
        Self { relay, told: Vec::new() }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.relay.turn(&mut |text| self.told.push(text.to_owned()))
    }

    fn client(&mut self) -> TcpStream {
        let mut client = TcpStream::connect(self.relay.address().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        client.write_all(CONNECT).unwrap();
        self.expect(&mut client, CONNACK);
        client
    }

    fn subscriber(&mut self, filter: &str, qos: u8) -> TcpStream {
        let mut client = self.client();
        let length = u8::try_from(filter.len()).unwrap();
        let subscribe = [&[0x82, length + 5, 0, 9, 0, length], filter.as_bytes(), &[qos]].concat();
        client.write_all(&subscribe).unwrap();
        self.expect(&mut client, &[0x90, 3, 0, 9, qos]);
        client
    }

    /// Turns until `client` has read as much as is expected.
    fn expect(&mut self, client: &mut TcpStream, expected: &[u8]) {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            match read(client) {
                Some(bytes) => {
                    assert!(!bytes.is_empty(), "closed after {seen:?}");
                    seen.extend(bytes);
                }
                None => self.turn().unwrap(),
            }
        }
        assert_eq!(seen, expected);
    }

    fn expect_end(&mut self, client: &mut TcpStream) {
        loop {
            match read(client) {
                Some(bytes) => return assert!(bytes.is_empty(), "{bytes:?}"),
                None => self.turn().unwrap(),
            }
        }
    }
}

/// What is there now: nothing at the end of the connection, `None` if nothing came yet.
fn read(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    match client.read(&mut bytes) {
        Ok(count) => Some(bytes[..count].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_message_stands_in_the_file_before_it_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("wal");
    let mut relay = Turned::new(Some(&log));
    let mut subscriber = relay.subscriber("a/b", 1);
    let mut publisher = relay.client();
    let publish = b"\x32\x0a\0\x03a/b\0\x07xyz";
    publisher.write_all(publish).unwrap();
    relay.expect(&mut publisher, b"\x40\x02\0\x07");
    assert_eq!(std::fs::read(&log).unwrap(), publish);
    relay.expect(&mut subscriber, b"\x32\x0a\0\x03a/b\0\x01xyz");
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_leaves_if_the_file_takes_nothing() {
    let mut relay = Turned::new(Some(Path::new("/dev/full")));
    let mut subscriber = relay.subscriber("a", 1);
    let mut publisher = relay.client();
    publisher.write_all(b"\x32\x05\0\x01a\0\x07").unwrap();
    let failure = (0..100).find_map(|_| relay.turn().err());
    assert_eq!(failure.unwrap().kind(), ErrorKind::StorageFull);
    assert_eq!((read(&mut publisher), read(&mut subscriber)), (None, None));
}

#[test]
fn qos_2_goes_its_four_steps_on_both_sides_and_a_repetition_is_not_delivered() {
    let mut relay = Turned::new(None);
    let mut subscriber = relay.subscriber("a", 2);
    let mut publisher = relay.client();
    for publish in [b"\x34\x05\0\x01a\0\x07", b"\x3c\x05\0\x01a\0\x07"] {
        publisher.write_all(publish).unwrap();
        relay.expect(&mut publisher, b"\x50\x02\0\x07");
    }
    publisher.write_all(b"\x62\x02\0\x07").unwrap();
    relay.expect(&mut publisher, b"\x70\x02\0\x07");
    relay.expect(&mut subscriber, b"\x34\x05\0\x01a\0\x01");
    subscriber.write_all(b"\x50\x02\0\x01").unwrap();
    relay.expect(&mut subscriber, b"\x62\x02\0\x01");
    subscriber.write_all(b"\x70\x02\0\x01\xc0\0").unwrap();
    relay.expect(&mut subscriber, b"\xd0\0");
}

#[test]
fn filters_with_wildcards_match_and_the_lower_qos_counts() {
    let mut relay = Turned::new(None);
    let mut all = relay.subscriber("a/#", 0);
    let mut level = relay.subscriber("a/+", 1);
    let mut other = relay.subscriber("b", 1);
    let mut publisher = relay.client();
    publisher.write_all(b"\x32\x0a\0\x03a/b\0\x07xyz\x31\x05\0\x01bhi").unwrap();
    relay.expect(&mut all, b"\x30\x08\0\x03a/bxyz");
    relay.expect(&mut level, b"\x32\x0a\0\x03a/b\0\x01xyz");
    relay.expect(&mut other, b"\x30\x05\0\x01bhi");
}

#[test]
fn a_packet_may_come_in_pieces() {
    let mut relay = Turned::new(None);
    let mut subscriber = relay.subscriber("a", 0);
    let mut publisher = relay.client();
    for byte in b"\x30\x05\0\x01ahi" {
        publisher.write_all(&[*byte]).unwrap();
        relay.turn().unwrap();
    }
    relay.expect(&mut subscriber, b"\x30\x05\0\x01ahi");
}

#[test]
fn what_a_client_sent_before_it_left_is_delivered() {
    let mut relay = Turned::new(None);
    let mut subscriber = relay.subscriber("a", 0);
    let mut publisher = relay.client();
    publisher.write_all(b"\x30\x05\0\x01ahi").unwrap();
    publisher.shutdown(Shutdown::Write).unwrap();
    relay.expect_end(&mut publisher);
    relay.expect(&mut subscriber, b"\x30\x05\0\x01ahi");
    assert_eq!(relay.told, Vec::<String>::new());
}

#[test]
fn bad_input_closes_the_connection_and_is_told() {
    let wrong: [&[u8]; 9] = [
        b"\x36\x05\0\x01a\0\x07",    // QoS 3
        b"\x30\x03\0\x01+",          // a wildcard in a topic
        b"\x30\x02\0\0",             // no topic
        b"\x30\x03\0\x02a",          // a topic beyond the packet
        b"\x32\x05\0\x01a\0\0",      // packet identifier 0
        b"\x40\x02\0\x07",           // acknowledges nothing
        b"\x30\xff\xff\xff\xff\xff", // a length of five bytes
        b"\x30\xff\xff\xff\x7f",     // a packet of 256 MiB
        b"\xf0\0",                   // no such packet
    ];
    for bytes in wrong {
        let mut relay = Turned::new(None);
        let mut client = relay.client();
        client.write_all(bytes).unwrap();
        relay.expect_end(&mut client);
        assert_eq!(relay.told.len(), 1, "{bytes:?}: {:?}", relay.told);
    }
}
