//! A small synchronous MQTT client over the broker's own codec.
//!
//! It does what a test says and nothing else: no reconnecting, no pings. By default it
//! acknowledges what it receives.

use std::collections::{HashSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ledgermq_core::codec;
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Ack, Connect, Disconnect, Packet, ProtocolVersion, Publish, QoS, Subscribe,
    SubscriptionOptions, Unsubscribe, Will,
};
use ledgermq_core::reason::ReasonCode;

use super::DEADLINE;
use super::packets::{Connected, Message, Received};
use super::transport::{self, Stream};

/// A CONNECT in the making.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a> {
    pub(crate) connect: Connect<'a>,
    auto_ack: bool,
}

impl<'a> Options<'a> {
    /// A clean start with that version and Client Identifier, without Keep Alive.
    pub(crate) fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        let connect = Connect::new(version, client_id, true);
        Self { connect, auto_ack: true }
    }

    pub(crate) fn v5(client_id: &'a str) -> Self {
        Self::new(ProtocolVersion::V5, client_id)
    }

    pub(crate) fn v311(client_id: &'a str) -> Self {
        Self::new(ProtocolVersion::V311, client_id)
    }

    /// Asks for the session to be kept and resumed, in the way of the version.
    pub(crate) fn persistent(mut self) -> Self {
        self.connect.clean_start = false;
        if self.connect.version == ProtocolVersion::V5 {
            self.connect.session_expiry_interval = Some(3_600);
        }
        self
    }

    pub(crate) fn clean_start(mut self, clean_start: bool) -> Self {
        self.connect.clean_start = clean_start;
        self
    }

    pub(crate) fn session_expiry(mut self, seconds: u32) -> Self {
        self.connect.session_expiry_interval = Some(seconds);
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.connect.keep_alive = seconds;
        self
    }

    pub(crate) fn receive_maximum(mut self, maximum: u16) -> Self {
        self.connect.receive_maximum = Some(maximum);
        self
    }

    pub(crate) fn maximum_packet_size(mut self, bytes: u32) -> Self {
        self.connect.maximum_packet_size = Some(bytes);
        self
    }

    pub(crate) fn will(self, topic: &'a str, payload: &'a [u8], qos: QoS) -> Self {
        self.will_message(Will {
            topic,
            payload,
            qos,
            retain: false,
            delay_interval: 0,
            message_expiry_interval: None,
            forwarded: ledgermq_core::packet::ForwardedProperties::default(),
        })
    }

    pub(crate) fn will_message(mut self, will: Will<'a>) -> Self {
        self.connect.will = Some(will);
        self
    }

    /// Leaves the acknowledging of received messages to the test.
    pub(crate) fn manual_ack(mut self) -> Self {
        self.auto_ack = false;
        self
    }

    /// Connects; panics unless the broker accepts.
    pub(crate) fn connect(self, address: SocketAddr) -> Client {
        match self.try_connect(address) {
            Ok(client) => client,
            Err(error) => panic!("not connected: {error:?}"),
        }
    }

    /// Connects; the CONNACK or end of stream that refused it otherwise.
    pub(crate) fn try_connect(self, address: SocketAddr) -> Result<Client, Refused> {
        let stream = transport::tcp(address).map_err(Refused::Io)?;
        self.try_connect_over(Box::new(stream))
    }

    /// Connects over any transport; panics unless the broker accepts.
    pub(crate) fn connect_over(self, stream: impl Stream + 'static) -> Client {
        match self.try_connect_over(Box::new(stream)) {
            Ok(client) => client,
            Err(error) => panic!("not connected: {error:?}"),
        }
    }

    /// As [`Options::try_connect`], over any transport.
    pub(crate) fn try_connect_over(self, stream: Box<dyn Stream>) -> Result<Client, Refused> {
        let mut client = Client::over(stream, self.connect.version);
        client.auto_ack = self.auto_ack;
        client.try_send(&Packet::Connect(Box::new(self.connect))).map_err(Refused::Io)?;
        match client.next(DEADLINE) {
            Ok(Some(Received::ConnAck(connected))) if connected.reason.is_error() => {
                Err(Refused::ConnAck(connected))
            }
            Ok(Some(Received::ConnAck(connected))) => {
                client.connected = Some(connected);
                Ok(client)
            }
            Ok(Some(other)) => panic!("{other:?} instead of CONNACK"),
            Ok(None) => Err(Refused::Io(ErrorKind::TimedOut.into())),
            Err(error) => Err(Refused::Io(error)),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Refused {
    ConnAck(Connected),
    Io(io::Error),
}

/// A connected client; its Network Connection is closed without DISCONNECT when it is dropped.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    version: ProtocolVersion,
    buffer: Vec<u8>,
    /// What was received while waiting for something else.
    inbox: VecDeque<Message>,
    auto_ack: bool,
    next_id: u16,
    connected: Option<Connected>,
    /// Identifiers of QoS 2 messages that were received and not yet released.
    pub(crate) unreleased: HashSet<PacketId>,
}

impl Client {
    /// A Network Connection on which nothing was sent.
    pub(crate) fn open(address: SocketAddr, version: ProtocolVersion) -> io::Result<Self> {
        Ok(Self::over(Box::new(transport::tcp(address)?), version))
    }

    /// The same over any transport.
    pub(crate) fn over(stream: Box<dyn Stream>, version: ProtocolVersion) -> Self {
        Self {
            stream,
            version,
            buffer: Vec::new(),
            inbox: VecDeque::new(),
            auto_ack: true,
            next_id: 0,
            connected: None,
            unreleased: HashSet::new(),
        }
    }

    /// The same from an address of this machine.
    pub(crate) fn open_from(
        from: SocketAddr,
        address: SocketAddr,
        version: ProtocolVersion,
    ) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &from)?;
        connect(&socket, &address)?;
        Ok(Self::over(Box::new(std::net::TcpStream::from(socket)), version))
    }

    /// What the CONNACK said.
    pub(crate) fn connected(&self) -> &Connected {
        self.connected.as_ref().expect("CONNACK came")
    }

    pub(crate) fn session_present(&self) -> bool {
        self.connected().session_present
    }

    /// A Packet Identifier that was not used yet (until they wrap around).
    pub(crate) fn next_id(&mut self) -> PacketId {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.next_id).expect("from 1")
    }

    /// Sends one packet; panics if the connection is broken.
    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        self.try_send(packet).expect("the connection stands");
    }

    pub(crate) fn try_send(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        codec::encode(packet, self.version, &mut bytes).expect("tests build what can be encoded");
        self.stream.write_all(&bytes)
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection stands");
    }

    /// The next packet; `None` after `timeout`, an error when the connection ends.
    pub(crate) fn next(&mut self, timeout: Duration) -> io::Result<Option<Received>> {
        let end = Instant::now() + timeout;
        loop {
            let decoded = codec::decode(&self.buffer, self.version, u32::MAX);
            if let Some((packet, used)) = decoded.expect("the broker sends what can be decoded") {
                let received = Received::from(&packet);
                self.buffer.drain(..used);
                return Ok(Some(received));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.read(left)?;
        }
    }

    fn read(&mut self, timeout: Duration) -> io::Result<()> {
        self.stream.wait_at_most(timeout.max(Duration::from_millis(1)))?;
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The next packet that is no message and no part of receiving one.
    pub(crate) fn answer(&mut self) -> Received {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.next(left).expect("the connection stands") {
                Some(received) => {
                    if let Some(answer) = self.sort(received) {
                        return answer;
                    }
                }
                None => panic!("no answer within {DEADLINE:?}"),
            }
        }
    }

    /// The next message, in the order received.
    pub(crate) fn message(&mut self) -> Message {
        match self.message_within(DEADLINE) {
            Some(message) => message,
            None => panic!("no message within {DEADLINE:?}"),
        }
    }

    /// The next message; `None` if none comes in time or the connection ends.
    pub(crate) fn message_within(&mut self, timeout: Duration) -> Option<Message> {
        self.try_message(timeout).ok().flatten()
    }

    /// The next message; `None` if none comes in time, an error when the connection ends.
    pub(crate) fn try_message(&mut self, timeout: Duration) -> io::Result<Option<Message>> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(Some(message));
            }
            let left = end.saturating_duration_since(Instant::now());
            let Some(received) = self.next(left)? else { return Ok(None) };
            match self.sort(received) {
                None | Some(Received::Disconnect(_)) => {}
                Some(other) => panic!("{other:?} instead of a message"),
            }
        }
    }

    /// Panics if a message comes within the quiet time.
    pub(crate) fn no_message(&mut self) {
        if let Some(message) = self.message_within(super::QUIET) {
            panic!("unexpected message {message:?}");
        }
    }

    /// Keeps a message (acknowledged, if so set); anything else is given back.
    fn sort(&mut self, received: Received) -> Option<Received> {
        match received {
            Received::Publish(message) => {
                self.take(message);
                None
            }
            Received::PubRel(packet_id, _) if self.auto_ack => {
                self.unreleased.remove(&packet_id);
                let _ = self.try_send(&Packet::PubComp(success(packet_id)));
                None
            }
            other => Some(other),
        }
    }

    fn take(&mut self, message: Message) {
        if !self.auto_ack {
            self.inbox.push_back(message);
            return;
        }
        // An acknowledgement that cannot be sent is the broker's loss: the next read will tell.
        match (message.qos, message.packet_id) {
            (QoS::AtLeastOnce, Some(packet_id)) => {
                self.inbox.push_back(message);
                let _ = self.try_send(&Packet::PubAck(success(packet_id)));
            }
            (QoS::ExactlyOnce, Some(packet_id)) => {
                if self.unreleased.insert(packet_id) {
                    self.inbox.push_back(message);
                }
                let _ = self.try_send(&Packet::PubRec(success(packet_id)));
            }
            _ => self.inbox.push_back(message),
        }
    }

    /// Subscribes to one filter and waits for SUBACK; panics unless that QoS is granted.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let reasons = self.subscribe_with(&[(filter, options)], None);
        assert_eq!(reasons, [granted(qos)], "subscription to {filter}");
    }

    /// Subscribes and gives the Reason Codes of SUBACK.
    pub(crate) fn subscribe_with(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        subscription_identifier: Option<u32>,
    ) -> Vec<ReasonCode> {
        let packet_id = self.next_id();
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_identifier,
            user_properties: Vec::new(),
            filters: filters.to_vec(),
        }));
        match self.answer() {
            Received::SubAck(id, reasons) if id == packet_id => reasons,
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// Unsubscribes and gives the Reason Codes of UNSUBACK.
    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<ReasonCode> {
        let packet_id = self.next_id();
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user_properties: Vec::new(),
            filters: filters.to_vec(),
        }));
        match self.answer() {
            Received::UnsubAck(id, reasons) if id == packet_id => reasons,
            other => panic!("{other:?} instead of UNSUBACK"),
        }
    }

    /// Publishes and completes the acknowledgement of the QoS; panics if it is refused.
    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) {
        let reason = self.publish_packet(&message(topic, payload.as_ref(), qos));
        assert!(!reason.is_error(), "PUBLISH to {topic} was refused: {reason:?}");
    }

    /// As [`Client::publish`], retained.
    pub(crate) fn publish_retained(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) {
        let publish = Publish { retain: true, ..message(topic, payload.as_ref(), qos) };
        let reason = self.publish_packet(&publish);
        assert!(!reason.is_error(), "PUBLISH to {topic} was refused: {reason:?}");
    }

    /// Publishes, with the next Packet Identifier where one is needed; the Reason Code of PUBACK
    /// or PUBREC.
    pub(crate) fn publish_packet(&mut self, publish: &Publish<'_>) -> ReasonCode {
        let packet_id = self.send_publish(publish);
        let Some(packet_id) = packet_id else { return ReasonCode::Success };
        let reason = match self.answer() {
            Received::PubAck(id, reason) if id == packet_id => return reason,
            Received::PubRec(id, reason) if id == packet_id => reason,
            other => panic!("{other:?} instead of the acknowledgement of {packet_id}"),
        };
        if !reason.is_error() {
            self.send(&Packet::PubRel(success(packet_id)));
            match self.answer() {
                Received::PubComp(id, ReasonCode::Success) if id == packet_id => {}
                other => panic!("{other:?} instead of PUBCOMP"),
            }
        }
        reason
    }

    /// Sends a PUBLISH and waits for nothing.
    pub(crate) fn send_publish(&mut self, publish: &Publish<'_>) -> Option<PacketId> {
        let mut publish = publish.clone();
        if publish.qos != QoS::AtMostOnce && publish.packet_id.is_none() {
            publish.packet_id = Some(self.next_id());
        }
        let packet_id = publish.packet_id;
        self.send(&Packet::Publish(publish));
        packet_id
    }

    /// PINGREQ and its answer; everything sent before was handled then.
    pub(crate) fn ping(&mut self) {
        self.send(&Packet::PingReq);
        assert_eq!(self.answer(), Received::PingResp);
    }

    /// A normal DISCONNECT; waits until the broker closed the connection.
    pub(crate) fn disconnect(self) {
        self.disconnect_with(ReasonCode::Success);
    }

    pub(crate) fn disconnect_with(mut self, reason: ReasonCode) {
        self.send(&Packet::Disconnect(Disconnect::new(reason)));
        self.wait_closed();
    }

    /// Reads until the broker closes the connection; the Reason Code of its DISCONNECT, if any.
    pub(crate) fn wait_closed(&mut self) -> Option<ReasonCode> {
        let end = Instant::now() + DEADLINE;
        let mut reason = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.next(left) {
                Ok(Some(Received::Disconnect(code))) => reason = Some(code),
                Ok(Some(_)) => {}
                Ok(None) => panic!("the connection was not closed within {DEADLINE:?}"),
                Err(_) => return reason,
            }
        }
    }
}

/// A PUBLISH without anything special.
pub(crate) fn message<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: None,
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ledgermq_core::packet::ForwardedProperties::default(),
        payload,
    }
}

/// An acknowledgement without complaint.
pub(crate) fn success(packet_id: PacketId) -> Ack<'static> {
    Ack::new(packet_id, ReasonCode::Success)
}

/// The Reason Code of SUBACK that grants `qos`.
pub(crate) fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
