"""One torch-function mode for a few single windows: who computed what, and on which line, once something is suspected.

A mode makes every operation slower and would be compiled into a graph, so it is entered only to prove a suspicion, for
one window at a time, a few times in a run, and never where compiled code exists. It is put at the bottom of torch's
stack of modes (above a device context, which insists on the very bottom), so that contexts the user enters or leaves
meanwhile nest above it. While a backward runs it hands every call on unseen.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext

from gradkit.observe.program.living import attention_in_eval_mode
from gradkit.observe.taps.containment import aside, contain
from gradkit.observe.taps.signals import COMPILING
from gradkit.observe.taps.tap import TAP
from gradkit.observe.taps.uncompiled import compiled_code_exists
from gradkit.observe.taps.witness import Witness
from gradkit.observe.tensors.transforms import is_transforming

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching


class _Mode(TorchFunctionMode):
    """Hands calls to the witnesses; passive once they are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.witnesses: list[Witness] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if TAP.backward_depth or not self.witnesses or is_transforming() or not TAP.thread.is_here:
            return func(*args, **kwargs)
        before = [(witness, self._tell(witness, witness.calling, func, args, kwargs)) for witness in self.witnesses]
        result = func(*args, **kwargs)
        for witness, seen in before:
            self._tell(witness, witness.called, func, args, kwargs, result, seen)
        return result

    def _tell(self, witness: Witness, method: Any, *args: Any) -> Any:
        try:
            with aside():
                return method(*args)
        except BaseException as error:
            if witness in self.witnesses:
                self.witnesses.remove(witness)
            contain(error, f"{type(witness).__name__}.{method.__name__}", witness.monitor)
            return None


class Instrument:
    """The mode of this process and the witnesses that look through it."""

    def __init__(self) -> None:
        self._mode: _Mode | None = None
        self._thread = 0
        self._left: weakref.WeakKeyDictionary[Watching, tuple[int, int]] = weakref.WeakKeyDictionary()

    @property
    def attached(self) -> bool:
        """Whether the mode is on torch's stack."""
        return self._mode is not None

    def enter(self, witness: Witness) -> bool:
        """Let a witness see every call from now on, until `leave`.

        Returns:
            False when that may not be: compiled code exists, attention in eval mode would leave its fast path and round
            differently, or the monitor has used the windows it was allowed.
        """
        if compiled_code_exists() or attention_in_eval_mode():
            return False
        step = witness.monitor.info.steps
        left, last = self._left.get(witness.monitor, (0, -1))
        if step != last:
            if not left:
                return False
            self._left[witness.monitor] = (left - 1, step)
        if self._mode is not None and self._thread != threading.get_ident():
            return False  # torch's stack of modes is each thread's own
        if self._mode is None:
            self._thread = threading.get_ident()
            self._mode = _Mode()
            _insert(self._mode)
            for point in COMPILING:
                point.listen(self)
        self._mode.witnesses.append(witness)
        return True

    def allow(self, monitor: Watching, windows: int) -> None:
        """Allow so many instrumented windows to a monitor from now on, whatever number of rules asks."""
        self._left[monitor] = (windows, -1)

    def leave(self, witness: Witness) -> None:
        """End what `enter` began; the last witness takes the mode off the stack."""
        mode = self._mode
        if mode is None:
            return
        if witness in mode.witnesses:
            mode.witnesses.remove(witness)
        # Inside its own handler (an optimizer that steps during a backward) the mode is not on the stack: it stays
        # passive and is taken off by a later call.
        self.settle()

    def compiling_begins(self) -> None:
        """Something is about to be compiled: no mode may be on."""
        if self._mode is not None:
            self._mode.witnesses.clear()
            self.settle()

    def settle(self) -> None:
        """Take a passive mode off the stack that could not be taken off when its last witness left."""
        if self._mode is None or self._mode.witnesses:
            return
        if _take_off(self._mode) or self._thread not in sys._current_frames():
            self._mode = None
            for point in COMPILING:
                point.leave(self)


def _stack() -> list[Any]:
    """All modes taken off torch's stack, topmost first."""
    return [torch.overrides._pop_mode() for _ in range(torch._C._len_torch_function_stack())]


def _insert(mode: _Mode) -> None:
    above = _stack()
    if above and isinstance(above[-1], DeviceContext):
        torch.overrides._push_mode(above.pop())
    torch.overrides._push_mode(mode)
    for other in reversed(above):
        torch.overrides._push_mode(other)


def _take_off(mode: _Mode) -> bool:
    modes = _stack()
    for other in reversed(modes):
        if other is not mode:
            torch.overrides._push_mode(other)
    return any(other is mode for other in modes)


INSTRUMENT = Instrument()
TAP.thread.occupied.append(lambda: INSTRUMENT.attached)
