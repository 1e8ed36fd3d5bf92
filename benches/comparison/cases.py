"""What is run, and which figures are told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MQTT_VERSION = "3.1.1"
WARM_UP_SECONDS = 1
STORED = 50_000
"""Messages of the cases that store."""
STORED_BY_SLOW = 5_000
"""The same for a broker that syncs message by message: with all of them it would take minutes."""
CONNECTIONS = 10_000
FIXED_TIME_LIMIT = 240.0
"""Seconds that a load of a fixed size may take."""
TRAFFIC_TIME_SPARE = 60.0
"""Seconds that traffic may take to connect and to come to its end."""


@dataclass(frozen=True)
class Case:
    """A load, as arguments of `ledgermq bench`."""

    key: str
    title: str
    load: str
    arguments: tuple[str, ...] = ()
    needs_sessions: bool = False
    """Whether it is beyond a relay: sessions that wait, retained messages."""
    is_stored: bool = False
    """Whether its size is a number of stored messages."""

    @property
    def is_traffic(self) -> bool:
        """Whether it runs for a time, not until all is done."""
        return self.load == "pubsub"

    def stored(self, is_slow: bool) -> int:
        """How many messages are stored."""
        return STORED_BY_SLOW if is_slow else STORED

    def command(self, seconds: float, is_slow: bool) -> list[str]:
        """Arguments behind `ledgermq bench`, without those that name the broker."""
        command = [self.load, *self.arguments, "--mqtt", MQTT_VERSION]
        if self.is_traffic:
            command += ["--seconds", f"{seconds:g}", "--warm-up", str(WARM_UP_SECONDS)]
        if self.is_stored:
            command += ["--count", str(self.stored(is_slow))]
        return command

    def time_limit(self, seconds: float) -> float:
        """Seconds after which the load is given up."""
        if self.is_traffic:
            return seconds + WARM_UP_SECONDS + TRAFFIC_TIME_SPARE
        return FIXED_TIME_LIMIT


def _traffic(key: str, title: str, arguments: str) -> Case:
    return Case(key, title, "pubsub", tuple(arguments.split()))


TRAFFIC = (
    _traffic("q0-1to1", "QoS 0, one to one", "--qos 0 --size 100 --window 1000"),
    _traffic("q1-1to1", "QoS 1, one to one", "--qos 1 --size 100 --window 100"),
    _traffic("q0-10pairs", "QoS 0, 10 pairs", "--qos 0 --size 100 --publishers 10 --window 1000"),
    _traffic("q1-10pairs", "QoS 1, 10 pairs", "--qos 1 --size 100 --publishers 10 --window 100"),
    _traffic(
        "q1-fanin",
        "QoS 1, fan-in 50 to 1",
        "--layout fan-in --qos 1 --size 100 --publishers 50 --subscribers 1 --window 20",
    ),
    _traffic(
        "q0-fanout",
        "QoS 0, fan-out 1 to 200",
        "--layout fan-out --qos 0 --size 100 --publishers 1 --subscribers 200 --window 1000",
    ),
    _traffic("q2-10pairs", "QoS 2, 10 pairs", "--qos 2 --size 100 --publishers 10 --window 100"),
    _traffic(
        "q1-1kib", "QoS 1, 10 pairs, 1 KiB", "--qos 1 --size 1024 --publishers 10 --window 100"
    ),
)
OFFLINE = Case(
    "offline",
    "offline, 10 sessions, QoS 1",
    "offline",
    ("--sessions", "10", "--qos", "1", "--size", "100", "--window", "100"),
    needs_sessions=True,
    is_stored=True,
)
RETAINED = Case(
    "retained",
    f"retained, {STORED:,} by one wildcard",
    "retained",
    # A broker may file what it has acknowledged a little later; reading is what is measured.
    ("--size", "100", "--window", "100", "--pause", "1"),
    needs_sessions=True,
    is_stored=True,
)
LATENCY = _traffic(
    "latency",
    "QoS 1, 10 pairs, 2,000 msg/s",
    "--qos 1 --size 100 --publishers 10 --window 100 --rate 2000",
)
CONNECT = Case(
    "connect",
    f"{CONNECTIONS:,} connects, 100 at once",
    "connect",
    ("--count", str(CONNECTIONS), "--at-once", "100"),
)
# Connects come first: they are counted together with what the load before them left to be done.
MATRIX = (CONNECT, *TRAFFIC, OFFLINE, RETAINED, LATENCY)


@dataclass(frozen=True)
class Figure:
    """One number of a case's result."""

    case: Case
    path: tuple[str, ...]
    unit: str
    label: str = ""
    is_less_better: bool = False

    @property
    def title(self) -> str:
        """What stands before its row."""
        return f"{self.case.title}, {self.label}" if self.label else self.case.title

    @property
    def is_of_size(self) -> bool:
        """Whether it grows with the number of stored messages."""
        return self.case.is_stored and self.unit == "ms"

    def of(self, result: Mapping[str, Any]) -> float | None:
        """The number; `None` where the generator could not tell it."""
        value: Any = result
        for step in self.path:
            if not isinstance(value, Mapping):
                return None
            value = value.get(step)
        return float(value) if isinstance(value, (int, float)) else None


