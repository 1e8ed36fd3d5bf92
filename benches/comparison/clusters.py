"""Brokers of several nodes on this machine, and of one: how the nodes are set and started."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .process import READY_SECONDS, ComparisonError, at, free_port, output_of

NODES = 3
POLL_SECONDS = 0.1


# ---- LedgerMQ -----------------------------------------------------------------------------------


def ledgermq_serve(program: Path, directory: Path, port: int) -> list[str]:
    """The command that starts one node, with its defaults."""
    config = directory / "ledgermq.toml"
    config.write_text('[log]\ndurability = "fsync"\n', encoding="utf-8")
    serve = [str(program), "serve", "--config", str(config)]
    data = ["--data-dir", str(directory / "data")]
    return [*serve, *data, "--mqtt", at(port), "--http", at(free_port())]


def ledgermq(program: Path, directory: Path, ports: Sequence[int]) -> Iterator[list[str]]:
    """Founds a cluster, lets the others join by tokens, and waits until all of them vote."""
    first = directory / "node1"
    addresses = [at(free_port()) for _ in ports]
    for place, (port, address) in enumerate(zip(ports, addresses, strict=True)):
        node = directory / f"node{place + 1}"
        node.mkdir()
        serve = ledgermq_serve(program, node, port)
        serve += ["--node-id", str(place + 1), "--cluster", address]
        if place > 0:
            token = _ask(program, first, ["token"], lambda text: text.strip() or None)
            serve += ["--join", addresses[0], "--join-token", token]
        yield serve
    _ask(program, first, ["status", "--output", "json"], lambda text: voters(text, len(ports)))


def voters(status: str, wanted: int) -> str | None:
    """The text of `cluster status`, if so many nodes vote and are there."""
    try:
        quorum = json.loads(status)["quorum"]
        all_there = quorum["voters"] == quorum["online"] == wanted
    except (ValueError, KeyError, TypeError):
        return None
    return status if all_there else None


def _ask(program: Path, node: Path, question: list[str], told: Callable[[str], str | None]) -> str:
    """Asks a node until it tells what is wanted."""
    command = [str(program), "cluster", *question, "--data-dir", str(node / "data")]
    end = time.monotonic() + READY_SECONDS
    while True:
        answer = output_of(command, only_if_well=True)
        wanted = told(answer) if answer is not None else None
        if wanted is not None:
            return wanted
        if time.monotonic() > end:
            text = (output_of(command) or "nothing").strip()
            raise ComparisonError(f"the cluster is not there in {READY_SECONDS:.0f} s: {text}")
        time.sleep(POLL_SECONDS)


# ---- NATS ---------------------------------------------------------------------------------------


def nats(
    program: str, name: str, directory: Path, ports: Sequence[int], is_synced: bool
) -> Iterator[list[str]]:
    """Servers that store on disk; several of them are one cluster and keep three replicas."""
    routes = [free_port() for _ in ports]
    for place, port in enumerate(ports):
        node = directory / f"node{place + 1}"
        node.mkdir()
        cluster = nats_cluster(routes, place) if len(ports) > 1 else ""
        server = f"{name}-{place + 1}"
        text = nats_config(server, port, free_port(), node / "data", is_synced, len(ports))
        config = node / "nats.conf"
        config.write_text(text + cluster, encoding="utf-8")
        yield [program, "-c", str(config)]


def nats_config(
    name: str, mqtt: int, port: int, data: Path, is_synced: bool, replicas: int = 1
) -> str:
    """Settings of NATS: JetStream on disk and an MQTT listener."""
    sync = "  sync_interval: always\n" if is_synced else ""
    copies = f"  stream_replicas: {replicas}\n" if replicas > 1 else ""
    return (
        f"server_name: {name}\n"
        f'host: "127.0.0.1"\nport: {port}\n'
        f'jetstream {{\n  store_dir: "{data}"\n{sync}}}\n'
        f'mqtt {{\n  host: "127.0.0.1"\n  port: {mqtt}\n  max_ack_pending: 1000\n{copies}}}\n'
    )


def nats_cluster(routes: Sequence[int], place: int) -> str:
    """The part of a server's settings that makes it one of several."""
    others = ", ".join(f'"nats-route://{at(port)}"' for port in routes)
    return (
        f'cluster {{\n  name: compare\n  listen: "{at(routes[place])}"\n  routes: [{others}]\n}}\n'
    )
