"""The base of observers: each sees the events of a monitor and writes one or more kinds of record.

The ledgers of the monitor serve GK101 to GK103 and are always there. Everything else is an observer: a module in
`gradkit.observe.observers` with one subclass of `Observer`, found by name and made only when an active rule reads a
kind of record that it writes, so that a rule nobody selected costs nothing. An observer overrides the events it needs
and no others: those it does not override are never called. One that has seen enough for now sleeps with
`monitor.pause(self, backwards)` and then costs nothing at all, which is how a clean run stays within the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from gradkit.observe.monitor import Monitor

EVENTS = ("enter_backward", "leave_backward", "enter_grad", "optimizer_created", "before_step", "after_step")
"""Methods of `Observer` that a monitor calls while it runs."""


class Observer:
    """Sees the events of one monitor; an exception inside becomes GK900 and silences this observer alone.

    Args:
        monitor: The monitor to report to, by `monitor.put(record, source)`.

    Attributes:
        kinds: The kinds of record it writes; it is made when an active rule reads one of them.
    """

    kinds: ClassVar[tuple[type, ...]] = ()

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    @property
    def attached(self) -> tuple[str, ...]:
        """What this observer has attached to torch, by name."""
        return ()

    def start(self) -> None:
        """The monitor begins to run; attach what is needed (see `gradkit.observe.taps.patches`)."""

    def stop(self) -> None:
        """The monitor has stopped: detach everything and judge what is still open."""

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """A backward that accumulates into `.grad` begins; `roots` must not be kept beyond the call."""

    def leave_backward(self, failed: bool) -> None:
        """That backward is over, or raised when `failed`."""

    def enter_grad(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """A call such as `torch.autograd.grad`, which returns gradients instead of accumulating them, begins."""

    def optimizer_created(self, optimizer: Optimizer) -> None:
        """An optimizer this monitor watches became known, by its construction or its first step."""

    def before_step(self, optimizer: Optimizer, closure: bool) -> None:
        """An optimizer this monitor watches begins to step; nested calls of one optimizer count once."""

    def after_step(self, optimizer: Optimizer) -> None:
        """That step is over."""


def overridden(observer: Observer, event: str) -> Any:
    """The bound method when this observer overrides `event`, else None."""
    return getattr(observer, event) if getattr(type(observer), event) is not getattr(Observer, event) else None
