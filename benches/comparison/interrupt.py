"""Ctrl-C and SIGTERM, in such a way that nothing that was started is left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """Turns the first signal into one KeyboardInterrupt, and heeds no second one."""

    def __init__(self) -> None:
        self._is_held = False
        self._came = False
        self._is_raised = False

    def install(self) -> None:
        """Listens from now on, to SIGINT even where a shell's background has it ignored."""
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, self._on_signal)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Puts an interrupt off until the end of what must be done as a whole."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self._raise_once()

    def _on_signal(self, *_: object) -> None:
        self._came = True
        if not self._is_held:
            self._raise_once()

    def _raise_once(self) -> None:
        if self._came and not self._is_raised:
            self._is_raised = True
            raise KeyboardInterrupt


INTERRUPTS = Interrupts()
