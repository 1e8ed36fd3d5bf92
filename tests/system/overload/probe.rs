//! A well-behaved publisher of QoS 1, and how long it waits for its acknowledgements.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ledgermq_core::packet::QoS;

use super::raw;

/// Time between two messages.
const INTERVAL: Duration = Duration::from_millis(10);
/// Messages without acknowledgement, at most.
const WINDOW: usize = 20;

/// A message: when it was to be sent, and how long its acknowledgement took from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) due: Instant,
    pub(super) took: Duration,
}

/// The publisher at work.
pub(super) struct Probe {
    stream: TcpStream,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    /// When the messages that are not acknowledged were due, in order.
    open: std::collections::VecDeque<Instant>,
    samples: Vec<Sample>,
}

impl Probe {
    /// Publishes to `topic` until it is stopped.
    pub(super) fn start(address: SocketAddr, client_id: &str, topic: &str) -> Self {
        let stream = raw::connect(address, client_id, false);
        stream.set_read_timeout(None).expect("a socket can wait");
        let shared = Arc::new(Shared::default());
        let packet = raw::publish(topic, &[b'x'; 100], QoS::AtLeastOnce);
        let (out, input) = (clone(&stream), clone(&stream));
        let (sends, reads) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || sends.send(out, packet)),
            thread::spawn(move || reads.read(input)),
        ];
        Self { stream, shared, threads }
    }

    /// What was acknowledged since the probe was started, in the order of the acknowledgements.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.shared.lock().samples.clone()
    }

    /// For how long the oldest message has been waiting.
    pub(super) fn waiting(&self) -> Duration {
        self.shared.lock().open.front().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Ends it; every message that was sent must have been acknowledged within the deadline.
    pub(super) fn stop(self) -> Vec<Sample> {
        self.shared.lock().is_stopped = true;
        let end = Instant::now() + raw::PATIENCE;
        while !self.shared.lock().open.is_empty() {
            assert!(Instant::now() < end, "acknowledgements are missing");
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.stream.shutdown(Shutdown::Both);
        self.threads.into_iter().for_each(|thread| thread.join().expect("the probe works"));
        self.shared.lock().samples.clone()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, mut stream: TcpStream, packet: Vec<u8>) {
        let mut due = Instant::now();
        loop {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut state = self.lock();
            while state.open.len() >= WINDOW && !state.is_stopped {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_stopped {
                return;
            }
            state.open.push_back(due);
            drop(state);
            stream.write_all(&packet).expect("the probe's connection stands");
            due += INTERVAL;
        }
    }

    fn read(&self, mut stream: TcpStream) {
        let mut ack = [0; 4];
        while stream.read_exact(&mut ack).is_ok() {
            assert_eq!(ack[0], 0x40, "{ack:?} is no PUBACK");
            let mut state = self.lock();
            let due = state.open.pop_front().expect("something was sent");
            state.samples.push(Sample { due, took: due.elapsed() });
            self.changed.notify_all();
        }
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket can be shared")
}

/// The value below which so many percent of the samples lie.
pub(super) fn percentile(samples: &[Sample], percent: usize) -> Duration {
    let mut took: Vec<Duration> = samples.iter().map(|sample| sample.took).collect();
    took.sort_unstable();
    let at = took.len() * percent / 100;
    took.get(at.min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}
