"""Attaches to torch once per process, whatever the number of monitors, and detaches without a trace.

Attached are: the two module-level names of autograd's engine call, through which every route to a backward goes (the
methods, the functions bound early, scalers, Accelerate, Fabric, Lightning, Hugging Face); torch's global optimizer
hooks; the function that clips by norm; and `Optimizer.__init__`, to know an optimizer before its first step. The tap
itself puts nothing on modules or tensors, enters no torch mode, and may not be compiled; observers attach more for the
stretches in which they look (`forwards`, `patches`, `mode`). What is done at each event of a sound
loop stands in `short_way`.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from gradkit.observe.taps.containment import (
    WATCHING,
    aside,
    autocast,
    contain,
    contained,
    dispatch_modes,
    no_functions,
    profiled,
)
from gradkit.observe.taps.one_thread import OneThread
from gradkit.observe.taps.patches import Patch, leave_no_frame, telling
from gradkit.observe.taps.short_way import ENGINE_WRAPPER, OFF, RUNNING, STEPPING, Loop, WindowWriter, short_way
from gradkit.observe.taps.uncompiled import never_compile

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.taps.events import Hearer

# `torch.optim` removes the name of its submodule, so it is not an attribute.
_optimizer_module = sys.modules["torch.optim.optimizer"]
_ENGINE_NAMES = ("torch.autograd.graph", "torch.autograd")
_CLIPPING_NAME = "_clip_grads_with_norm_"
_NOTHING: Sequence[Callable[[], None]] = ()


class Tap:
    """The one attachment of this process; monitors come and go in any order."""

    def __init__(self) -> None:
        self.monitors: list[Hearer] = WATCHING
        self.thread = OneThread(self._is_training, _in_engine, self._end_for_good)
        self.short = short_way(self)
        self.seeds: Sequence[Tensor | None] = ()
        """What the running backward's roots are weighted with: the gradients it starts from."""
        self.first_to_hear = False
        """Nobody's global hooks were there before ours, which hear of the end of a step in that order."""
        self.depth = 0
        """1 while a backward that accumulates is running, unless it is followed the short way."""
        self._follows = False
        """A loop is followed the short way, or has just ceased to be."""
        self._patches = _patches(self)
        self._hooks: dict[str, Any] = {}

    @property
    def attached(self) -> tuple[str, ...]:
        """What is attached to torch now, by name."""
        return (*(patch.label for patch in self._patches if patch.listeners), *self._hooks)

    def attach(self, monitor: Hearer) -> None:
        """Begin to report to `monitor`; the first one attaches the tap."""
        if not self.monitors:
            self.thread.start()
            self._attach_all()
        with self.thread.exclusive():
            self.fold()
            self.monitors.append(monitor)
        if self.thread.over:
            monitor.ends_for_good()

    def detach(self, monitor: Hearer) -> list[str]:
        """Stop reporting to `monitor`; the last one detaches the tap.

        Returns:
            Names of what could not be taken off because another tool wrapped it since; it is passive now.
        """
        with self.thread.exclusive():
            if monitor in self.monitors:
                self.fold()
                self.monitors.remove(monitor)
            if self.monitors:
                return []
            for hook in self._hooks.values():
                hook.remove()
            self._hooks.clear()
            self.depth = 0
            return [patch.label for patch in self._patches if not patch.leave(self)]

    def _attach_all(self) -> None:
        never_compile()
        for patch in self._patches:
            patch.listen(self)
        self.first_to_hear = not _optimizer_module._global_optimizer_post_hooks
        self._hooks = {
            "torch.optim global pre-step hook": _optimizer_module.register_optimizer_step_pre_hook(
                self.short.before_step
            ),
            "torch.optim global post-step hook": _optimizer_module.register_optimizer_step_post_hook(
                self.short.after_step
            ),
        }

    # --- the short way ------------------------------------------------------------------------------------------

    @property
    def backward_depth(self) -> int:
        """1 while a backward that accumulates is running."""
        return self.depth or int(self.short.phase() == RUNNING)

    def follow(self, loop: Loop, optimizer: Optimizer, windows: float, writer: WindowWriter | None) -> None:
        """Go the short way from here on; see `ShortWay.begin`."""
        self._follows = True
        self.short.begin(loop, optimizer, windows, writer)

    def fold(self) -> None:
        """End the short way, if it is gone: the monitor takes over in the middle of whatever is going on."""
        self._follows = False
        if self.short.phase() == OFF:
            return
        with self.thread.exclusive():
            if self.short.phase() == RUNNING:
                self.depth = 1
            try:
                self.short.hand_over()
            except BaseException as error:
                contain(error, "hand_over")

    def _is_training(self) -> bool:
        """Whether the observed thread is in a backward or in an optimizer's step."""
        phase = self.short.phase()
        return bool(self.depth or phase in (RUNNING, STEPPING) or any(monitor.is_stepping for monitor in self.monitors))

    def _end_for_good(self) -> None:
        """Two threads train at the same time: nothing can be read safely any more."""
        self.fold()
        for monitor in self.monitors:
            monitor.ends_for_good()

    def _tell(self, event: str, *args: Any) -> None:
        for monitor in self.monitors:
            try:
                getattr(monitor, event)(*args)
            except BaseException as error:
                contain(error, event, monitor)

    # --- events -------------------------------------------------------------------------------------------------

    def run_backward(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call autograd's engine, with the monitors told before and after."""
        # Positions: (roots, grad_tensors, retain_graph, create_graph, inputs), as every caller in torch passes them.
        hears_end = creates = False
        try:
            if not is_compiling() and self.monitors and args:
                retains, creates = len(args) > 2 and bool(args[2]), len(args) > 3 and bool(args[3])
                if not kwargs.get("accumulate_grad"):
                    self.enter_grad(args[0], retains, creates)
                else:
                    hears_end = self.enter_backward(args[0], retains, creates, args[1] if len(args) > 1 else ())
            result = original(*args, **kwargs)
        except BaseException as error:
            if hears_end:
                self.leave_backward(False, True)
            leave_no_frame(error)
            raise
        if hears_end:
            self.leave_backward(creates, False)
        return result

    def enter_backward(
        self, roots: Any, retain_graph: bool, create_graph: bool, seeds: Sequence[Tensor | None] = ()
    ) -> bool:
        """Tell the monitors that an accumulating backward begins; False when nobody is to hear of its end.

        That is one in a thread that is not observed, and part of one already running: reentrant checkpointing runs a
        backward inside one, and what it deposits is seen when the outer one is over.
        """
        thread = self.thread
        looks = False
        try:
            looks = thread.ident == get_ident() and thread.has_trained
            if looks:
                thread.looking += 1  # as `begin` does, without a call: first announced, then asked
                looks = thread.open
                thread.looking -= not looks
            looks = looks or thread.begin(trains=True)
            if not looks:
                for monitor in self.monitors:
                    monitor.backwards_unseen += 1
                return False
            if self._follows:
                self.fold()
            if self.depth:
                return False
            self.depth, self.seeds = 1, seeds
            with no_functions() if not (dispatch_modes() or autocast() or profiled()) else aside():
                for monitor in self.monitors:
                    try:
                        monitor.enter_backward(roots, retain_graph, create_graph)
                    except BaseException as error:
                        contain(error, "enter_backward", monitor)
        except BaseException as error:
            self.depth = 0  # the backward never starts, or nobody hears of its end
            contain(error, "enter_backward")
            return False
        finally:
            thread.looking -= looks
        return True

    def leave_backward(self, replaces: bool, failed: bool) -> None:
        """Tell the monitors that the backward is over."""
        thread = self.thread
        looks = False
        try:
            if self._follows:
                self.fold()
            self.depth, self.seeds = 0, ()
            looks = thread.ident == get_ident()
            if looks:
                thread.looking += 1
                looks = thread.open
                thread.looking -= not looks
            looks = looks or thread.begin(trains=False)
            if not looks:
                return
            with no_functions() if not (dispatch_modes() or autocast() or profiled()) else aside():
                for monitor in self.monitors:
                    try:
                        monitor.leave_backward(replaces, failed)
                    except BaseException as error:
                        contain(error, "leave_backward", monitor)
        except BaseException as error:
            contain(error, "leave_backward")
        finally:
            thread.looking -= looks

    @contained
    def enter_grad(self, roots: Any, retain_graph: bool, create_graph: bool) -> None:
        """Tell the monitors that gradients are computed and returned, not accumulated."""
        if any(monitor.sees_grad for monitor in self.monitors) and self.thread.begin(trains=False):
            try:
                self._tell("enter_grad", roots, retain_graph, create_graph)
            finally:
                self.thread.end()

    @contained(default=_NOTHING)
    def before_clipping(self) -> Sequence[Callable[[], None]]:
        """What to call once gradients have been clipped: a scaled mixture of windows is the same mixture."""
        if not self.thread.begin(trains=False):
            return ()
        try:
            if self.short.phase() != OFF:
                return [self.short.clipped]
            return [call for monitor in self.monitors for call in monitor.before_clipping()]
        finally:
            self.thread.end()

    @contained
    def after_clipping(self, follow: Sequence[Callable[[], None]]) -> None:
        """Call what `before_clipping` returned."""
        if follow and self.thread.begin(trains=False):
            try:
                for call in follow:
                    call()
            finally:
                self.thread.end()

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tell the monitors that an optimizer begins to step."""
        begun = False
        try:
            begun = not is_compiling() and self.thread.begin(trains=True)
            if not begun:
                return
            if self._follows:
                self.fold()
            with no_functions() if not (dispatch_modes() or autocast() or profiled()) else aside():
                for monitor in self.monitors:
                    try:
                        monitor.before_step(optimizer, args, kwargs)
                    except BaseException as error:
                        contain(error, "before_step", monitor)
        except BaseException as error:
            contain(error, "before_step")
        finally:
            self.thread.looking -= begun

    def after_step(self, optimizer: Optimizer) -> None:
        """Tell the monitors that the step is over."""
        begun = False
        try:
            begun = not is_compiling() and self.thread.begin(trains=False)
            if not begun:
                return
            if self._follows:
                self.fold()
            with no_functions() if not (dispatch_modes() or autocast() or profiled()) else aside():
                for monitor in self.monitors:
                    try:
                        monitor.after_step(optimizer)
                    except BaseException as error:
                        contain(error, "after_step", monitor)
        except BaseException as error:
            contain(error, "after_step")
        finally:
            self.thread.looking -= begun

    def optimizer_created(self, optimizer: Optimizer) -> None:
        """Tell the monitors about an optimizer whose constructor has just ended."""
        if not self.thread.over:
            with self.thread.exclusive():  # whichever thread it is made in, the first to step may be another
                self._tell("optimizer_created", optimizer)


def _patches(tap: Tap) -> list[Patch]:
    """What is replaced in torch while a monitor runs."""

    def engine(original: Callable[..., Any], listeners: Sequence[Any]) -> Any:
        return tap.short.engine(original)

    def created(listeners: Sequence[Any], result: None, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        tap.optimizer_created(optimizer)

    def clipping(original: Callable[..., Any], listeners: Sequence[Any]) -> Any:
        @functools.wraps(original)
        def clip(*args: Any, **kwargs: Any) -> None:
            if is_compiling():
                original(*args, **kwargs)
                return
            try:
                after = tap.before_clipping()
                original(*args, **kwargs)
            except BaseException as error:
                leave_no_frame(error)
                raise
            tap.after_clipping(after)

        return clip

    patches = [
        Patch(f"{name}._engine_run_backward", functools.partial(sys.modules.get, name), "_engine_run_backward", engine)
        for name in _ENGINE_NAMES
    ]
    patches.append(
        Patch("torch.optim.Optimizer.__init__", lambda: torch.optim.Optimizer, "__init__", telling(after=created))
    )
    module = sys.modules["torch.nn.utils.clip_grad"]
    if _CLIPPING_NAME in module.__dict__:  # since torch 2.6; both ways to clip by norm go through it
        patches.append(Patch(f"torch.nn.utils.clip_grad.{_CLIPPING_NAME}", lambda: module, _CLIPPING_NAME, clipping))
    return patches


_STEP_WRAPPER = torch.optim.Optimizer.profile_hook_step(lambda *_: None).__code__


def steps_on_stack() -> int:
    """How many optimizer steps are running on this thread's stack, by torch's own wrapper around `step`."""
    return _calls_above(sys._getframe(), _STEP_WRAPPER)


def _in_engine(frame: Any) -> bool:
    """Whether a frame's thread is inside a call of autograd's engine."""
    return bool(_calls_above(frame, ENGINE_WRAPPER))


def _calls_above(frame: types.FrameType | None, code: types.CodeType) -> int:
    count = 0
    while frame is not None:
        count += frame.f_code is code
        frame = frame.f_back
    return count


# --- torch.compile ------------------------------------------------------------------------------------------------


TAP = Tap()
