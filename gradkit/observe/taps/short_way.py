"""The short way through the windows of a sound loop: while nothing changes, only what would show a change is looked at.

Most loops do the same at every step: all gradients are None, one backward deposits, the optimizer steps on exactly
that. For such a window the hooks of `taps.tap` ask three questions of metadata and remember what the step
consumed. The first answer that is not the usual one, and everything else that happens, hands the window over to the
ledger, which then knows exactly what it would have known had it followed all along.

The hooks are functions that share the variables of one call of `short_way`, and call as little as they can: between
torch's operations every line of Python runs with cold caches and costs several times what it costs in a loop. On the
smallest workload of `benchmarks/overhead.py` the same logic in methods of an object with slots adds a fifth more, and
spread over the classes that own the state two and a half times as much.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from gradkit.observe.taps.containment import aside, contain
from gradkit.observe.taps.patches import leave_no_frame
from gradkit.observe.tensors.buffers import gradient_of, held_state, is_capturing, reference

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.taps.one_thread import OneThread

READY, RUNNING, DEPOSITED, STEPPING, OFF = range(5)
"""Where in a window a loop is: before its backward, in it, after it, in the optimizer's step; or not followed here."""

MANY = 12
"""Parameters from which on three passes in C are faster than one in Python."""


_Lists = tuple[list[Any], list[Any], list[int]]
Consumed = list[Any] | _Lists
"""By the last step: a list of parameter, weak reference to its gradient or None, version, and so on; or of each kind a
list."""
_StepHook = Callable[["Optimizer", tuple[Any, ...], dict[str, Any]], None]


