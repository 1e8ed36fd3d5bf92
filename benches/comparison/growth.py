"""How the cost of a message grows with what a broker holds."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .brokers import OWN, Broker, Found, find
from .command import raise_file_limit
from .interrupt import INTERRUPTS
from .load import generate
from .process import ComparisonError, say, succeeds
from .schedule import Started

TIME_LIMIT = 600.0
"""Seconds that one load may take."""
TRAFFIC = "pubsub --qos 1 --publishers 10 --size 100 --window 100"
SUBSCRIPTIONS_EACH = 10_000
"""Of one session that is there only to hold subscriptions."""


@dataclass(frozen=True)
class Point:
    """One measurement: what is there before, and what is measured."""

    size: int
    load: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    """One quantity that grows."""

    title: str
    points: tuple[Point, ...]
    cost: tuple[str, ...] = ("effort", "broker_cpu_us")


def _traffic(size: int, arguments: str, *before: str) -> Point:
    return Point(size, f"{TRAFFIC} {arguments}", before)


def _held(count: int) -> str:
    """Persistent sessions that hold so many subscriptions together."""
    sessions = count // min(count, SUBSCRIPTIONS_EACH)
    each = min(count, SUBSCRIPTIONS_EACH)
    return f"connect --persistent --leave --count {sessions} --subscriptions {each}"


CURVES = (
    Curve(
        "subscriptions of each of 10 subscribers, messages to all of them in turn",
        tuple(_traffic(size, f"--topics {size}") for size in (1, 10, 1_000, 10_000)),
    ),
    Curve(
        "distinct topics, 10 subscribers with one wildcard each",
        tuple(
            _traffic(size, f"--wildcard --topics {size // 10}")
            for size in (10, 1_000, 10_000, 100_000)
        ),
    ),
    Curve(
        "subscriptions of other, persistent sessions",
        tuple(
            _traffic(size, "", *([_held(size)] if size else []))
            for size in (0, 10_000, 100_000, 1_000_000)
        ),
    ),
    Curve(
        "retained messages of other topics",
        tuple(
            _traffic(size, "", *([f"retained --keep --window 1000 --count {size}"] if size else []))
            for size in (0, 10_000, 100_000, 1_000_000)
        ),
    ),
    Curve(
        "retained messages, each read by one wildcard",
        tuple(
            Point(size, f"retained --window 1000 --count {size}")
            for size in (10_000, 100_000, 1_000_000)
        ),
        ("reading", "broker_cpu_us"),
    ),
    Curve(
        "retained messages, each stored",
        tuple(
            Point(size, f"retained --window 1000 --count {size}")
            for size in (10_000, 100_000, 1_000_000)
        ),
        ("storing", "broker_cpu_us"),
    ),
)


def main() -> int:
    """Measures all curves, and prints them."""
    INTERRUPTS.install()
    options = _parser().parse_args()
    raise_file_limit()
    try:
        _measure_all(options)
    except ComparisonError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benches/growth",
        description="Measures how the broker's CPU for a message grows with subscriptions, topics "
        "and retained messages. Prints Markdown; progress goes to stderr.",
    )
    add = parser.add_argument
    add("--ledgermq", metavar="PATH", type=Path, default=Path("target/release/ledgermq"))
    add("--repetitions", metavar="N", type=int, default=3, help="(default: %(default)s)")
    add("--seconds", metavar="S", type=float, default=4.0, help="(default: %(default)g)")
    add("--scratch", metavar="DIR", type=Path, default=Path(), help="on a disk, for data")
    return parser


def _measure_all(options: argparse.Namespace) -> None:
    ledgermq = options.ledgermq.resolve()
    if not succeeds([str(ledgermq), "bench", "--help"]):
        raise ComparisonError(f"{options.ledgermq} is no ledgermq: `cargo build --release`")
    found = find(ledgermq, None, [], [OWN])
    with tempfile.TemporaryDirectory(prefix="growth-", dir=options.scratch.resolve()) as scratch:
        for curve in CURVES:
            costs = [
                [
                    _measure(found, ledgermq, curve, point, options.seconds, Path(scratch))
                    for _ in range(options.repetitions)
                ]
                for point in curve.points
            ]
            print(table(curve, costs), flush=True)


def _measure(
    found: Found, ledgermq: Path, curve: Curve, point: Point, seconds: float, scratch: Path
) -> float:
    """Cost of a message at a point, at a broker of its own."""
    broker: Broker = found.brokers[0]
    started = Started(scratch)
    try:
        place = started.place(broker)

        def load(arguments: str) -> dict[str, Any]:
            command = [str(ledgermq), "bench", *arguments.split(), "--output", "json"]
            command += ["--url", f"mqtt://127.0.0.1:{place.port}", "--pid", str(place.pid)]
            result, error = generate(command, TIME_LIMIT)
            if result is None:
                raise ComparisonError(f"{arguments}: {error}")
            return result

        for before in point.before:
            load(before)
        # As long again before it is measured: what is remembered of topics is remembered then.
        timed = f" --seconds {seconds:g} --warm-up {seconds:g}"
        value: Any = load(point.load + (timed if point.load.startswith("pubsub") else ""))
        for step in curve.cost:
            value = value[step]
        say(f"{curve.title}: {point.size:,}: {value} us")
        return float(value)
    finally:
        started.end()


def table(curve: Curve, costs: Sequence[Sequence[float]]) -> str:
    """The medians of a curve, and how much each is of the first."""
    medians = [statistics.median(of_point) for of_point in costs]
    sizes = " | ".join(f"{point.size:,}" for point in curve.points)
    told = " | ".join(f"{cost:.2f} ({cost / max(medians[0], 1e-9):.1f})" for cost in medians)
    rule = " | ".join("---:" for _ in curve.points)
    return f"| {curve.title} | {sizes} |\n| --- | {rule} |\n| CPU us a message (of the first) | {told} |\n"
