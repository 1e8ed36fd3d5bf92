"""Brokers and loads as processes: started, waited for, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

READY_SECONDS = 60.0
"""Time for a broker to answer its first CONNECT."""
STOP_SECONDS = 30.0
"""Time for a broker to end after SIGTERM."""
LOG_LINES_TOLD = 2
LOG_CHARACTERS_TOLD = 160
"""Of each of these lines."""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

# CONNECT of MQTT 3.1.1: clean session, Keep Alive 10, Client Identifier "compare"; then DISCONNECT.
CONNECT = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x0a\x00\x07compare"
CONNACK_ACCEPTED = b"\x20\x02\x00\x00"
DISCONNECT = b"\xe0\x00"


class ComparisonError(Exception):
    """Why something could not be run, in words for the user."""


def say(text: str) -> None:
    """Tells how it goes."""
    print(text, file=sys.stderr, flush=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def at(port: int) -> str:
    """The address of a port of this machine."""
    return f"127.0.0.1:{port}"


def answers(port: int) -> bool:
    """Whether an MQTT broker at that port accepts a client."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(CONNECT)
            connack = connection.recv(len(CONNACK_ACCEPTED), socket.MSG_WAITALL)
            connection.sendall(DISCONNECT)
            return connack == CONNACK_ACCEPTED
    except OSError:
        return False


def cpu_seconds(pid: int) -> float | None:
    """CPU time that a process has used; `None` if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    # Behind the name, which may hold spaces and brackets, stands the third field.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


class Process:
    """A broker that was started here."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self._log = directory / "output.log"
        try:
            with self._log.open("wb") as log:
                # A session of its own: Ctrl-C at a terminal is for this script, which ends it.
                self._process = subprocess.Popen(
                    command,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise ComparisonError(f"{name}: cannot start {command[0]}: {error}") from error

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_ready(self, port: int) -> None:
        """Waits until it accepts clients."""
        end = time.monotonic() + READY_SECONDS
        while not answers(port):
            if not self.is_alive():
                raise ComparisonError(f"{self.name} ended at its start: {self.last_words()}")
            if time.monotonic() > end:
                raise ComparisonError(
                    f"{self.name} accepted nobody within {READY_SECONDS:.0f} s: {self.last_words()}"
                )
            time.sleep(0.05)

    def ask_to_end(self) -> None:
        """Sends SIGTERM."""
        if self.is_alive():
            self._process.send_signal(signal.SIGTERM)

    def wait_end(self) -> None:
        """Waits for the end that was asked for, and enforces it when it does not come."""
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"{self.name} did not end within {STOP_SECONDS:.0f} s of SIGTERM: killed")
            self._process.kill()
            self._process.wait()
            return
        if code not in (0, -signal.SIGTERM):
            say(f"{self.name} ended with code {code}: {self.last_words()}")

    def last_words(self) -> str:
        """Exit code, and the last lines that it printed."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        code = self._process.poll()
        ended = "" if code is None else f"exit code {code}; "
        told = [line[:LOG_CHARACTERS_TOLD] for line in lines[-LOG_LINES_TOLD:]]
        return ended + (" / ".join(told) or "it printed nothing")


def output_of(command: Sequence[str], only_if_well: bool = False) -> str | None:
    """What a short command prints; `None` if it cannot be had, or is wanted only if it ended well."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if only_if_well and done.returncode != 0:
        return None
    return done.stdout.decode(errors="replace")


def succeeds(command: Sequence[str]) -> bool:
    """Whether a short command exits with 0."""
    try:
        quiet = subprocess.DEVNULL
        done = subprocess.run(
            command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
