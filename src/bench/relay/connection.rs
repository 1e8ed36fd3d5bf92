//! One client: what it says, and what waits for it.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use ledgermq_core::packet::{Packet, ProtocolVersion, QoS, Subscribe};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::frame::{self, Frame, Publish};
use super::packet_ids::PacketIds;
use super::topics::{Route, Topics};
use super::turn::Stage;
use super::{OUTPUT_BYTES_MAX, READ_BYTES};

/// An output buffer that is empty keeps at most this.
const OUTPUT_BYTES_KEPT: usize = 1 << 20;

const TAKES_NOTHING: End = End::Slow("it takes less than it is sent");

/// Why a connection ends.
pub(super) enum End {
    /// The client wants it so.
    Left,
    /// The client said what is not allowed.
    Wrong(&'static str),
    /// The client takes less than it is sent.
    Slow(&'static str),
    /// The socket failed.
    Failed(io::Error),
}

impl End {
    /// What is to be told about it, if anything.
    pub(super) fn reason(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Left => None,
            Self::Wrong(reason) | Self::Slow(reason) => Some(Cow::Borrowed(reason)),
            Self::Failed(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Self::Failed(error) => Some(Cow::Owned(error.to_string())),
        }
    }
}

/// A socket, what waits in both directions and the exchanges under way.
pub(super) struct Connection {
    stream: TcpStream,
    is_connected: bool,
    /// Whether it stands in the list of those to be read, and of those to be written.
    is_ready: bool,
    is_dirty: bool,
    /// The socket takes nothing until it says so.
    is_blocked: bool,
    /// The client sends nothing more than what is there to be read.
    is_ending: bool,
    /// Beginning of a packet whose rest is still to come.
    partial: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// Towards the client.
    sent: PacketIds,
    /// Of the client's messages at QoS 2 that it did not release.
    received: PacketIds,
    /// Topic of its last message and the number of it: most publishers stay with one.
    topic: Vec<u8>,
    topic_number: usize,
    subscribed: Vec<usize>,
    end: Option<End>,
}

impl Connection {
    pub(super) fn open(
        mut stream: TcpStream,
        token: Token,
        registry: &Registry,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            is_connected: false,
            is_ready: false,
            is_dirty: false,
            is_blocked: false,
            is_ending: false,
            partial: Vec::new(),
            output: Vec::new(),
            written: 0,
            sent: PacketIds::default(),
            received: PacketIds::default(),
            topic: Vec::new(),
            topic_number: 0,
            subscribed: Vec::new(),
            end: None,
        })
    }

