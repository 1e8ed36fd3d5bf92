//! SIGTERM: nobody is left without an answer.

use std::net::TcpStream;

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::Broker;
use crate::support::client::{Options, message};
use crate::support::packets::Received;

#[test]
fn clients_are_told_and_what_was_acknowledged_is_there_after_the_restart() {
    let mut broker = Broker::run();
    let mut sleeper = Options::v5("sleeper").persistent().connect(broker.mqtt);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    drop(sleeper);
    let mut v5 = Options::v5("v5").connect(broker.mqtt);
    let mut v311 = Options::v311("v311").connect(broker.mqtt);
    for n in 0..10 {
        v5.publish("t", n.to_string(), QoS::AtLeastOnce);
    }
    broker.terminate();
    assert_eq!(v5.wait_closed(), Some(ReasonCode::ServerShuttingDown));
    assert_eq!(v311.wait_closed(), None);
    let status = broker.wait_end();
    assert!(status.success(), "{status}: {}", broker.stderr());
    assert!(TcpStream::connect(broker.mqtt).is_err(), "nobody listens any more");
    broker.start();
    let mut sleeper = Options::v5("sleeper").persistent().connect(broker.mqtt);
    assert!(sleeper.session_present());
    for n in 0..10 {
        assert_eq!(sleeper.message().text(), n.to_string());
    }
}

#[test]
fn messages_on_their_way_at_the_stop_are_acknowledged_or_were_never_promised() {
    let mut broker = Broker::run();
    let mut sleeper = Options::v5("sleeper").persistent().connect(broker.mqtt);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    drop(sleeper);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    for n in 0..20 {
        publisher.send_publish(&message("t", n.to_string().as_bytes(), QoS::AtLeastOnce));
    }
    broker.terminate();
    let mut acknowledged = 0;
    while let Ok(Some(received)) = publisher.next(crate::support::DEADLINE) {
        if let Received::PubAck(_, reason) = received {
            assert!(!reason.is_error());
            acknowledged += 1;
        }
    }
    assert!(broker.wait_end().success());
    broker.start();
    let mut sleeper = Options::v5("sleeper").persistent().connect(broker.mqtt);
    for n in 0..acknowledged {
        assert_eq!(sleeper.message().text(), n.to_string());
    }
}
