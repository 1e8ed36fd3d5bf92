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
from .process import ComparisonError, Process, answers, at, free_port, say
from .report import number

SETTLE_SECONDS = 0.5
"""Rest between two runs, for the work that the first left behind."""


@dataclass(frozen=True)
class Place:
    """Where a broker is."""

    ports: Sequence[int]
    """Of its nodes."""
    pids: Sequence[int]
    """Their processes; none if they are not known."""
    found_dead: str | None = None
    """Last words of a process that had ended by itself, if one had."""


class Started:
    """Brokers that run now, each with a directory of its own."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._nodes: dict[str, list[tuple[Process, int]]] = {}
        self._directories: list[Path] = []

    def place(self, broker: Broker) -> Place:
        """Where a broker is, which is started if it does not run."""
        if broker.prepare is None:
            if not answers(broker.port):
                raise ComparisonError(f"{broker.name} accepts no clients at port {broker.port}")
            return Place([broker.port], [] if broker.pid is None else [broker.pid])
        known = self._nodes.get(broker.name, [])
        dead = [process for process, _ in known if not process.is_alive()]
        if known and not dead:
            return _place(known)
        found_dead = None
        if dead:
            found_dead = dead[0].last_words()
            say(f"{broker.name} had ended and is started anew: {found_dead}")
            self._end(known)
        return _place(self._start(broker), found_dead)

    def _start(self, broker: Broker) -> list[tuple[Process, int]]:
        directory = Path(tempfile.mkdtemp(prefix=f"{broker.name}-", dir=self._scratch))
        self._directories.append(directory)
        ports = [free_port() for _ in range(broker.nodes)]
        assert broker.prepare is not None, "a broker that somebody else runs is not started"
        nodes: list[tuple[Process, int]] = []
        self._nodes[broker.name] = nodes
        try:
            for place, command in enumerate(broker.prepare(directory, ports)):
                home = directory / f"process{place + 1}"
                home.mkdir()
                # What is started is known in the same breath, so that it will be ended.
                with INTERRUPTS.held():
                    nodes.append((Process(broker.name, command, home), ports[place]))
            for process, port in nodes:
                process.wait_ready(port)
        except ComparisonError:
            # Some of several nodes are no broker to be measured.
            with INTERRUPTS.held():
                self._end(nodes)
                nodes.clear()
            raise
        return nodes

    def end(self) -> None:
        """Ends all of them and removes what they stored; every wait has a limit."""
        with INTERRUPTS.held():
            self._end([node for nodes in self._nodes.values() for node in nodes])
            self._nodes.clear()
            for directory in self._directories:
                shutil.rmtree(directory, ignore_errors=True)
            self._directories.clear()

    @staticmethod
    def _end(nodes: Sequence[tuple[Process, int]]) -> None:
        for process, _ in nodes:
            process.ask_to_end()
        for process, _ in nodes:
            process.wait_end()


def _place(nodes: Sequence[tuple[Process, int]], found_dead: str | None = None) -> Place:
    ports, pids = [port for _, port in nodes], [process.pid for process, _ in nodes]
    return Place(ports, pids, found_dead)


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
        for port in place.ports:
            command += ["--url", f"mqtt://{at(port)}"]
        for pid in place.pids:
            command += ["--pid", str(pid)]
        generator = [str(self.ledgermq), "bench", *command, "--quiet", "--output", "json"]
        before = Usage.now(place.pids)
        result, error = generate(generator, case.time_limit(self.seconds))
        foreign = Usage.now(place.pids).foreign_since(before)
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
