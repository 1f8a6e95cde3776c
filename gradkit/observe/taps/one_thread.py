"""Which Python thread is observed: one at a time, and none any more once two train at the same time.

Autograd's engine writes the `.grad` of the leaves it reaches without Python's lock. Whoever reads the `.grad` of a
parameter in one thread while a backward in another one writes it corrupts memory, and the process crashes somewhere in
torch. Which leaves another thread's backward will reach is not known beforehand, so nothing is read while one may run:
observation follows training from thread to thread as long as they take turns, and ends for good when they do not.

A thread announces that it looks (`looking`) before it asks whether it may (`open`); whoever needs the others to look
away closes `open` first and then waits until nobody looks. Neither can miss the other, and looking takes no lock.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE = 10.0
"""Seconds to wait at most for a thread that looks: a signal handler may hold it up, and a run must never hang on us."""

_LIBRARY = Path(threading.__file__).parent
_WAITING = frozenset(str(_LIBRARY / name) for name in ("threading.py", "selectors.py", "concurrent/futures/thread.py"))
"""Where Python's own code waits: for a thread to end, for an event, for the next job of a pool."""


class OneThread:
    """The thread whose training is observed.

    Args:
        is_training: Whether that thread is in a backward or an optimizer step now.
        in_engine: Whether a frame's thread is inside a call of autograd's engine.
        ended: Called once, with nobody looking, when observation is over.

    Attributes:
        ident: Its identity; 0 once observation is over.
        open: It may look.
        looking: It, or a thread of the engine on its behalf, looks right now.
        over: Training ran in several threads at once; nothing is observed until the next start.
        has_trained: It has begun to train.
        occupied: Whether something is attached to that thread that only it can take off again.
    """

    def __init__(
        self, is_training: Callable[[], bool], in_engine: Callable[[object], bool], ended: Callable[[], None]
    ) -> None:
        self.ident = threading.get_ident()
        self.open = True
        self.looking = 0
        self.over = False
        self.occupied: list[Callable[[], bool]] = []
        self.has_trained = False
        self._is_training = is_training
        self._in_engine = in_engine
        self._ended = ended
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def start(self) -> None:
        """Begin with the calling thread, until another one is the first to train."""
        self.ident = threading.get_ident()
        self.open, self.looking, self.over, self.has_trained = True, 0, False, False

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()
        self.open = not self.over

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the observed one."""
        return threading.get_ident() == self.ident

    def begin(self, *, trains: bool) -> bool:
        """Begin to look; `end` must follow.

        Args:
            trains: The calling thread is about to train: if it is not the observed one, it may become that.

        Returns:
            False when it may not look.
        """
        while not self.over:
            own = threading.get_ident()
            if own != self.ident and not self._is_of_engine(own) and not (trains and self._take(own)):
                return False
            self.looking += 1
            if self.open:
                self.has_trained = self.has_trained or trains
                return True
            self.looking -= 1
            with self._lock:  # until those who closed it are done
                pass
        return False

    def end(self) -> None:
        """End what `begin` began."""
        self.looking -= 1

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Meanwhile no other thread looks."""
        own = threading.get_ident()
        if self.over or own == self.ident or self._is_of_engine(own):
            yield
            return
        with self._lock:
            was, self.open = self.open, False
            try:
                until = time.monotonic() + PATIENCE
                while self.looking and self.ident in sys._current_frames() and time.monotonic() < until:
                    time.sleep(0.0001)
                yield
            finally:
                self.open = was and not self.over

    def _take(self, own: int) -> bool:
        """Observe the calling thread from now on, if the one before it does not train any more; else nobody."""
        with self._lock, self.exclusive():
            if self.over or own == self.ident:
                return not self.over
            frame = sys._current_frames().get(self.ident)
            trains = frame is not None and (
                self._is_training() or (self.has_trained and frame.f_code.co_filename not in _WAITING)
            )
            if trains or any(check() for check in self.occupied):
                self.over, self.open, self.ident = True, False, 0
                self._ended()
                return False
            self.ident = own
            return True

    def _is_of_engine(self, own: int) -> bool:
        """Whether the calling thread is one of autograd's, at work for the observed one.

        The engine runs hooks, and reentrant checkpointing a backward, on threads of its own when on a GPU. Python has
        not started those, so it does not know them, or as dummies if somebody has asked which thread this is.
        """
        if any(thread.ident == own and not _is_dummy(thread) for thread in threading.enumerate()):
            return False
        return self._in_engine(sys._current_frames().get(self.ident))


def _is_dummy(thread: threading.Thread) -> bool:
    return isinstance(thread, threading._DummyThread)
