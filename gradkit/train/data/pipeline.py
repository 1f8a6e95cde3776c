"""Work on a sequence of chunks ahead of the one who uses them, in a thread, with a helping hand from the user's own."""

from __future__ import annotations

import threading
from collections.abc import Callable

POLL_SECONDS = 0.2
"""How long a waiting thread takes at most to notice that the program ends [s]."""


class Pipeline:
    """Chunks 0 to count - 1, made in order by a thread and used in order by the caller.

    When the next chunk is not ready, the caller does not wait for it but makes the one after: where making a chunk
    takes longer than using it, both threads stay busy. Measured at batch 16384 of 100 float32, with two cores, an
    epoch takes a tenth less time than with waiting.

    The chunk in use and the one before it are left alone; a chunk is made once the one `depth` places before it may
    be overwritten.
    """

    def __init__(self, count: int, depth: int, make: Callable[[int], None], first: Callable[[], None]) -> None:
        """Start the thread.

        Args:
            count: Number of chunks.
            depth: Chunks that can exist at once, at least 3.
            make: Makes the chunk of that number; called from either thread, once per chunk.
            first: Called in the thread before it makes chunks; the caller makes its own in the meantime.
        """
        self._count, self._depth, self._make, self._first = count, depth, make, first
        self._changed = threading.Condition()
        self._ready = [False] * count
        self._next = 0
        self._in_use = -1
        self._error: BaseException | None = None
        self._closed = False
        # Not a daemon: the interpreter would kill it inside a torch operation, and the process would abort.
        self._thread = threading.Thread(target=self._run, name="gradkit-batches")
        self._thread.start()

    def take(self, chunk: int) -> None:
        """Return when a chunk is ready; it and the one before stay so until the next but one is taken.

        Raises:
            BaseException: Whatever `make` raised, in either thread.
        """
        with self._changed:
            self._in_use = chunk
            self._changed.notify_all()
        while not self._ready[chunk] and self._error is None:
            other = self._claim(wait=False)
            if other is None:
                with self._changed:
                    while not self._ready[chunk] and self._error is None:
                        self._changed.wait()
            else:
                self._make(other)
                self._finish(other)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread, after the chunk it is at, and wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # The garbage collector may close an abandoned iterator from any thread, so from this one too.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._first()
            while (chunk := self._claim(wait=True)) is not None:
                self._make(chunk)
                self._finish(chunk)
        except BaseException as error:
            # Handed to the caller by `take`.
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _claim(self, wait: bool) -> int | None:
        with self._changed:
            while self._wanted():
                if self._next < self._in_use - 1 + self._depth:
                    self._next += 1
                    return self._next - 1
                if not wait:
                    break
                self._changed.wait(POLL_SECONDS)
            return None

    def _wanted(self) -> bool:
        # The main thread is gone once the program ends. An iterator that still hangs on a traceback is then never
        # closed, and its thread must not keep the program from ending.
        if threading.current_thread() is self._thread and not threading.main_thread().is_alive():
            return False
        return not self._closed and self._error is None and self._next < self._count

    def _finish(self, chunk: int) -> None:
        with self._changed:
            self._ready[chunk] = True
            self._changed.notify_all()
