"""Watches the forwards of whole models for as long as somebody asks, through torch's global module hooks.

The hooks make every module's call slower and would be compiled into a graph, so they are there only for the first steps
of a run and for stretches that a signal or a suspicion points to, and never where compiled code exists.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from gradkit.observe.program.sites import caller, drops_result, find_site
from gradkit.observe.taps.containment import contain, contained
from gradkit.observe.taps.events import Forward, Listener
from gradkit.observe.taps.signals import COMPILING
from gradkit.observe.taps.tap import TAP
from gradkit.observe.taps.uncompiled import compiled_code_exists
from gradkit.observe.tensors.arguments import tensors_in
from gradkit.observe.tensors.measure import number_of
from gradkit.observe.tensors.transforms import is_transforming


def hook_all_modules(enter: Callable[..., None], leave: Callable[..., None], handles: list[Any]) -> None:
    """Have `enter(module, args)` and `leave(module, args, kwargs, output)` called around every forward of a module.

    Args:
        enter: Called before.
        leave: Called after.
        handles: Takes each handle as soon as there is one, so that it can be taken off whatever happens then.
    """
    handles.append(register_module_forward_pre_hook(enter))
    handles.append(register_module_forward_hook(leave, with_kwargs=True, always_call=True))


def unhook(handles: Sequence[Any]) -> None:
    """Take hooks of `hook_all_modules` off again."""
    for handle in handles:
        handle.remove()
        # torch forgets to take a removed hook out of this table, and then warns of it when a module is compiled.
        module_hooks.__dict__.get("_global_forward_hooks_with_kwargs", {}).pop(handle.id, None)


class Forwards:
    """The hooks of this process and who listens to them."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._handles: list[Any] = []
        self._depth = 0
        self._thread = 0
        self._current: Forward | None = None

    @property
    def attached(self) -> bool:
        """Whether the hooks are on."""
        return bool(self._handles)

    @property
    def is_inside(self) -> bool:
        """Whether a forward is going on that is looked at."""
        return self._current is not None

    def note_differentiation(self) -> None:
        """Gradients are about to be computed: if that happens within a forward, it has used the graph it recorded."""
        if self._current is not None and self._thread == threading.get_ident():
            self._current.differentiated = True

    def listen(self, listener: Listener) -> bool:
        """Begin to tell a listener; False when compiled code forbids it."""
        if listener in self.listeners:
            return True
        if compiled_code_exists():
            return False
        self.listeners.append(listener)
        if not self._handles:
            self._depth, self._current, self._thread = 0, None, TAP.thread.ident
            try:
                for point in COMPILING:
                    point.listen(self)
                hook_all_modules(self._enter, self._leave, self._handles)
            except BaseException:
                self.leave(listener)
                raise
        return True

    def leave(self, listener: Listener) -> None:
        """Stop telling a listener; the last one takes the hooks off."""
        if listener in self.listeners:
            self.listeners.remove(listener)
        if not self.listeners:
            self._off()

    def compiling_begins(self) -> None:
        """Something is about to be compiled: torch warns of global hooks, and would compile them in."""
        self.listeners.clear()
        self._off()

    def _off(self) -> None:
        for point in COMPILING:
            point.leave(self)
        unhook(self._handles)
        self._handles = []
        self._current = None

    @contained  # which does nothing in a strict export, that traces through the hooks
    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._thread != threading.get_ident():
            if not TAP.thread.is_here:
                return
            self._depth, self._current, self._thread = 0, None, TAP.thread.ident
        if compiled_code_exists():  # compiled since; this is the wrapper's call, nothing was traced yet
            self.listeners.clear()
            self._off()
            return
        self._depth += 1
        if TAP.backward_depth or is_transforming() or not TAP.thread.is_here:
            return  # activations recomputed in the backward are no forward of the program's
        try:
            if self._depth == 1:
                self._begin(module, args)
            elif self._current is not None and isinstance(module, _SENSITIVE):
                _note_layer(self._current, module, args)
        except BaseException as error:
            self._current = None
            contain(error, "forward", tell=self._fail)

    @contained
    def _leave(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        if self._thread != threading.get_ident():
            return
        # (kwargs, output); after an exception torch calls global hooks with the output alone, which is None then.
        output = rest[-1]
        self._depth = max(self._depth - 1, 0)
        if self._depth or self._current is None:
            return
        forward, self._current = self._current, None
        try:
            forward.failed = output is None
            forward.inputs = tuple(weakref.ref(tensor) for tensor in tensors_in((args, *rest[:-1])))
            forward.outputs = [tensor.grad_fn for tensor in tensors_in(_plain(output)) if tensor.grad_fn is not None]
            for listener in list(self.listeners):
                listener.forward_ended(forward)
        except BaseException as error:
            contain(error, "forward", tell=self._fail)

    def _begin(self, module: nn.Module, args: Sequence[Any]) -> None:
        forward = self._current = Forward(module, module.training, torch.is_grad_enabled(), find_site())
        if forward.training and not forward.recording:
            forward.dropped = _is_dropped(forward)
        if isinstance(module, _SENSITIVE):
            _note_layer(forward, module, args)
        for listener in list(self.listeners):
            listener.forward_begins(forward)

    def _fail(self, error: Exception) -> None:
        listeners = list(self.listeners)
        self.listeners.clear()
        self._off()
        for listener in listeners:
            listener.monitor.contain("forward", error)


_SENSITIVE = (_BatchNorm, _DropoutNd, nn.MultiheadAttention, nn.RNNBase)
"""Layers of torch whose result depends on their mode, the last two if they drop something out."""


def _note_layer(forward: Forward, module: nn.Module, args: Sequence[Any]) -> None:
    """Remember one layer whose result depends on its mode."""
    normalizes = isinstance(module, _BatchNorm)
    if normalizes:
        if getattr(module, "running_mean", None) is None:
            return  # without running statistics it computes the same in both modes
    elif not (module.p if isinstance(module, _DropoutNd) else module.dropout):
        return
    if module.training:
        if normalizes and not any("Norm" in name for name in forward.active):
            forward.calibrating = _calibrates(module)
        forward.active.append(type(module).__name__)
        if not forward.training and not normalizes and is_stray(module, forward.module):
            forward.stray.append(type(module).__name__)
            forward.stray_site = forward.stray_site or find_site()
        return
    forward.inactive.append(type(module).__name__)
    flows = any(tensor.requires_grad for tensor in tensors_in(args))
    if flows or any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
        forward.inactive_over_gradients.append(module)


def _is_dropped(forward: Forward) -> bool:
    """Whether the user's own line drops what the call returns, and no hook on the model keeps any of it."""
    frame = caller()
    while frame.f_code.co_filename == module_hooks.__file__ and frame.f_back is not None:
        frame = frame.f_back
    if frame.f_code is not forward.site.code or not drops_result(frame.f_code, frame.f_lasti):
        return False
    return not any(module._forward_hooks for module in forward.module.modules())


def _calibrates(module: Any) -> bool:
    """Whether statistics are averaged over a whole pass, as `update_bn` does, or have just been reset."""
    if module.momentum is None:
        return True
    # Reads one number, in a forward without gradients in train mode only.
    tracked = module.num_batches_tracked
    return not torch.is_grad_enabled() and tracked is not None and number_of(tracked) == 0


def _plain(output: Any) -> Any:
    """An output as containers: dataclasses and similar results by their attributes."""
    if isinstance(output, (Tensor, list, tuple, dict)) or output is None:
        return output
    return getattr(output, "__dict__", None)


FORWARDS = Forwards()
TAP.thread.occupied.append(lambda: FORWARDS.is_inside)


def is_stray(layer: nn.Module, model: nn.Module) -> bool:
    """Whether a layer that ran inside `model` is no part of it, so that `model.eval()` does not reach it."""
    return not any(layer is part for part in model.modules())
