"""gmqtt against the broker at 127.0.0.1:PORT: every QoS in both versions, and what a session keeps.

Arguments: PORT [tcp [CA_FILE]]; with a file it speaks TLS and trusts what stands there. (This client
has no WebSocket.) Prints one line a case and exits 0 if all hold.
"""

import asyncio
import ssl
import sys

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

PORT = int(sys.argv[1])
CA_FILE = sys.argv[3] if len(sys.argv) > 3 else None
WAIT = 20
# No more than may be under way: this client does not wait for room.
MESSAGES = 15
VERSIONS = {"3.1.1": MQTTv311, "5": MQTTv50}


class Peer:
    """A connected client whose answers and messages are queues."""

    def __init__(self, name, version, keep=False, will=None):
        properties = {"session_expiry_interval": 3600} if keep and version == "5" else {}
        self.version = version
        self.client = gmqtt.Client(name, clean_session=not keep, will_message=will, **properties)
        self.client.set_config({"reconnect_retries": 0})
        self.messages, self.subscribed = asyncio.Queue(), asyncio.Queue()
        self.client.on_message = self.on_message
        self.client.on_subscribe = lambda _client, _mid, qos, _properties: self.subscribed.put_nowait(qos)

    async def on_message(self, _client, topic, payload, qos, properties):
        self.messages.put_nowait((payload, qos, properties.get("retain")))
        return 0

    async def connect(self):
        context = ssl.create_default_context(cafile=CA_FILE) if CA_FILE else False
        await asyncio.wait_for(
            self.client.connect("127.0.0.1", PORT, ssl=context, version=VERSIONS[self.version]), WAIT
        )
        return self

    async def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos=qos)
        granted = await asyncio.wait_for(self.subscribed.get(), WAIT)
        assert list(granted) == [qos], granted

    async def end(self):
        try:
            await self.client.disconnect()
        except ssl.SSLError:
            # An answer that crosses its close_notify is a fault to asyncio, though TLS allows it.
            pass

    async def message(self):
        return await asyncio.wait_for(self.messages.get(), WAIT)


async def delivery(version, qos, granted):
    subscriber = await Peer("g-sub", version).connect()
    await subscriber.subscribe("g/+", granted)
    publisher = await Peer("g-pub", version).connect()
    for n in range(MESSAGES):
        publisher.client.publish("g/x", str(n), qos=qos)
    for n in range(MESSAGES):
        payload, came, _ = await subscriber.message()
        assert (payload, came) == (str(n).encode(), min(qos, granted)), (payload, came, n)
    await publisher.end()
    await subscriber.end()


async def retained(version):
    publisher = await Peer("g-pub", version).connect()
    publisher.client.publish("g-kept", "value", qos=1, retain=True)
    subscriber = await Peer("g-sub", version).connect()
    await subscriber.subscribe("g-kept", 1)
    payload, _, retain = await subscriber.message()
    assert payload == b"value" and retain, (payload, retain)
    publisher.client.publish("g-kept", "", qos=1, retain=True)
    await publisher.end()
    await subscriber.end()


async def offline(version, qos):
    # Its session stays when the script has ended.
    name = f"g-sleeper-{version}-{qos}-{PORT}"
    sleeper = await Peer(name, version, keep=True).connect()
    await sleeper.subscribe("g-news", 2)
    await sleeper.end()
    watcher = await Peer("g-sub", version).connect()
    await watcher.subscribe("g-news", 2)
    publisher = await Peer("g-pub", version).connect()
    for n in range(10):
        publisher.client.publish("g-news", str(n), qos=qos)
    for _ in range(10):
        await watcher.message()
    await publisher.end()
    await watcher.end()
    sleeper = await Peer(name, version, keep=True).connect()
    for n in range(10):
        payload, came, _ = await sleeper.message()
        assert (payload, came) == (str(n).encode(), qos), (payload, came, n)
    await sleeper.end()


async def will(version):
    watcher = await Peer("g-sub", version).connect()
    await watcher.subscribe("g-will", 1)
    mortal = await Peer("g-mortal", version, will=gmqtt.Message("g-will", "gone", qos=1)).connect()
    mortal.client._connection._transport.abort()
    payload, _, _ = await watcher.message()
    assert payload == b"gone", payload
    await watcher.end()


async def main():
    async def case(function, *arguments):
        await function(*arguments)
        print("ok", function.__name__, *arguments, flush=True)

    for version in VERSIONS:
        for qos in range(3):
            for granted in range(3):
                await case(delivery, version, qos, granted)
        await case(retained, version)
        await case(offline, version, 1)
        await case(offline, version, 2)
        await case(will, version)


asyncio.run(main())