    /// Why it is to be closed, if so.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    pub(super) fn peer(&self) -> String {
        self.stream.peer_addr().map_or_else(|_| "a client".to_owned(), |peer| peer.to_string())
    }

    /// The topics that it subscribes to by their name.
    pub(super) fn subscribed(&self) -> &[usize] {
        &self.subscribed
    }

    /// Whether it was not in the list of those to be read.
    pub(super) fn mark_ready(&mut self) -> bool {
        !std::mem::replace(&mut self.is_ready, true)
    }

    /// Whether it was not in the list of those to be written.
    #[inline]
    pub(super) fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.is_dirty, true)
    }

    /// Takes note that the socket can be written; says whether that was waited for.
    pub(super) fn unblock(&mut self) -> bool {
        std::mem::take(&mut self.is_blocked) && self.mark_dirty()
    }

    /// Takes note that the client closed its side: an end behind data is not told twice.
    pub(super) fn expect_end(&mut self) {
        self.is_ending = true;
    }

    /// Reads once and takes all packets. Says whether there may be more to read.
    pub(super) fn read(
        &mut self,
        slot: usize,
        buffer: &mut [u8],
        stage: &mut Stage,
        topics: &mut Topics,
    ) -> bool {
        self.is_ready = false;
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        let bytes = match self.stream.read(&mut buffer[kept..kept + READ_BYTES]) {
            Ok(0) => {
                self.end = Some(End::Left);
                return false;
            }
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => {
                self.end = Some(End::Failed(error));
                return false;
            }
        };
        let taken = self.take(slot, &buffer[..kept + bytes], stage, topics);
        match taken {
            Ok(taken) => {
                self.partial.clear();
                self.partial.extend_from_slice(&buffer[taken..kept + bytes]);
            }
            Err(end) => self.end = Some(end),
        }
        bytes == READ_BYTES || self.is_ending
    }

    /// Takes all packets that are whole, and says how many bytes they are.
    fn take(
        &mut self,
        slot: usize,
        bytes: &[u8],
        stage: &mut Stage,
        topics: &mut Topics,
    ) -> Result<usize, End> {
        let mut at = 0;
        while let Some((frame, length)) = frame::first(&bytes[at..])? {
            at += length;
            match frame {
                Frame::Rare(packet) => self.take_rare(slot, packet, topics)?,
                _ if !self.is_connected => return Err(End::Wrong("no CONNECT came first")),
                Frame::Publish(publish) => self.take_publish(slot, &publish, stage, topics)?,
                Frame::PubAck(id) | Frame::PubComp(id) => {
                    if !self.sent.remove(id) {
                        return Err(End::Wrong("acknowledges what was not sent"));
                    }
                }
                Frame::PubRec(id) => self.send_answer(0x62, id),
                Frame::PubRel(id) => {
                    self.received.remove(id);
                    self.send_answer(0x70, id);
                }
            }
        }
        Ok(at)
    }

    #[inline]
    fn take_publish(
        &mut self,
        slot: usize,
        publish: &Publish<'_>,
        stage: &mut Stage,
        topics: &mut Topics,
    ) -> Result<(), End> {
        if publish.qos == QoS::ExactlyOnce && !self.received.insert(publish.packet_id) {
            self.acknowledge(publish.qos, publish.packet_id);
            return Ok(());
        }
        let topic = publish.topic();
        if topic != self.topic || topic.is_empty() {
            self.topic_number = topics.number(topic)?;
            self.topic.clear();
            self.topic.extend_from_slice(topic);
        }
        stage.add(publish, self.topic_number, slot);
        Ok(())
    }

    fn take_rare(
        &mut self,
        slot: usize,
        packet: Packet<'_>,
        topics: &mut Topics,
    ) -> Result<(), End> {
        match packet {
            Packet::Connect(connect) if !self.is_connected => {
                if connect.version != ProtocolVersion::V311 {
                    return Err(End::Wrong("not MQTT 3.1.1"));
                }
                self.is_connected = true;
                self.output.extend_from_slice(&[0x20, 2, 0, 0]);
                Ok(())
            }
            Packet::Subscribe(subscribe) if self.is_connected => {
                self.subscribe(slot, &subscribe, topics)
            }
            Packet::PingReq if self.is_connected => {
                self.output.extend_from_slice(&[0xD0, 0]);
                Ok(())
            }
            Packet::Disconnect(_) => Err(End::Left),
            _ => Err(End::Wrong("a packet that is not served")),
        }
    }

    fn subscribe(
        &mut self,
        slot: usize,
        subscribe: &Subscribe<'_>,
        topics: &mut Topics,
    ) -> Result<(), End> {
        self.output.push(0x90);
        self.push_length(subscribe.filters.len() + 2);
        self.output.extend_from_slice(&subscribe.packet_id.get().to_be_bytes());
        for (filter, options) in &subscribe.filters {
            if filter.starts_with("$share/") {
                self.output.push(0x80);
                continue;
            }
            let route = Route { slot, qos: options.qos };
            self.subscribed.extend(topics.subscribe(filter, route)?);
            self.output.push(options.qos as u8);
        }
        Ok(())
    }

    /// Answers a message that is stored.
    #[inline]
    pub(super) fn acknowledge(&mut self, qos: QoS, packet_id: u16) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send_answer(0x40, packet_id),
            QoS::ExactlyOnce => self.send_answer(0x50, packet_id),
        }
    }

    #[inline]
    fn send_answer(&mut self, first: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.output.extend_from_slice(&[first, 2, high, low]);
    }

    /// Adds a message to what is written next, at most with the QoS `granted`.
    #[inline]
    pub(super) fn deliver(&mut self, publish: &Publish<'_>, granted: QoS) {
        if self.end.is_some() {
            return;
        }
        if self.output.len() - self.written + publish.bytes.len() > OUTPUT_BYTES_MAX {
            self.end = Some(TAKES_NOTHING);
            return;
        }
        let qos = publish.qos.min(granted);
        if qos == QoS::AtMostOnce && publish.qos != QoS::AtMostOnce {
            return self.deliver_without_id(publish);
        }
        let start = self.output.len();
        self.output.extend_from_slice(publish.bytes);
        self.output[start] = 0x30 | (qos as u8) << 1;
        if qos == QoS::AtMostOnce {
            return;
        }
        let Some(id) = self.sent.take() else {
            self.output.truncate(start);
            self.end = Some(End::Slow("65,535 messages are not acknowledged"));
            return;
        };
        let id_at = start + publish.body_at;
        self.output[id_at..id_at + 2].copy_from_slice(&id.to_be_bytes());
    }

    fn deliver_without_id(&mut self, publish: &Publish<'_>) {
        let topic = &publish.bytes[publish.topic_at..publish.body_at];
        let payload = &publish.bytes[publish.body_at + 2..];
        self.output.push(0x30);
        self.push_length(topic.len() + payload.len());
        self.output.extend_from_slice(topic);
        self.output.extend_from_slice(payload);
    }

    /// Adds a Remaining Length; what came within four bytes goes within four.
    fn push_length(&mut self, mut remaining: usize) {
        while remaining > 0x7F {
            self.output.push(remaining.to_le_bytes()[0] | 0x80);
            remaining >>= 7;
        }
        self.output.push(remaining.to_le_bytes()[0]);
    }

    /// Writes once what waits.
    pub(super) fn write(&mut self) {
        self.is_dirty = false;
        if self.output.len() - self.written > OUTPUT_BYTES_MAX {
            self.end.get_or_insert(TAKES_NOTHING);
        }
        if self.is_blocked || self.written == self.output.len() {
            return;
        }
        match self.stream.write(&self.output[self.written..]) {
            Ok(bytes) => self.written += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                self.end.get_or_insert(End::Failed(error));
                return;
            }
        }
        self.is_blocked = self.written < self.output.len();
        if !self.is_blocked {
            self.written = 0;
            self.output.clear();
            self.output.shrink_to(OUTPUT_BYTES_KEPT);
        } else if self.written > OUTPUT_BYTES_KEPT && self.written > self.output.len() / 2 {
            self.output.drain(..self.written);
            self.written = 0;
        }
    }
}