class LongWay(Protocol):
    """Who is told everything that is not usual.

    Attributes:
        thread: The observed one.
    """

    thread: OneThread

    def run_backward(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call autograd's engine, with what begins and ends told."""

    def leave_backward(self, replaces: bool, failed: bool) -> None:
        """A backward that was followed the short way so far is over."""

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An optimizer begins to step."""

    def after_step(self, optimizer: Optimizer) -> None:
        """That step is over."""

    def fold(self) -> None:
        """End the short way."""


class WindowWriter(Protocol):
    """Writes the records of windows that are followed the short way.

    Attributes:
        late: A gradient of version 0 after the optimizer's step is what it was before, so that gradients may be read
            then, from the list that is made of them anyway.
    """

    late: bool

    def before_step(self, optimizer: Optimizer, window: int) -> None:
        """Write the record of a window, given its number since the short way began."""

    def after_step(self, optimizer: Optimizer, window: int, gradients: list[Tensor] | None) -> None:
        """The same after the step, with the gradients there are; None when they may have been written to."""


class Loop(Protocol):
    """Whose loop is followed: what is known of it is brought up to date when the short way ends.

    Attributes:
        parameters: Of its optimizer, in order.
        probe: The one whose gradient stands for all of them.
    """

    parameters: list[Tensor]
    probe: Tensor

    def count(self, windows: int, phase: int) -> None:
        """Bring the counters up to date."""

    def has_parameters(self, parameters: list[Tensor]) -> bool:
        """Whether the last step was on the parameters that are known, if there was a step."""

    def write_unread(self, writer: WindowWriter, window: int) -> None:
        """Write the record of a step that is not over, without what was to be read after it."""

    def resume(
        self,
        phase: int,
        windows: int,
        consumed: Consumed,
        weight_version: int,
        left: weakref.ref[Tensor] | None,
        left_version: int,
    ) -> None:
        """Go on where the short way ends."""


class ShortWay(NamedTuple):
    """Functions over one state.

    Attributes:
        engine: Puts the hook around autograd's engine call.
        before_step: What torch calls before every optimizer step.
        after_step: What torch calls after every optimizer step.
        begin: Follow a loop, which is the only one of the process, between a step and the next backward and with no
            doubt open; its optimizer, the windows after which an observer wakes up and the loop is to be
            followed the long way again, and what writes the records of windows, if they are read.
        phase: Where in the window the loop is.
        windows: Windows followed to their end since `begin`.
        clipped: All gradients were scaled by one factor: what a backward left is what is there now.
        sync: Bring the counters of the monitor and the ledger up to date, for somebody who asks.
        hand_over: Tell the ledger and the monitor all that was seen, and follow nothing any more.
    """

    engine: Callable[[Callable[..., Any]], Callable[..., Any]]
    before_step: _StepHook
    after_step: _StepHook
    begin: Callable[[Loop, Optimizer, float, WindowWriter | None], None]
    phase: Callable[[], int]
    windows: Callable[[], int]
    clipped: Callable[[], None]
    sync: Callable[[], None]
    hand_over: Callable[[], None]


def short_way(tap: LongWay) -> ShortWay:
    """The hooks of one tap, which is told everything that is not usual."""
    cuda = torch.version.cuda is not None
    thread = tap.thread
    phase = OFF
    windows = 0
    last = 0
    key = 0
    groups: list[dict[str, Any]] = []
    many = False  # parameters
    probe: Any = None
    left: Any = None  # a weak reference to what the backward left in the probe
    left_version = 0
    consumed: Consumed = []
    weight_version = 0
    writer: WindowWriter | None = None
    unwritten = False  # the record of the running step is written after it
    followed: Loop | None = None

    # --- the hooks: the usual answers only -----------------------------------------------------------------------

    def engine(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def _engine_run_backward(*args: Any, **kwargs: Any) -> Any:
            nonlocal phase, left, left_version
            if is_dynamo_compiling():
                return original(*args, **kwargs)
            usual = False
            if phase == READY and get_ident() == thread.ident and kwargs.get("accumulate_grad") and not has_mode():
                thread.looking = 1
                try:
                    usual = thread.open and phase == READY and not (cuda and is_capturing())
                    if usual:
                        for group in groups:
                            for parameter in group["params"]:
                                if parameter.grad is not None:
                                    usual = False
                        if usual:
                            phase = RUNNING
                except BaseException as error:
                    contain(error, "enter_backward")
                    usual = False
                finally:
                    thread.looking = 0
            try:
                if not usual:
                    return tap.run_backward(original, args, kwargs)
                result = original(*args, **kwargs)
                thread.looking = 1
                if phase == RUNNING and thread.open:
                    deposit = probe.grad
                    if deposit is not None:
                        left = reference(deposit)
                        left_version = deposit._version
                        phase = DEPOSITED
                        thread.looking = 0
                        return result
            except BaseException as error:
                if usual:
                    thread.looking = 0
                    tap.leave_backward(False, True)
                leave_no_frame(error)
                raise
            thread.looking = 0
            tap.leave_backward(len(args) > 3 and bool(args[3]), False)
            return result

        return _engine_run_backward

    def before_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal phase, unwritten
        if is_dynamo_compiling():
            return
        if phase == DEPOSITED and get_ident() == thread.ident and not has_mode():
            thread.looking = 1
            try:
                if phase == DEPOSITED and thread.open and key == id(optimizer) and len(args) == 1 and not kwargs:
                    deposit = probe.grad
                    if (
                        deposit is not None
                        and left() is deposit
                        and deposit._version == left_version
                        and not (cuda and is_capturing())
                    ):
                        phase = STEPPING  # first: whoever gets the record may end the short way
                        if writer is not None:
                            unwritten = many and left_version == 0 and writer.late
                            if not unwritten:
                                write(writer.before_step, optimizer, windows)
                        return
            except BaseException as error:
                contain(error, "before_step")
            finally:
                thread.looking = 0
        tap.before_step(optimizer, args, kwargs)

    def after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal phase, groups, consumed, weight_version, windows
        if is_dynamo_compiling():
            return
        if phase == STEPPING and get_ident() == thread.ident and not has_mode():
            thread.looking = 1
            try:
                # Of this optimizer: another one that began to step inside would have ended it.
                if phase == STEPPING and thread.open:
                    groups = optimizer.param_groups
                    seen: list[Any] = []
                    if many:
                        after_step_of_many(optimizer)
                    else:
                        for group in groups:
                            for parameter in group["params"]:
                                gradient = parameter.grad
                                seen.append(parameter)
                                if gradient is None:
                                    seen.append(None)
                                    seen.append(0)
                                else:
                                    seen.append(reference(gradient))
                                    seen.append(gradient._version)
                        consumed = seen
                        weight_version = probe._version
                        phase = READY
                        windows += 1
                    if windows >= last:
                        tap.fold()
                    return
            except BaseException as error:
                contain(error, "after_step")
            finally:
                thread.looking = 0
        tap.after_step(optimizer)

    def after_step_of_many(optimizer: Optimizer) -> None:
        """The same where there are many parameters, and where a record is written after the step."""
        nonlocal phase, consumed, weight_version, windows, unwritten
        stepped: list[Tensor] = []
        for group in groups:
            stepped += group["params"]
        gradients = list(map(gradient_of, stepped))
        held, versions = held_state(gradients)
        consumed = (stepped, held, versions)
        weight_version = probe._version
        phase = READY
        windows += 1
        if unwritten and writer is not None:
            unwritten = False
            present: Any = gradients if all(held) else [gradient for gradient in gradients if gradient is not None]
            write(writer.after_step, optimizer, windows - 1, None if any(versions) else present)

    def write(method: Callable[..., None], *args: Any) -> None:
        """Have a record written; a mistake there does not make the step an unusual one."""
        try:
            with aside():
                method(*args)
        except BaseException as error:
            contain(error, "record")

    # --- the way in and out --------------------------------------------------------------------------------------

    def begin(loop: Loop, optimizer: Optimizer, last_window: float, window_writer: WindowWriter | None) -> None:
        nonlocal phase, windows, last, key, groups, many, probe, consumed, writer, unwritten, followed
        if any(map(_hears_reads, loop.parameters)):
            return
        windows = 0
        last = int(min(last_window, sys.maxsize))
        key = id(optimizer)
        groups = optimizer.param_groups
        many = len(loop.parameters) >= MANY
        probe = loop.probe
        consumed = []
        writer, unwritten = window_writer, False
        followed = loop
        phase = READY

    def clipped() -> None:
        nonlocal left_version
        deposit = probe.grad if phase == DEPOSITED else None
        if deposit is not None and left() is deposit:
            left_version = deposit._version

    def sync() -> None:
        current = followed
        if current is not None:
            current.count(windows, phase)
            if not current.has_parameters(by_kind(consumed)[0]):
                tap.fold()

    def hand_over() -> None:
        nonlocal phase, groups, probe, left, consumed, writer, followed
        if followed is None:
            return
        was, phase = phase, OFF
        given_up, followed = followed, None
        given_up.count(windows, was)
        if was == STEPPING and unwritten and writer is not None:  # the step raised, or somebody asks while it runs
            given_up.write_unread(writer, windows)
        given_up.resume(was, windows, consumed, weight_version, left, left_version)
        writer = None
        groups, probe, left, consumed = [], None, None, []  # nothing of the program's is kept alive

    return ShortWay(engine, before_step, after_step, begin, lambda: phase, lambda: windows, clipped, sync, hand_over)


ENGINE_WRAPPER = next(
    code
    for outer in short_way.__code__.co_consts
    if isinstance(outer, types.CodeType) and outer.co_name == "engine"
    for code in outer.co_consts
    if isinstance(code, types.CodeType)
)
"""The code of the hook around autograd's engine, to be found on a stack."""


has_mode = torch._C._is_torch_function_mode_enabled
"""Whether a function mode of the program would hear of every attribute that is read: the long way steps aside first."""


def _hears_reads(tensor: Tensor) -> bool:
    """Whether reading an attribute of a tensor calls a `__torch_function__`, as of most subclasses."""
    kind = type(tensor)
    return kind is not Tensor and kind.__torch_function__ is not torch._C._disabled_torch_function_impl


def by_kind(consumed: Consumed) -> _Lists:
    """Parameters, references and versions, each in a list."""
    return consumed if isinstance(consumed, tuple) else (consumed[::3], consumed[1::3], consumed[2::3])
