"""aiomqtt against the broker at 127.0.0.1:PORT: every QoS in both versions, and what a session keeps.

Arguments: PORT [tcp|websockets [CA_FILE]]; with a file it speaks TLS and trusts what stands there.
Prints one line a case and exits 0 if all hold.
"""

import asyncio
import os
import socket
import ssl
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT = int(sys.argv[1])
TRANSPORT = sys.argv[2] if len(sys.argv) > 2 else "tcp"
CA_FILE = sys.argv[3] if len(sys.argv) > 3 else None
WAIT = 20
VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}


def client(name, version, keep=False, **arguments):
    if version == "5":
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if keep else 0
        arguments.update(clean_start=not keep, properties=properties)
    else:
        arguments["clean_session"] = not keep
    if CA_FILE:
        arguments["tls_context"] = ssl.create_default_context(cafile=CA_FILE)
    if TRANSPORT == "websockets":
        arguments["websocket_path"] = "/mqtt"
    return aiomqtt.Client(
        "127.0.0.1",
        PORT,
        identifier=name,
        protocol=VERSIONS[version],
        transport=TRANSPORT,
        timeout=WAIT,
        # See paho_matrix.py: this client stands on that one.
        keepalive=2,
        **arguments,
    )


async def take(subscriber, count):
    messages = []
    async with asyncio.timeout(WAIT):
        async for message in subscriber.messages:
            messages.append(message)
            if len(messages) == count:
                return messages


async def delivery(version, qos, granted):
    async with client("aio-sub", version) as subscriber, client("aio-pub", version) as publisher:
        await subscriber.subscribe("aio/+", qos=granted)
        for n in range(30):
            await publisher.publish("aio/x", str(n), qos=qos)
        messages = await take(subscriber, 30)
        assert [message.payload for message in messages] == [str(n).encode() for n in range(30)]
        assert {message.qos for message in messages} == {min(qos, granted)}


async def retained(version):
    async with client("aio-pub", version) as publisher, client("aio-sub", version) as subscriber:
        await publisher.publish("aio-kept", "value", qos=1, retain=True)
        await subscriber.subscribe("aio-kept", qos=1)
        (message,) = await take(subscriber, 1)
        assert message.retain and message.payload == b"value"
        await publisher.publish("aio-kept", "", qos=1, retain=True)


async def offline(version, qos):
    # Its session stays when the script has ended.
    name = f"aio-sleeper-{version}-{qos}-{TRANSPORT}-{PORT}"
    async with client(name, version, keep=True) as sleeper:
        await sleeper.subscribe("aio-news", qos=2)
    async with client("aio-pub", version) as publisher:
        for n in range(10):
            await publisher.publish("aio-news", str(n), qos=qos)
    async with client(name, version, keep=True) as sleeper:
        messages = await take(sleeper, 10)
    assert [message.payload for message in messages] == [str(n).encode() for n in range(10)]


async def will(version):
    last = aiomqtt.Will("aio-will", "gone", qos=1)
    async with client("aio-watcher", version) as watcher:
        await watcher.subscribe("aio-will", qos=1)
        try:
            async with client("aio-mortal", version, will=last) as mortal:
                # Whatever is wrapped around it.
                with socket.socket(fileno=os.dup(mortal._client.socket().fileno())) as raw:
                    raw.shutdown(socket.SHUT_RDWR)
                await mortal.publish("aio/x", "never", qos=1)
        except (aiomqtt.MqttError, OSError, ValueError):
            pass
        (message,) = await take(watcher, 1)
        assert message.payload == b"gone"


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
