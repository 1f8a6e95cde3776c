"""Turns SIGTERM and Ctrl-C into an orderly end between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

EXIT_STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
"""128 plus the signal's number, as a shell reports it."""


class StopSignals:
    """Catches SIGTERM and SIGINT inside a `with` block.

    Before `defer` the signal ends the process at once; afterwards it is kept until the loop asks `requested`. A second
    Ctrl-C does not wait. A library that was cleaning up may have swallowed what the signal raised, or raised something
    of its own in its place: it is raised again at the end of the block.

    Raises:
        SystemExit: At the end of the block, when a signal that was not deferred has not ended it.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._deferred = False
        self._pass_on: Callable[[], None] = lambda: None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses handlers
            for number in EXIT_STATUS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.requested() and not self._deferred and kind is not SystemExit:
            raise SystemExit(self.exit_status)

    def defer(self, pass_on: Callable[[], None] = lambda: None) -> None:
        """From now on let the loop decide when to stop.

        Args:
            pass_on: Called in the main thread for every signal that is kept, to tell others.
        """
        self._pass_on = pass_on
        self._deferred = True

    def requested(self) -> bool:
        """Whether a signal has asked the run to stop."""
        return self.received is not None

    @property
    def exit_status(self) -> int:
        """The status to exit with because of the signal received; 0 when there was none."""
        return EXIT_STATUS[self.received] if self.received is not None else 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = signal.Signals(number)
        if not self._deferred or (again and number == signal.SIGINT):
            raise SystemExit(self.exit_status)
        self._pass_on()
