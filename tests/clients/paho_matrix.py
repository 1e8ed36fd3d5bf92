"""paho-mqtt against the broker at 127.0.0.1:PORT: every QoS in both versions, both ways.

Arguments: PORT [tcp|websockets [CA_FILE]]; with a file it speaks TLS and trusts what stands there.
Prints one line a case and exits 0 if all hold.
"""

import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT = int(sys.argv[1])
TRANSPORT = sys.argv[2] if len(sys.argv) > 2 else "tcp"
CA_FILE = sys.argv[3] if len(sys.argv) > 3 else None
WAIT = 20
VERSIONS = {"3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


class Peer:
    """A connected client whose answers and messages are queues."""

    def __init__(self, name, version, keep=False, will=None):
        self.messages, self.connected, self.subscribed = queue.Queue(), queue.Queue(), queue.Queue()
        arguments = {"client_id": name, "protocol": version, "transport": TRANSPORT}
        if version != mqtt.MQTTv5:
            arguments["clean_session"] = not keep
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **arguments)
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        self.client.on_connect = lambda _c, _d, flags, reason, _p: self.connected.put((flags, reason))
        self.client.on_subscribe = lambda _c, _d, _mid, reasons, _p: self.subscribed.put(reasons)
        if TRANSPORT == "websockets":
            self.client.ws_set_options(path="/mqtt")
        if CA_FILE:
            self.client.tls_set(ca_certs=CA_FILE)
        if will:
            self.client.will_set(*will)
        # What TLS has decrypted already waits in this client until its socket tells of more, with
        # any broker: answers to pings do.
        arguments = {"keepalive": 2}
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600 if keep else 0
            arguments.update(clean_start=not keep, properties=properties)
        self.client.connect("127.0.0.1", PORT, **arguments)
        self.client.loop_start()
        self.flags, reason = self.connected.get(timeout=WAIT)
        assert not reason.is_failure, reason

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        (reason,) = self.subscribed.get(timeout=WAIT)
        assert reason.value == qos, reason

    def publish(self, topic, payload, qos, retain=False):
        self.client.publish(topic, payload, qos, retain).wait_for_publish(WAIT)

    def message(self):
        return self.messages.get(timeout=WAIT)

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


def delivery(publish_version, subscribe_version, qos, granted):
    subscriber = Peer("paho-sub", VERSIONS[subscribe_version])
    subscriber.subscribe("paho/+", granted)
    publisher = Peer("paho-pub", VERSIONS[publish_version])
    for n in range(30):
        publisher.publish("paho/x", str(n), qos)
    for n in range(30):
        message = subscriber.message()
        assert message.payload == str(n).encode(), (message.payload, n)
        assert message.qos == min(qos, granted), message.qos
    assert subscriber.messages.empty()
    publisher.end()
    subscriber.end()


def retained(version):
    publisher = Peer("paho-pub", VERSIONS[version])
    publisher.publish("paho-kept", "value", 1, retain=True)
    subscriber = Peer("paho-sub", VERSIONS[version])
    subscriber.subscribe("paho-kept", 1)
    message = subscriber.message()
    assert message.retain and message.payload == b"value"
    publisher.publish("paho-kept", "", 1, retain=True)
    publisher.end()
    subscriber.end()


def offline(version, qos):
    # Its session stays when the script has ended.
    name = f"paho-sleeper-{version}-{qos}-{TRANSPORT}-{PORT}"
    sleeper = Peer(name, VERSIONS[version], keep=True)
    sleeper.subscribe("paho-news", 2)
    sleeper.end()
    publisher = Peer("paho-pub", VERSIONS[version])
    for n in range(10):
        publisher.publish("paho-news", str(n), qos)
    publisher.end()
    sleeper = Peer(name, VERSIONS[version], keep=True)
    assert sleeper.flags.session_present
    messages = [sleeper.message() for _ in range(10)]
    expected = [str(n).encode() for n in range(10)]
    came = [(message.payload, message.qos, message.dup, message.mid) for message in messages]
    assert [payload for payload, *_ in came] == expected, came
    sleeper.end()


def will(version):
    watcher = Peer("paho-watcher", VERSIONS[version])
    watcher.subscribe("paho-will", 1)
    mortal = Peer("paho-mortal", VERSIONS[version], will=("paho-will", "gone", 1, False))
    mortal.client.loop_stop()
    mortal.client.socket().close()
    assert watcher.message().payload == b"gone"
    watcher.end()


def shared(version, qos):
    members = [Peer(f"paho-member-{n}", VERSIONS[version]) for n in range(3)]
    for member in members:
        member.subscribe(f"$share/paho-{version}-{qos}/paho-work", qos)
    publisher = Peer("paho-pub", VERSIONS[version])
    for n in range(30):
        publisher.publish("paho-work", str(n), qos)
    came = [int(member.message().payload) for member in members for _ in range(10)]
    assert sorted(came) == list(range(30)), came
    for peer in [publisher, *members]:
        assert peer.messages.empty()
        peer.end()


def case(function, *arguments):
    function(*arguments)
    print("ok", function.__name__, *arguments, flush=True)


for publish_version in VERSIONS:
    for subscribe_version in VERSIONS:
        for qos in range(3):
            for granted in range(3):
                case(delivery, publish_version, subscribe_version, qos, granted)
for version in VERSIONS:
    case(retained, version)
    case(offline, version, 1)
    case(offline, version, 2)
    case(will, version)
    case(shared, version, 1)
    case(shared, version, 2)
