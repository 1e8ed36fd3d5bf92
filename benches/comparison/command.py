"""The command line of the comparison."""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report
from .brokers import DEFAULT, OPTIONAL, find
from .cases import CONNECT, CONNECTIONS, MATRIX, Case, select
from .interrupt import INTERRUPTS
from .machine import Machine
from .process import ComparisonError, say, succeeds
from .schedule import Comparison

FILES_SPARE = 200
"""Files that a broker or the generator opens besides its connections."""
ENDED_WELL, RUNS_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    keys = ", ".join(case.key for case in MATRIX)
    parser = argparse.ArgumentParser(
        prog="benches/compare",
        description="Compares LedgerMQ with other brokers on this machine: one load generator, "
        "brokers in turn, started anew for each repetition. Prints medians and ratios as Markdown; "
        "progress goes to stderr. It installs nothing: what is not there is named in the notes.",
        epilog=f"Cases: {keys}. Brokers: {', '.join(DEFAULT)}; only when named: "
        f"{', '.join(OPTIONAL)}. Exit codes: 0 ok, 1 a run failed, 2 usage, 130 interrupted. "
        "More in benches/compare.md.",
    )
    parser.add_argument(
        "--ledgermq",
        metavar="PATH",
        type=Path,
        default=Path("target/release/ledgermq"),
        help="the binary: broker, relay and load generator (default: %(default)s)",
    )
    parser.add_argument("--nats", metavar="PATH", help="nats-server (default: look for it)")
    parser.add_argument(
        "--broker",
        metavar="NAME=PORT[:PID]",
        action="append",
        default=[],
        help="a broker that runs already at 127.0.0.1, with its process for CPU figures; "
        "may be repeated",
    )
    parser.add_argument(
        "--brokers", metavar="LIST", type=_names, help="which brokers, by names with commas"
    )
    parser.add_argument(
        "--cases", metavar="LIST", type=_names, help="which cases, by keys with commas"
    )
    parser.add_argument(
        "--repetitions", metavar="N", type=_at_least_one, default=3, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=4.0,
        help="measured seconds of a case that runs for a time (default: %(default)g)",
    )
    parser.add_argument(
        "--scratch",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="where a directory for the brokers' data is made, and removed at the end; "
        "it should be on a disk (default: the current directory)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="store every raw result there")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("it must be from 0.1 to 3600")
    return seconds


def raise_file_limit() -> int:
    """Lets this process, and so all that it starts, open as many files as may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _possible(cases: list[Case]) -> list[Case]:
    files = raise_file_limit()
    if CONNECT in cases and files != resource.RLIM_INFINITY and files < CONNECTIONS + FILES_SPARE:
        say(f"the case {CONNECT.key} is left out: only {files} open files are allowed")
        return [case for case in cases if case is not CONNECT]
    return cases


def _plan(options: argparse.Namespace, scratch: Path) -> Comparison:
    ledgermq = options.ledgermq.resolve()
    if not succeeds([str(ledgermq), "bench", "--help"]):
        raise ComparisonError(
            f"{options.ledgermq} is no ledgermq with a load generator: build it with "
            "`cargo build --release`, or name it with --ledgermq"
        )
    try:
        cases = select(options.cases)
    except ValueError as error:
        raise ComparisonError(str(error)) from error
    found = find(ledgermq, options.nats, options.broker, options.brokers or DEFAULT)
    if not found.brokers:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.absent.items())
        raise ComparisonError(f"no broker is there: {reasons}")
    repetitions, seconds = options.repetitions, options.seconds
    return Comparison(ledgermq, found, _possible(cases), repetitions, seconds, scratch)


def _command() -> list[str]:
    """What repeats this; with the interpreter if it is that of an environment."""
    return sys.argv if sys.prefix == sys.base_prefix else sys.orig_argv


def _facts(
    comparison: Comparison, machine: Machine, began: str, command: Sequence[str]
) -> dict[str, Any]:
    found = comparison.found
    return {
        "began": began,
        "command": list(command),
        "machine": machine.facts(),
        "repetitions": comparison.repetitions,
        "seconds": comparison.seconds,
        "brokers": [
            {"name": broker.name, "version": broker.version, "durability": broker.durability}
            for broker in found.brokers
        ],
        "absent": found.absent,
        "runs": [run.facts() for run in comparison.runs],
    }


def _head(
    comparison: Comparison, machine: Machine, began: str, command: Sequence[str]
) -> list[str]:
    return [
        f"date: {began}",
        f"machine: {machine.sentence()}; brokers and load generator share it",
        f"repetitions: {comparison.repetitions}, seconds a case: {comparison.seconds:g}; "
        "100 bytes unless said, MQTT 3.1.1, loopback",
        f"command: `{shlex.join(command)}`",
    ]


def _compare(options: argparse.Namespace, scratch: Path) -> int:
    comparison = _plan(options, scratch)
    if options.json is not None:
        # Better to hear of a bad path now than in half an hour.
        options.json.touch()
    machine = Machine.here(scratch)
    if machine.is_scratch_in_memory:
        say(f"warning: {scratch} is on {machine.file_system}, where a sync costs nothing")
    for name, why in comparison.found.absent.items():
        say(f"not there: {name} ({why})")
    began = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        comparison.run()
    finally:
        if options.json is not None:
            facts = _facts(comparison, machine, began, _command())
            options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    found, head = comparison.found, _head(comparison, machine, began, _command())
    print(report.document(comparison.runs, found.brokers, found.absent, machine, head))
    return RUNS_FAILED if any(run.error for run in comparison.runs) else ENDED_WELL


def main(argv: Sequence[str]) -> int:
    """Runs the comparison that the arguments ask for, and says the exit code."""
    options = parser().parse_args(argv[1:])
    INTERRUPTS.install()
    try:
        with tempfile.TemporaryDirectory(
            prefix="compare-", dir=options.scratch.resolve(), ignore_cleanup_errors=True
        ) as scratch:
            return _compare(options, Path(scratch))
    except KeyboardInterrupt:
        say("interrupted; everything that was started is ended")
        return INTERRUPTED
    except (ComparisonError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return USAGE
