"""The short way through the windows of a sound loop: while nothing changes, only what would show a change is looked at.

Most loops do the same at every step: all gradients are None, one backward deposits, the optimizer steps on exactly
that. For such a window the hooks of `gradkit.observe.hooks` ask three questions of metadata and remember what the step
consumed, in a dozen lines of Python without a call: between torch's operations every line runs with cold caches and
costs several times what a warm one does. The first answer that is not the usual one, and everything else that happens,
hands the window over to the ledger, which then knows exactly what it would have known had it followed all along.
"""

from __future__ import annotations

import functools
import weakref
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from gradkit.observe.hooks import Tap
    from gradkit.observe.ledger import Ledger
    from gradkit.observe.monitor import Monitor

READY, RUNNING, DEPOSITED, STEPPING, OVER = range(5)
"""Where in a window a loop is: before its backward, in it, after it, in the optimizer's step; or no longer followed."""

reference = weakref.ref


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured on the current stream: nothing may be read or queued then."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


class Steady:
    """What the short way knows of one loop.

    Args:
        monitor: The only monitor of the process.
        ledger: Its only ledger, between a step and the next backward, with no doubt open.
        optimizer: The optimizer of the ledger; not kept.
        windows: After so many windows an observer wakes up, and the loop is to be followed the long way again.
        cuda: Whether a CUDA graph may be captured, which forbids every look.

    Attributes:
        phase: Where in the window the loop is.
        windows: Windows followed to their end.
        held: What the last of them consumed, one weak reference per parameter, as in the ledger.
        versions: The versions of those gradients.
    """

    __slots__ = (
        "_backwards",
        "_deposits",
        "_steps",
        "_steps_of_all",
        "cuda",
        "exit_id",
        "exit_version",
        "held",
        "ids",
        "key",
        "last",
        "ledger",
        "monitor",
        "parameters",
        "phase",
        "probe",
        "versions",
        "weight_version",
        "windows",
    )

    def __init__(self, monitor: Monitor, ledger: Ledger, optimizer: Optimizer, windows: float, cuda: bool) -> None:
        self.phase = READY
        self.parameters = tuple(ledger.parameters)
        self.probe = ledger.parameters[ledger.probe]
        self.exit_id = 0
        self.exit_version = -1
        self.key = id(optimizer)
        self.ids = [id(parameter) for parameter in ledger.parameters]
        self.cuda = cuda
        self.windows = 0
        self.last = windows
        self.held: list[weakref.ref[Tensor] | None] = []
        self.versions: list[int] = []
        self.weight_version = -1
        self.ledger = ledger
        self.monitor = monitor
        self._backwards = monitor.backwards_seen
        self._steps_of_all = monitor.steps_seen
        self._steps = ledger.steps
        self._deposits = ledger.deposits_total

    def sync(self) -> None:
        """Bring the counters of the monitor and the ledger up to date, for somebody who asks."""
        begun = self.phase in (RUNNING, DEPOSITED, STEPPING)
        self.monitor.backwards_seen = self._backwards + self.windows + begun
        self.monitor.steps_seen = self._steps_of_all + self.windows
        self.ledger.steps = self._steps + self.windows
        self.ledger.deposits_total = self._deposits + self.windows + (self.phase in (DEPOSITED, STEPPING))
        self.ledger.in_step = self.phase == STEPPING

    def hand_over(self) -> None:
        """Tell the ledger and the monitor all that was seen; they go on from here."""
        self.sync()
        phase, self.phase = self.phase, OVER
        if self.windows:
            self.ledger.held, self.ledger.held_versions = self.held, self.versions
            self.ledger.weight_version = self.weight_version
            self.ledger.backwards_before = self._backwards + self.windows + self.monitor.backwards_unseen
        if phase != READY:
            self.ledger.entered_empty()
        if phase in (DEPOSITED, STEPPING):
            self.ledger.deposits = self.ledger.live_deposits = 1
            self.ledger.probe_exit = (self.exit_id, self.exit_version)
        if phase == STEPPING:
            self.monitor.resume_step(self.ledger)

    def clipped(self) -> None:
        """All gradients were scaled by one factor: what a backward left is what is there now."""
        probe = self.probe.grad
        if self.phase == DEPOSITED and probe is not None and id(probe) == self.exit_id:
            self.exit_version = probe._version


