//! What the tests share.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use ledgermq_core::event::{BatchBuilder, EventRef, MessagePublished};
use ledgermq_core::packet::QoS;
use ledgermq_core::quantity::ByteSize;
use ledgermq_log::{
    Class, CommittedBatch, Log, LogThread, Options, Producer, Tail, TailError, Wake,
};

/// Wakes a waiting test.
pub(crate) struct Bell(SyncSender<()>);

impl Bell {
    pub(crate) fn new() -> (Arc<Self>, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        (Arc::new(Self(sender)), receiver)
    }

    /// A bell that nobody hears.
    pub(crate) fn mute() -> Arc<Self> {
        Self::new().0
    }
}

impl Wake for Bell {
    fn wake(&self) {
        let _ = self.0.try_send(());
    }
}

/// Options with files of 1 MiB.
pub(crate) fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir, 1);
    options.config.file_bytes = ByteSize::mib(1);
    options
}

pub(crate) fn open(options: &Options) -> (Log, LogThread) {
    ledgermq_log::open(options.clone()).expect("opens")
}

pub(crate) fn stop((log, thread): (Log, LogThread)) {
    log.stop();
    thread.join().expect("an orderly end");
}

/// Adds a message with this payload.
pub(crate) fn publish(events: &mut BatchBuilder, payload: &[u8]) {
    let message = MessagePublished {
        qos: QoS::AtLeastOnce,
        retain: false,
        packet_id: None,
        topic: "some/topic",
        message_expiry_interval: None,
        properties: b"",
        payload,
    };
    events.publish(None, None, &message);
}

/// Pushes one message of its own batch.
pub(crate) fn push(producer: &mut Producer, payload: &[u8]) {
    let mut events = producer.builder();
    publish(&mut events, payload);
    producer.push(Class::Publish, &mut events).expect("room");
}

/// Payloads of the messages that count.
pub(crate) fn payloads(batches: &[Arc<CommittedBatch>]) -> Vec<String> {
    let mut payloads = Vec::new();
    for batch in batches {
        for record in batch.batch().records() {
            let record = record.expect("a record");
            if let EventRef::MessagePublished(message) = record.event().expect("an event")
                && !batch.is_void(&record)
            {
                payloads.push(String::from_utf8_lossy(message.payload).into_owned());
            }
        }
    }
    payloads
}

/// Takes until `count` messages are there.
pub(crate) fn take(tail: &mut Tail, bell: &Receiver<()>, count: usize) -> Vec<String> {
    let mut batches = Vec::new();
    loop {
        tail.take(64 << 10, &mut batches).expect("takes");
        if payloads(&batches).len() >= count {
            return payloads(&batches);
        }
        if tail.prepare_sleep() {
            bell.recv_timeout(Duration::from_secs(20)).expect("a wake");
        }
    }
}

/// Everything that is there.
pub(crate) fn take_all(log: &Log) -> Result<Vec<String>, TailError> {
    let mut tail = log.tail_gapless(1, Bell::mute());
    let mut batches = Vec::new();
    while tail.position() <= log.committed() {
        match tail.take(64 << 10, &mut batches) {
            Err(TailError::Gap { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(payloads(&batches))
}
