"""The base of observers: each sees the events of a monitor and writes one or more kinds of record.

The ledgers of the monitor serve GK101 to GK103 and are always there. Everything else is an observer: a module in
`gradkit.observe.observers` with one subclass of `Observer`, found by name and made only when an active rule reads a
kind of record that it writes, so that a rule nobody selected costs nothing. An observer overrides the events it needs
and no others: those it does not override are never called. One that has seen enough for now sleeps with
`monitor.pause(self, backwards)` and then costs nothing at all, which is how a clean run stays within the budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from gradkit.observe.taps.events import Listener

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.taps.patches import Patch
    from gradkit.observe.watching import Watching


class Observer(Listener):
    """Sees the events of one monitor; an exception inside becomes GK900 and silences this observer alone.

    Args:
        monitor: The monitor to report to, by `monitor.put(record, source)`.

    Attributes:
        kinds: The kinds of record it writes; it is made when an active rule reads one of them. One that writes none
            serves the others and is made with any of them.
        hears: Places in torch that tell it of something while the monitor runs (see `gradkit.observe.taps.signals`).
    """

    kinds: ClassVar[tuple[type, ...]] = ()
    hears: tuple[Patch, ...] = ()

    def __init__(self, monitor: Watching) -> None:
        self.monitor = monitor

    @property
    def attached(self) -> tuple[str, ...]:
        """What this observer has attached to torch beside what it `hears`, by name."""
        return ()

    def start(self) -> None:
        """The monitor begins to run."""

    def stop(self) -> None:
        """The monitor has stopped: detach what was attached and judge what is still open."""

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Something new is trained: look as at first, and wake up for it.

        Args:
            optimizer: The optimizer that is new; None where a phase or a model is.
        """

    def __init_subclass__(cls) -> None:
        """Refuse a method that nobody would ever call.

        Raises:
            TypeError: A public method is neither an event nor one of this class.
        """
        stray = [name for name in vars(cls) if not name.startswith("_") and not hasattr(Observer, name)]
        if stray:
            raise TypeError(
                f"{cls.__name__}.{stray[0]} is no event that {Listener.__module__} declares: nobody would call it."
            )


def overridden(observer: Observer, event: str) -> Any:
    """The bound method when this observer overrides `event`, else None."""
    return getattr(observer, event) if getattr(type(observer), event) is not getattr(Observer, event) else None
