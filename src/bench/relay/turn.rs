//! The messages of one turn: staged, written with one sync, then delivered.

use std::fs::File;
use std::io::{self, Write};

use ledgermq_core::packet::QoS;

use super::STAGE_BYTES_MAX;
use super::connection::Connection;
use super::frame::Publish;
use super::topics::Topics;

/// Messages of a turn in the order in which they were read.
#[derive(Default)]
pub(super) struct Stage {
    /// Their packets, one behind the other: what goes to the file as it is.
    bytes: Vec<u8>,
    messages: Vec<Message>,
}

struct Message {
    start: usize,
    end: usize,
    topic_at: usize,
    body_at: usize,
    qos: QoS,
    packet_id: u16,
    topic: usize,
    publisher: usize,
}

impl Stage {
    /// Whether further connections are to be read in the next turn.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= STAGE_BYTES_MAX
    }

    /// Adds a message whose topic has the number `topic`.
    #[inline]
    pub(super) fn add(&mut self, publish: &Publish<'_>, topic: usize, publisher: usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(publish.bytes);
        self.messages.push(Message {
            start,
            end: self.bytes.len(),
            topic_at: publish.topic_at,
            body_at: publish.body_at,
            qos: publish.qos,
            packet_id: publish.packet_id,
            topic,
            publisher,
        });
    }

    /// Writes all messages to the end of the file, and syncs once.
    pub(super) fn commit(&mut self, log: Option<&mut File>) -> io::Result<()> {
        let Some(log) = log.filter(|_| !self.bytes.is_empty()) else { return Ok(()) };
        log.write_all(&self.bytes)?;
        log.sync_data()
    }

    /// Puts messages and acknowledgements into the outputs, and forgets them.
    pub(super) fn deliver(
        &mut self,
        topics: &mut Topics,
        connections: &mut [Option<Connection>],
        dirty: &mut Vec<usize>,
    ) {
        for message in self.messages.drain(..) {
            let publish = Publish {
                bytes: &self.bytes[message.start..message.end],
                topic_at: message.topic_at,
                body_at: message.body_at,
                qos: message.qos,
                packet_id: message.packet_id,
            };
            for route in topics.routes(message.topic) {
                let Some(subscriber) = &mut connections[route.slot] else { continue };
                subscriber.deliver(&publish, route.qos);
                if subscriber.mark_dirty() {
                    dirty.push(route.slot);
                }
            }
            // The publisher is dirty since it was read.
            if let Some(publisher) = &mut connections[message.publisher] {
                publisher.acknowledge(message.qos, message.packet_id);
            }
        }
        self.bytes.clear();
    }
}
