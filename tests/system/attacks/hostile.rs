//! A broker that is attacked by hand-made packets while an honest client looks on.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::time::Instant;

use ledgermq_core::packet::{ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::support::DEADLINE;
use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Client, Options};
use crate::support::packets::Received;

/// All versions that the broker speaks.
pub(super) const VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

/// How the broker answered an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It closed the connection without a word.
    Silence,
    /// CONNACK with an error, and the end of the connection.
    Refused(ReasonCode),
    /// DISCONNECT, and the end of the connection.
    Disconnect(ReasonCode),
    /// It goes on serving the client.
    Served,
}

use Answer::{Disconnect, Silence};

/// What a client of that version is told when its connection ends for `reason`: before MQTT 5
/// nothing.
pub(super) fn ended(version: ProtocolVersion, reason: ReasonCode) -> Answer {
    if version == ProtocolVersion::V5 { Disconnect(reason) } else { Silence }
}

/// A broker with a client that was connected before all attacks, and receives everything.
pub(super) struct Target {
    pub(super) broker: Broker,
    bystander: RefCell<Client>,
    clients: Cell<u32>,
}

impl Target {
    pub(super) fn new() -> Self {
        Self::with(BrokerOptions::default())
    }

    pub(super) fn with(options: BrokerOptions) -> Self {
        Self::of(options.start())
    }

    pub(super) fn of(broker: Broker) -> Self {
        let mut bystander = Options::v5("bystander").connect(broker.mqtt);
        bystander.subscribe("#", QoS::AtMostOnce);
        Self { broker, bystander: RefCell::new(bystander), clients: Cell::new(0) }
    }

    /// A Client Identifier that nobody has.
    pub(super) fn name(&self) -> String {
        self.clients.set(self.clients.get() + 1);
        format!("attacker-{}", self.clients.get())
    }

    /// The answer to the first bytes of a connection.
    pub(super) fn first(&self, version: ProtocolVersion, bytes: &[u8]) -> Answer {
        let mut client = Client::open(self.broker.mqtt, version).unwrap();
        client.send_bytes(bytes);
        answer(&mut client)
    }

    /// The answer to the first bytes of a client that has its CONNACK.
    pub(super) fn then(&self, version: ProtocolVersion, bytes: &[u8]) -> Answer {
        let name = self.name();
        let mut client = Options::new(version, &name).connect(self.broker.mqtt);
        client.send_bytes(bytes);
        answer(&mut client)
    }

    /// What the bystander received since it was last asked.
    pub(super) fn overheard(&self) -> Vec<String> {
        let mut bystander = self.bystander.borrow_mut();
        let mut publisher = Options::v5("publisher").connect(self.broker.mqtt);
        // QoS 1: published behind everything that was answered before.
        publisher.publish("bystander", "is served", QoS::AtLeastOnce);
        publisher.disconnect();
        let mut topics = Vec::new();
        loop {
            let message = bystander.message();
            if message.topic == "bystander" {
                return topics;
            }
            topics.push(message.topic);
        }
    }

    /// The broker stands, serves who was there before, and published nothing of what it refused.
    pub(super) fn is_unharmed(&mut self) {
        assert_eq!(self.overheard(), Vec::<String>::new(), "what was refused came through");
        self.serves();
    }

    /// The broker stands, and serves who was there before.
    pub(super) fn serves(&mut self) {
        self.overheard();
        self.bystander.borrow_mut().ping();
        assert!(self.broker.ended().is_none());
        let stderr = self.broker.stderr();
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// How the broker answers what `client` sent: reads until the connection ends, or until a PINGREQ
/// behind it all is answered.
pub(super) fn answer(client: &mut Client) -> Answer {
    // Where the broker has closed already, this fails and reading tells why.
    let _ = client.try_send(&ledgermq_core::packet::Packet::PingReq);
    let end = Instant::now() + DEADLINE;
    let mut answer = Silence;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match client.next(left) {
            Ok(Some(Received::PingResp)) => return Answer::Served,
            Ok(Some(Received::Disconnect(reason))) => answer = Disconnect(reason),
            Ok(Some(Received::ConnAck(connack))) if connack.reason.is_error() => {
                answer = Answer::Refused(connack.reason);
            }
            Ok(Some(_)) => {}
            Ok(None) => panic!("neither answered nor closed within {DEADLINE:?}"),
            Err(error) => {
                let is_end = matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                );
                assert!(is_end, "{error}");
                return answer;
            }
        }
    }
}
