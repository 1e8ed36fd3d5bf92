//! How fast the log takes 150-byte messages in batches of 64 KiB: `append [seconds] [dir]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledgermq_core::event::MessagePublished;
use ledgermq_core::event::batch::TARGET_BYTES;
use ledgermq_core::packet::QoS;
use ledgermq_log::{Class, Options, Wake};

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement by hand")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    let dir = arguments.next().unwrap_or_else(|| "target/append-example".to_owned());
    let _ = std::fs::remove_dir_all(&dir);
    let (log, thread) = ledgermq_log::open(Options::new(&dir, 1)).expect("opens");
    let wake: Arc<dyn Wake> = Arc::new(Unpark(std::thread::current()));
    let mut producer = log.producer(wake.clone());
    let mut tail = log.tail_gapless(1, wake);
    let mut events = producer.builder();
    let payload = [7; 110];
    let message = MessagePublished {
        qos: QoS::AtLeastOnce,
        retain: false,
        packet_id: None,
        topic: "some/topic/of/30/bytes",
        message_expiry_interval: None,
        properties: b"",
        payload: &payload,
    };
    let began = Instant::now();
    let (mut pushed, mut seen) = (0u64, 0u64);
    let mut batches = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        while events.bytes() + 150 < TARGET_BYTES {
            events.publish(None, None, &message);
        }
        let count = events.len();
        let full = producer.push(Class::Publish, &mut events).is_err();
        pushed += if full { 0 } else { u64::from(count) };
        tail.take(usize::MAX, &mut batches).expect("reads");
        seen += batches.drain(..).map(|batch| u64::from(batch.batch().len())).sum::<u64>();
        if full && tail.prepare_sleep() {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        tail.awake();
    }
    while seen < pushed {
        tail.take(usize::MAX, &mut batches).expect("reads");
        seen += batches.drain(..).map(|batch| u64::from(batch.batch().len())).sum::<u64>();
    }
    let took = began.elapsed().as_secs_f64();
    let status = log.status();
    println!(
        "{:.0} messages/s, {:.0} MB/s",
        seen as f64 / took,
        status.committed_bytes as f64 / took / 1e6
    );
    println!(
        "{} durable writes, mean {} us, last {:?}",
        status.syncs.counts.iter().sum::<u64>(),
        status.syncs.sum_micros / status.syncs.counts.iter().sum::<u64>().max(1),
        status.last_sync
    );
    println!("buckets {:?}", status.syncs.counts);
    log.stop();
    thread.join().expect("stops");
}
