use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Connection, Event, MqttOptions};

use crate::support::DEADLINE;
use crate::support::broker::Broker;

struct Peer {
    client: Client,
    connection: Connection,
}

impl Peer {
    fn connect(broker: &Broker, name: &str) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", broker.mqtt.port());
        options.set_keep_alive(Duration::from_secs(30));
        let (client, connection) = Client::new(options, 100);
        let mut peer = Self { client, connection };
        peer.wait(|packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        peer
    }

    /// Turns the connection until a packet that was received gives something.
    fn wait<T>(&mut self, mut found: impl FnMut(&Packet) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.connection.recv_timeout(left).expect("an event in time");
            if let Event::Incoming(packet) = event.expect("the connection stands")
                && let Some(found) = found(&packet)
            {
                return found;
            }
        }
    }

    fn publish(&mut self, qos: QoS, payload: &str) {
        self.client.publish("r/x", qos, false, payload.to_owned()).unwrap();
        let answered = |packet: &Packet| match (qos, packet) {
            (QoS::AtLeastOnce, Packet::PubAck(_)) | (QoS::ExactlyOnce, Packet::PubComp(_)) => {
                Some(())
            }
            _ => None,
        };
        if qos == QoS::AtMostOnce {
            // Sent when the connection is turned; there is nothing to wait for but the next ping.
            while self.connection.recv_timeout(Duration::from_millis(20)).is_ok() {}
        } else {
            self.wait(answered);
        }
    }
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn rumqttc_at_every_qos_in_mqtt_5() {
    let broker = Broker::run();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut subscriber = Peer::connect(&broker, "rumqttc-sub");
        subscriber.client.subscribe("r/+", qos).unwrap();
        subscriber.wait(|packet| matches!(packet, Packet::SubAck(_)).then_some(()));
        let mut publisher = Peer::connect(&broker, "rumqttc-pub");
        for n in 0..20 {
            publisher.publish(qos, &n.to_string());
            let (level, payload) = subscriber.wait(|packet| match packet {
                Packet::Publish(publish) => Some((publish.qos, publish.payload.clone())),
                _ => None,
            });
            assert_eq!((level, payload), (qos, n.to_string().into()));
        }
    }
}
