"""The order in which everything is run, and the brokers that run meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .brokers import Broker, Found
from .cases import LATENCIES, RATES, Case
from .interrupt import INTERRUPTS
from .load import Run, Usage, generate
from .process import ComparisonError, Process, answers, free_port, say
from .report import number

SETTLE_SECONDS = 0.5
"""Rest between two runs, for the work that the first left behind."""


@dataclass(frozen=True)
class Place:
    """Where a broker is."""

    port: int
    pid: int | None
    found_dead: str | None = None
    """Last words of its process that had ended by itself, if it had."""


class Started:
    """Brokers that run now, each with a directory of its own."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._processes: dict[str, tuple[Process, int]] = {}
        self._directories: list[Path] = []

    def place(self, broker: Broker) -> Place:
        """Where a broker is, which is started if it does not run."""
        if broker.prepare is None:
            if not answers(broker.port):
                raise ComparisonError(f"{broker.name} accepts no clients at port {broker.port}")
            return Place(broker.port, broker.pid)
        known = self._processes.get(broker.name)
        if known is not None and known[0].is_alive():
            return Place(known[1], known[0].pid)
        found_dead = None
        if known is not None:
            found_dead = known[0].last_words()
            say(f"{broker.name} had ended and is started anew: {found_dead}")
        process, port = self._start(broker)
        return Place(port, process.pid, found_dead)

    def _start(self, broker: Broker) -> tuple[Process, int]:
        directory = Path(tempfile.mkdtemp(prefix=f"{broker.name}-", dir=self._scratch))
        self._directories.append(directory)
        port = free_port()
        assert broker.prepare is not None, "a broker that somebody else runs is not started"
        command = broker.prepare(directory, port)
        # What is started is known in the same breath, so that it will be ended.
        with INTERRUPTS.held():
            process = Process(broker.name, command, directory)
            self._processes[broker.name] = process, port
        process.wait_ready(port)
        return process, port

    def end(self) -> None:
        """Ends all of them and removes what they stored; every wait has a limit."""
        with INTERRUPTS.held():
            for process, _ in self._processes.values():
                process.ask_to_end()
            for process, _ in self._processes.values():
                process.wait_end()
            self._processes.clear()
            for directory in self._directories:
                shutil.rmtree(directory, ignore_errors=True)
            self._directories.clear()


@dataclass
class Comparison:
    """What is to be run, and what has been."""

    ledgermq: Path
    found: Found
    cases: list[Case]
    repetitions: int
    seconds: float
    scratch: Path
    runs: list[Run] = field(default_factory=list)

    def run(self) -> None:
        """Runs everything, brokers in turn."""
        for repetition in range(self.repetitions):
            started = Started(self.scratch)
            try:
                for broker, case in turns(self.found.brokers, self.cases, repetition):
                    # What another left in the page cache must not be written meanwhile.
                    os.sync()
                    self.runs.append(self._run(started, repetition, broker, case))
                    say(self._outcome(self.runs[-1]))
                    time.sleep(SETTLE_SECONDS)
            finally:
                started.end()

    def _run(self, started: Started, repetition: int, broker: Broker, case: Case) -> Run:
        command = case.command(self.seconds, broker.is_slow)
        try:
            place = started.place(broker)
        except ComparisonError as why:
            return Run(repetition, case.key, broker.name, command, error=str(why))
        command += ["--url", f"mqtt://127.0.0.1:{place.port}"]
        command += [] if place.pid is None else ["--pid", str(place.pid)]
        generator = [str(self.ledgermq), "bench", *command, "--quiet", "--output", "json"]
        before = Usage.now(place.pid)
        result, error = generate(generator, case.time_limit(self.seconds))
        foreign = Usage.now(place.pid).foreign_since(before)
        return Run(
            repetition, case.key, broker.name, command, result, error, foreign, place.found_dead
        )

    def _outcome(self, run: Run) -> str:
        figures = [figure for figure in (*RATES, *LATENCIES) if figure.case.key == run.case]
        told = ", ".join(
            f"{figure.label} {number(figure.of(run.result or {}))} {figure.unit}".strip()
            for figure in figures
        )
        foreign = "not known" if run.foreign_cores is None else f"{run.foreign_cores:.2f} cores"
        return (
            f"{run.repetition + 1}/{self.repetitions} {run.case:10} {run.broker:14} "
            f"{run.error or told or 'done'} (others: {foreign})"
        )


def turns(
    brokers: Sequence[Broker], cases: Sequence[Case], repetition: int
) -> Iterator[tuple[Broker, Case]]:
    """Each case at each broker that can do it; another broker begins each time."""
    for place, case in enumerate(cases):
        first = (repetition + place) % max(len(brokers), 1)
        for broker in (*brokers[first:], *brokers[:first]):
            if broker.has_sessions or not case.needs_sessions:
                yield broker, case
