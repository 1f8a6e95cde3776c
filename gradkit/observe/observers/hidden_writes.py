"""Samples parameters from step to backward and proves writes to them under a graph; writes HiddenWrite.

A sample that differs is a suspicion only: weights are clipped or swapped before a forward in many correct programs. One
instrumented window tells whether the write came after the use that the backward differentiates.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from gradkit.observe.attention import HIDDEN_WRITES, TRIALS, Looks
from gradkit.observe.observer import Observer
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps.mode import INSTRUMENT
from gradkit.observe.tensors.known import Known
from gradkit.observe.tensors.transforms import has_own_memory
from gradkit.observe.witnesses.writes import Write, Writes
from gradkit.records import HiddenWrite

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching

SAMPLE_BYTES = 64
"""Leading bytes compared of a parameter on the CPU; elsewhere only its address is."""

_State = tuple[int, int, bytes]


class HiddenWrites(Observer):
    """Samples, then instruments."""

    kinds = (HiddenWrite,)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        self._states: Known[Tensor, _State] = Known()
        self._looks = Looks(HIDDEN_WRITES)
        self._trials = 0
        self._suspected = False
        self._witness: Writes | None = None
        self._proven: Known[Tensor, tuple[Write, Site, Site]] = Known()

    @property
    def attached(self) -> tuple[str, ...]:
        """The mode, while a window is instrumented."""
        return ("torch function mode",) if self._witness is not None else ()

    def stop(self) -> None:
        """Take the mode off if training ended inside an instrumented window."""
        self._leave()
        INSTRUMENT.settle()
        self._states.clear()

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Sample as at first."""
        self._looks.begin()
        self._trials = 0
        self.monitor.resume(self)

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Compare the samples, or ask the witness."""
        if self._witness is not None:
            for write, use in self._witness.verdict(roots):
                self._proven.setdefault(write.parameter, (write, use, find_site()))
            return
        for parameter, state in self._states.items():
            if _moved(state, _state(parameter)):
                self._suspected = True
                break
        self._states.clear()

    def after_step(self, optimizer: Optimizer) -> None:
        """Judge or instrument, or sample for the next window."""
        if self._witness is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._leave()
            self._report(optimizer, parameters)
        if self._suspected and self._trials < TRIALS:
            self._suspected = False
            self._trials += 1
            parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
            witness = Writes(self.monitor, parameters)
            if INSTRUMENT.enter(witness):
                self._witness = witness
                return
        self._looks.count(optimizer)
        if self._looks.is_over():
            self._states.clear()
            self.monitor.pause(self, self._looks.rest())
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    self._states[parameter] = _state(parameter)

    def _leave(self) -> None:
        if self._witness is not None:
            INSTRUMENT.leave(self._witness)
            self._witness = None

    def _report(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        proven, self._proven = self._proven, Known()
        groups: dict[tuple[object, int, str], list[Tensor]] = {}
        for parameter in parameters:
            if parameter in proven:
                write = proven[parameter][0]
                groups.setdefault((write.site.code, write.site.instruction, write.operation), []).append(parameter)
        for concerned in groups.values():
            write, use, backward = proven[concerned[0]]
            label, step = self.monitor.place_of(optimizer)
            models = self.monitor.models
            self.monitor.put(
                HiddenWrite(
                    optimizer=label,
                    step=step,
                    parameters=tuple(info.name for info in self.monitor.describe(optimizer, concerned)),
                    operation=write.operation,
                    location=locate(write.site, models),
                    forward_line=locate(use, models),
                    backward_line=locate(backward, models),
                ),
                source=label,
            )


def _state(parameter: Tensor) -> _State:
    """Address, version and leading bytes; nothing is computed and no device is waited for."""
    if not has_own_memory(parameter):
        return 0, 0, b""
    address = parameter.data_ptr()
    size = min(SAMPLE_BYTES, parameter.numel() * parameter.element_size())
    readable = parameter.device.type == "cpu" and address and parameter.is_contiguous()
    return address, parameter._version, ctypes.string_at(address, size) if readable else b""


def _moved(before: _State, now: _State) -> bool:
    """Whether a parameter has other memory, or other bytes under the same version."""
    return before[0] != now[0] or (before[1] == now[1] and before[2] != now[2])
