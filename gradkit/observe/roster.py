"""The observers of one monitor: who hears which event, who sleeps until when, and what their mistakes cost."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import pkgutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from gradkit.errors import HygieneError
from gradkit.observe.attention import INSTRUMENTED, Subjects
from gradkit.observe.observer import Observer, overridden
from gradkit.observe.taps.containment import contain, containing
from gradkit.observe.taps.events import TOLD_BY_MONITOR
from gradkit.observe.taps.mode import INSTRUMENT
from gradkit.observe.taps.tap import TAP

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching
    from gradkit.records import Record


SOUND_SLEEP = 16
"""Backward calls of a sleep from which on it may be lengthened or cut a little, to end together with another."""


class Roster:
    """The observers that some active rule needs.

    Args:
        monitor: Whose observers they are.

    Attributes:
        calls: Those awake, by event, with the method to call.
        wakes_at: Backward call at which the next sleeper wakes up.
    """

    def __init__(self, monitor: Watching) -> None:
        self._monitor = monitor
        self._observers: list[Observer] = []
        self.calls: dict[str, list[tuple[Observer, Callable[..., None]]]] = {event: [] for event in TOLD_BY_MONITOR}
        self._asleep: dict[Observer, float] = {}
        self.wakes_at = math.inf
        self._subjects = Subjects(monitor.reader.budget)

    @property
    def attached(self) -> tuple[str, ...]:
        """What the observers have attached to torch."""
        patches = dict.fromkeys(
            patch for observer in self._observers for patch in observer.hears if observer in patch.listeners
        )
        others = (name for observer in self._observers for name in observer.attached)
        return (*(patch.label for patch in patches), *others)

    def start(self) -> None:
        """Make the observers that are needed and start them; those of an earlier start hear nothing more."""
        self.calls = {event: [] for event in TOLD_BY_MONITOR}
        self._asleep.clear()
        self.wakes_at = math.inf
        wants = self._monitor.engine.wants
        self._subjects = Subjects(self._monitor.reader.budget)
        INSTRUMENT.allow(self._monitor, INSTRUMENTED)
        self._observers = []
        kinds = [kind for kind in all_observers() if not kind.kinds or any(map(wants, kind.kinds))]
        for kind in kinds if any(kind.kinds for kind in kinds) else ():
            with containing(self._monitor, kind.__name__):
                self._begin(kind(self._monitor))

    def _begin(self, observer: Observer) -> None:
        self._observers.append(observer)
        self._listen(observer)
        for patch in observer.hears:
            patch.listen(observer)
        self._run(observer, observer.start)

    def stop(self) -> None:
        """Stop them all; what one finds at the end comes too late to halt anything, and the others must detach."""
        for observer in self._observers:
            with containing(self._monitor, type(observer).__name__):
                self._detach(observer)
            with contextlib.suppress(HygieneError):
                self._run(observer, observer.stop)

    def begin_again(self, optimizer: Optimizer | None, steps: int) -> None:
        """Something new is trained: have everyone look as at first, if there is time for it.

        Args:
            optimizer: The optimizer that is new; None where a phase or a model is.
            steps: Optimizer steps of the run so far.
        """
        if self._subjects.is_new(steps):
            INSTRUMENT.allow(self._monitor, INSTRUMENTED)
            for observer in self._observers:
                if not isinstance(observer.monitor, _Deaf):
                    self._run(observer, observer.begin_again, optimizer)

    def _detach(self, observer: Observer) -> None:
        for patch in observer.hears:
            if not patch.leave(observer):
                self._monitor.gap(f"{patch.label} was wrapped by another tool and could only be made passive", ())

    def _listen(self, observer: Observer) -> None:
        TAP.fold()
        for event in TOLD_BY_MONITOR:
            if (method := overridden(observer, event)) is not None:
                self.calls[event].append((observer, method))

    def _unlisten(self, observer: Observer) -> None:
        for event, calls in self.calls.items():
            self.calls[event] = [call for call in calls if call[0] is not observer]

    def pause(self, observer: Observer, backwards: float = math.inf) -> None:
        """Tell an observer no event until that many further backward calls have begun; a sleeping observer is free.

        Whoever wakes up ends the short way (`taps.short_way`) for all, so a long sleep ends where another one
        ends if that is between an eighth earlier and twice as late.
        """
        self._unlisten(observer)
        due = self._monitor.backwards + backwards
        if SOUND_SLEEP <= backwards < math.inf:
            others = [other for other in self._asleep.values() if -backwards / 8 <= other - due <= backwards]
            due = min(others, default=due)
        self._asleep[observer] = due
        self.wakes_at = min(self._asleep.values())

    def resume(self, observer: Observer) -> None:
        """End a pause at once; an observer that is not paused, or was silenced by its own mistake, stays as it is."""
        if self._asleep.pop(observer, None) is not None:
            self.wakes_at = min(self._asleep.values(), default=math.inf)
            self._listen(observer)

    def wake(self, backwards: int) -> None:
        """End the pauses that are over after so many backward calls."""
        for observer in [item for item, due in self._asleep.items() if due <= backwards]:
            self.resume(observer)

    def _run(self, observer: Observer, method: Callable[..., None], *args: Any) -> None:
        """Call one observer; what it raises becomes GK900 and it hears nothing more."""
        try:
            method(*args)
        except BaseException as error:
            contain(error, method.__name__, self._monitor, functools.partial(self._silence, observer, method))

    def _silence(self, observer: Observer, method: Callable[..., None], error: Exception) -> None:
        self._monitor.engine.crashed(f"gradkit's {type(observer).__name__} observer ({method.__name__})", error)
        # It has missed something from here on: what it still hears elsewhere, and says when stopped, is not judged.
        observer.monitor = cast("Watching", _Deaf(self._monitor))
        self._unlisten(observer)
        self._detach(observer)
        self._asleep.pop(observer, None)

    def tell(self, event: str, *args: Any) -> None:
        """Tell everyone awake of an event."""
        started = time.perf_counter()
        for observer, method in self.calls[event]:
            self._run(observer, method, *args)
        self._subjects.spent += time.perf_counter() - started


class _Deaf:
    """A monitor, for an observer that made a mistake: everything but that its records are dropped."""

    def __init__(self, monitor: Watching) -> None:
        self._monitor = monitor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._monitor, name)

    def put(self, record: Record, source: object = None) -> None:
        """Nothing."""


def all_observers() -> list[type[Observer]]:
    """Every observer of `gradkit.observe.observers`, in order of module names."""
    package = importlib.import_module("gradkit.observe.observers")
    found: list[type[Observer]] = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        found += [
            item
            for item in vars(module).values()
            if isinstance(item, type) and issubclass(item, Observer) and item.__module__ == module.__name__
        ]
    return found
