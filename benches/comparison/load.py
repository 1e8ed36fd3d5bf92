"""One run of the load generator, and what else the machine did meanwhile."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .process import TICKS_A_SECOND, cpu_seconds


@dataclass(frozen=True)
class Run:
    """What came of one load at one broker."""

    repetition: int
    case: str
    broker: str
    command: list[str]
    result: dict[str, Any] | None = None
    """What the generator printed."""
    error: str | None = None
    """Why there is no result."""
    foreign_cores: float | None = None
    """CPU that neither the broker nor the generator used, in cores; `None` where not known."""
    found_dead: str | None = None
    """Last words of the broker, if it had ended by itself before this run and was started anew."""

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Usage:
    """CPU seconds of the machine and of those that are measured, at an instant."""

    at: float
    machine: float
    broker: float | None
    own: float

    @staticmethod
    def now(pids: Sequence[int]) -> Usage:
        """Usage now; that of the broker's processes if it can be known."""
        used = [cpu_seconds(pid) for pid in pids]
        known = [seconds for seconds in used if seconds is not None]
        # The generator is a child that has ended; this script is so small that it counts as one.
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Usage(
            at=time.monotonic(),
            machine=busy_seconds(Path("/proc/stat").read_text(encoding="utf-8")),
            broker=sum(known) if known and len(known) == len(used) else None,
            own=children.ru_utime + children.ru_stime + time.process_time(),
        )

    def foreign_since(self, earlier: Usage) -> float | None:
        """Cores that others used since."""
        if self.broker is None or earlier.broker is None:
            return None
        ours = self.broker - earlier.broker + self.own - earlier.own
        others = self.machine - earlier.machine - ours
        return round(max(0.0, others / max(self.at - earlier.at, 1e-9)), 3)


def busy_seconds(stat: str) -> float:
    """CPU seconds of all processes in the text of /proc/stat, and what the host took away.

    Interrupts are left out: what the loopback does for the measured ones counts there, too.
    """
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = (
        int(field) for field in stat.splitlines()[0].split()[1:9]
    )
    return (user + nice + system + steal) / TICKS_A_SECOND


def generate(command: Sequence[str], time_limit: float) -> tuple[dict[str, Any] | None, str | None]:
    """Runs the generator: its result, or why there is none."""
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(timeout=time_limit)
            except subprocess.TimeoutExpired:
                return None, f"not done within {time_limit:.0f} s"
            finally:
                # Of no effect on one that has ended.
                process.kill()
    except OSError as error:
        return None, f"cannot start {command[0]}: {error}"
    if process.returncode != 0:
        words = errors.decode(errors="replace").strip().splitlines()
        return None, words[-1] if words else f"the generator ended with code {process.returncode}"
    try:
        return dict(json.loads(output)), None
    except (ValueError, TypeError):
        return None, "the generator printed no JSON object"