RATES = (
    *(Figure(case, ("delivered_per_second",), "msg/s") for case in TRAFFIC),
    Figure(OFFLINE, ("stored_per_second",), "msg/s", "stored"),
    Figure(OFFLINE, ("drained_per_second",), "msg/s", "drained"),
    Figure(RETAINED, ("read_milliseconds",), "ms", "read", is_less_better=True),
    Figure(CONNECT, ("connected_per_second",), "connects/s"),
    Figure(CONNECT, ("effort", "broker_cpu_us"), "CPU us each", "cost", is_less_better=True),
)
COSTS = (
    *(Figure(case, ("effort", "broker_cpu_us"), "us/msg", is_less_better=True) for case in TRAFFIC),
    *(
        Figure(case, ("effort", "own_cores"), "cores", "load generator", is_less_better=True)
        for case in TRAFFIC
    ),
    Figure(OFFLINE, ("storing", "broker_cpu_us"), "us/msg", "stored", is_less_better=True),
    Figure(OFFLINE, ("draining", "broker_cpu_us"), "us/msg", "drained", is_less_better=True),
    Figure(RETAINED, ("storing", "broker_cpu_us"), "us/msg", "stored", is_less_better=True),
    Figure(RETAINED, ("reading", "broker_cpu_us"), "us/msg", "read", is_less_better=True),
    Figure(LATENCY, ("effort", "broker_cpu_us"), "us/msg", is_less_better=True),
)
LATENCIES = (
    Figure(LATENCY, ("delivered_per_second",), "msg/s", "delivered"),
    Figure(LATENCY, ("ack_latency_us", "p50"), "us", "publish to ack, p50", True),
    Figure(LATENCY, ("ack_latency_us", "p99"), "us", "publish to ack, p99", True),
    Figure(LATENCY, ("latency_us", "p50"), "us", "delivery, p50", True),
    Figure(LATENCY, ("latency_us", "p99"), "us", "delivery, p99", True),
    Figure(LATENCY, ("send_lag_us", "p99"), "us", "generator late, p99", True),
)
BLEMISHES = ("lost", "duplicates", "out_of_order", "refused")
"""Counts of a result that ought to be 0."""


def select(keys: Sequence[str] | None) -> list[Case]:
    """The cases with those keys in the matrix's order; all of them without keys."""
    if keys is None:
        return list(MATRIX)
    unknown = sorted(set(keys) - {case.key for case in MATRIX})
    if unknown:
        known = ", ".join(case.key for case in MATRIX)
        raise ValueError(f"no such case: {', '.join(unknown)}; there are: {known}")
    return [case for case in MATRIX if case.key in keys]
