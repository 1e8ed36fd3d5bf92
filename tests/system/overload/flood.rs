//! Publishers that send as much as their sockets take, whatever the broker answers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ledgermq_core::packet::QoS;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::raw;

/// Bytes handed to a socket at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Who floods, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Publishers of QoS 0.
    pub(super) at_most_once: usize,
    /// Publishers of QoS 1 that read their acknowledgements, and wait for none of them.
    pub(super) windowless: usize,
    /// Publishers of QoS 1 that read nothing.
    pub(super) deaf: usize,
    /// Publishers of QoS 0 whose messages have 200,000 bytes.
    pub(super) large: usize,
}

/// The publishers at work.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

struct Publisher {
    stream: TcpStream,
    /// What it sends over and over, and how far it is.
    bytes: Arc<[u8]>,
    at: usize,
    reads: bool,
}

impl Flood {
    /// Connects all publishers, and lets them go.
    pub(super) fn start(address: SocketAddr, scale: Scale) -> Self {
        let poll = Poll::new().expect("a poll");
        let mut publishers = Vec::new();
        let kinds = [
            ("zero", scale.at_most_once, QoS::AtMostOnce, 100, true),
            ("windowless", scale.windowless, QoS::AtLeastOnce, 100, true),
            ("deaf", scale.deaf, QoS::AtLeastOnce, 100, false),
            ("large", scale.large, QoS::AtMostOnce, 200_000, true),
        ];
        for (name, count, qos, payload, reads) in kinds {
            for number in 0..count {
                let topic = format!("flood/{name}/{number}");
                let packet = raw::publish(&topic, &vec![b'x'; payload], qos);
                let times = (CHUNK_BYTES / packet.len()).max(1);
                let stream = raw::connect(address, &format!("flood-{name}-{number}"), false);
                stream.set_nonblocking(true).expect("a socket can be non-blocking");
                let mut stream = TcpStream::from_std(stream);
                let interest = Interest::READABLE | Interest::WRITABLE;
                let token = Token(publishers.len());
                poll.registry().register(&mut stream, token, interest).expect("room in a poll");
                let bytes = packet.repeat(times).into();
                publishers.push(Publisher { stream, bytes, at: 0, reads });
            }
        }
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || run(poll, publishers, &stop, &sent)
        });
        Self { stop, sent, thread }
    }

    /// Bytes that the sockets took.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Closes all connections; what is in their sockets is lost.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the flood does not fail");
    }
}

fn run(mut poll: Poll, mut publishers: Vec<Publisher>, stop: &AtomicBool, sent: &AtomicU64) {
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; CHUNK_BYTES];
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(50))).expect("a poll");
        for event in &events {
            let publisher = &mut publishers[event.token().0];
            if event.is_readable() && publisher.reads {
                while matches!(publisher.stream.read(&mut buffer), Ok(1..)) {}
            }
            if event.is_writable() {
                sent.fetch_add(publisher.send(), Ordering::Relaxed);
            }
        }
    }
}

impl Publisher {
    /// Writes until the socket takes nothing more.
    fn send(&mut self) -> u64 {
        let mut sent = 0;
        loop {
            match self.stream.write(&self.bytes[self.at..]) {
                Ok(written) => {
                    self.at = (self.at + written) % self.bytes.len();
                    sent += written as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
                Err(error) => panic!("a flooding publisher was cut off: {error}"),
            }
        }
    }
}