# --- the hooks: each in one piece, the usual answers first ------------------------------------------------------------


def watched_engine(original: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    """Autograd's engine call with the tap around it."""

    @functools.wraps(original)
    def _engine_run_backward(t_outputs: Any, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling():
            return original(t_outputs, *args, **kwargs)
        steady = tap.steady
        if steady is None or steady.phase != READY or not kwargs.get("accumulate_grad"):
            return tap.run_backward(original, t_outputs, args, kwargs)
        try:
            usual = not (steady.cuda and is_capturing())
            for parameter in steady.parameters:
                if parameter.grad is not None:
                    usual = False
                    break
        except Exception as error:  # our own bug must not stop training; it becomes GK900
            tap.contain("enter_backward", error)
            usual = False
        if not usual:
            return tap.run_backward(original, t_outputs, args, kwargs)
        steady.phase = RUNNING
        try:
            result = original(t_outputs, *args, **kwargs)
            deposit = steady.probe.grad
            if deposit is not None and steady.phase == RUNNING:
                steady.exit_id, steady.exit_version = id(deposit), deposit._version
                steady.phase = DEPOSITED
                return result
        except BaseException:
            tap.leave_backward(False, True)
            raise
        tap.leave_backward(bool(args[2]) if len(args) > 2 else False, False)
        return result

    return _engine_run_backward


ENGINE_WRAPPER = next(item for item in watched_engine.__code__.co_consts if isinstance(item, CodeType))
"""The code of what `watched_engine` makes, to be found on a stack."""


def pre_step_hook(tap: Tap) -> Callable[[Optimizer, tuple[Any, ...], dict[str, Any]], None]:
    """What torch calls before every optimizer step."""

    def before_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_dynamo_compiling():
            return
        steady = tap.steady
        try:
            if steady is not None and steady.phase == DEPOSITED and steady.key == id(optimizer):
                deposit = steady.probe.grad
                if (
                    deposit is not None
                    and id(deposit) == steady.exit_id
                    and deposit._version == steady.exit_version
                    and len(args) == 1
                    and not kwargs
                    and not (steady.cuda and is_capturing())
                ):
                    steady.phase = STEPPING
                    return
        except Exception as error:  # our own bug must not stop training; it becomes GK900
            tap.contain("before_step", error)
        tap.before_step(optimizer, args, kwargs)

    return before_step


def post_step_hook(tap: Tap) -> Callable[[Optimizer, tuple[Any, ...], dict[str, Any]], None]:
    """What torch calls after every optimizer step."""

    def after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_dynamo_compiling():
            return
        steady = tap.steady
        try:
            if (
                steady is not None
                and steady.phase == STEPPING
                and steady.key == id(optimizer)
                and [id(parameter) for group in optimizer.param_groups for parameter in group["params"]] == steady.ids
            ):
                held: list[weakref.ref[Tensor] | None] = []
                versions = []
                for parameter in steady.parameters:
                    buffer = parameter.grad
                    if buffer is None:
                        held.append(None)
                        versions.append(0)
                    else:
                        held.append(reference(buffer))
                        versions.append(buffer._version)
                steady.held, steady.versions = held, versions
                steady.weight_version = steady.probe._version
                steady.windows += 1
                steady.phase = READY
                if steady.windows >= steady.last:
                    tap.fold()
                return
        except Exception as error:  # our own bug must not stop training; it becomes GK900
            tap.contain("after_step", error)
        tap.after_step(optimizer)

    return after_step
