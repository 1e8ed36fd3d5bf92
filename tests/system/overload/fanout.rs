//! One publisher and many subscribers that read, as fast as the slowest of them gets everything.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ledgermq_core::packet::QoS;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::raw;

const TOPIC: &str = "fan";
/// Messages that the slowest subscriber has not received, at most.
const WINDOW: u64 = 2_000;
const PUBLISHER: Token = Token(usize::MAX - 1);

/// Messages and what they cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    /// Messages that every subscriber received.
    pub(super) messages: f64,
    /// The same a second.
    pub(super) per_second: f64,
    /// CPU time of the broker for each of them.
    pub(super) cpu_each: Duration,
}

/// Connections of a fan-out, with what is under way.
pub(super) struct Fanout {
    poll: Poll,
    publisher: TcpStream,
    readers: Vec<Reader>,
    /// The PUBLISH, over and over.
    packets: Vec<u8>,
    packet_bytes: usize,
    /// Bytes sent, and messages received by all.
    sent: u64,
    qos: QoS,
    buffer: Vec<u8>,
}

struct Reader {
    stream: TcpStream,
    /// Bytes received.
    bytes: u64,
    /// The first bytes of a packet that has not come whole.
    rest: Vec<u8>,
}

impl Fanout {
    /// Connects a publisher and `count` subscribers.
    pub(super) fn connect(address: SocketAddr, count: usize, qos: QoS) -> Self {
        let poll = Poll::new().expect("a poll");
        let readers = (0..count).map(|number| {
            let mut stream = raw::connect(address, &format!("good-{number}"), false);
            raw::subscribe(&mut stream, TOPIC, qos);
            let stream = register(&poll, stream, Token(number), Interest::READABLE);
            Reader { stream, bytes: 0, rest: Vec::new() }
        });
        let readers = readers.collect();
        let publisher = raw::connect(address, "fan-publisher", false);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let publisher = register(&poll, publisher, PUBLISHER, interest);
        let packet = raw::publish(TOPIC, &[b'x'; 100], qos);
        let packet_bytes = packet.len();
        let (packets, buffer) = (packet.repeat(500), vec![0; 256 << 10]);
        Self { poll, publisher, readers, packets, packet_bytes, sent: 0, qos, buffer }
    }

    /// Topic of the messages.
    pub(super) const fn topic() -> &'static str {
        TOPIC
    }

    /// Publishes and receives for a while.
    pub(super) fn run(&mut self, duration: Duration, broker: u32) -> Throughput {
        let (started, cpu, before) = (Instant::now(), raw::cpu_time(broker), self.received());
        let mut events = Events::with_capacity(1024);
        while started.elapsed() < duration {
            self.publish();
            self.poll.poll(&mut events, Some(Duration::from_millis(5))).expect("a poll");
            for event in &events {
                match event.token() {
                    PUBLISHER => self.discard(),
                    Token(number) => self.read(number),
                }
            }
        }
        let messages = (self.received() - before).max(1);
        let cpu = raw::cpu_time(broker) - cpu;
        Throughput {
            messages: messages as f64,
            per_second: messages as f64 / started.elapsed().as_secs_f64(),
            cpu_each: cpu.div_f64(messages as f64),
        }
    }

    /// Messages that every subscriber has received.
    fn received(&self) -> u64 {
        let bytes = self.readers.iter().map(|reader| reader.bytes).min();
        bytes.expect("there are subscribers") / self.packet_bytes as u64
    }

    /// Sends as many messages as the window allows and the socket takes.
    fn publish(&mut self) {
        let most = (self.received() + WINDOW) * self.packet_bytes as u64;
        while self.sent < most {
            let at = usize::try_from(self.sent % self.packets.len() as u64).expect("small");
            let left = usize::try_from(most - self.sent).expect("small");
            let end = self.packets.len().min(at + left);
            match self.publisher.write(&self.packets[at..end]) {
                Ok(written) => self.sent += written as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the publisher lost its connection: {error}"),
            }
        }
    }

    /// Throws away what the publisher is answered.
    fn discard(&mut self) {
        while matches!(self.publisher.read(&mut self.buffer), Ok(1..)) {}
    }

    fn read(&mut self, number: usize) {
        let reader = &mut self.readers[number];
        loop {
            match reader.stream.read(&mut self.buffer) {
                Ok(0) => panic!("a subscriber was closed"),
                Ok(read) if self.qos == QoS::AtMostOnce => reader.bytes += read as u64,
                Ok(read) => reader.acknowledge(&self.buffer[..read], self.packet_bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a subscriber lost its connection: {error}"),
            }
        }
    }
}

impl Reader {
    /// Sends PUBACK for each packet among the bytes that came.
    fn acknowledge(&mut self, bytes: &[u8], packet_bytes: usize) {
        self.bytes += bytes.len() as u64;
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / packet_bytes * packet_bytes;
        let mut acks = Vec::with_capacity(whole / packet_bytes * 4);
        for packet in self.rest[..whole].chunks(packet_bytes) {
            let at = 2 + 2 + TOPIC.len();
            acks.extend([0x40, 2, packet[at], packet[at + 1]]);
        }
        self.rest.drain(..whole);
        // A few KiB at most, which a socket always takes from who reads as well.
        self.stream.write_all(&acks).expect("acknowledgements are sent");
    }
}

fn register(
    poll: &Poll,
    stream: std::net::TcpStream,
    token: Token,
    interest: Interest,
) -> TcpStream {
    stream.set_nonblocking(true).expect("a socket can be non-blocking");
    let mut stream = TcpStream::from_std(stream);
    poll.registry().register(&mut stream, token, interest).expect("a poll takes sockets");
    stream
}
