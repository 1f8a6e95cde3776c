"""Tells a loop that never calls backward from one that only steps: was a graph over the optimizer's parameters built?

An optimizer that steps without any gradient does so on purpose when a learning-rate curve is drawn, and by mistake when
a loss is computed and `backward()` is missing. One instrumented window between two empty steps tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradkit.observe.taps.mode import INSTRUMENT
from gradkit.observe.taps.witness import Witness
from gradkit.observe.tensors.arguments import tensors_in
from gradkit.observe.tensors.known import KnownSet

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching


class UnusedForwards(Witness):
    """Looks for one operation on the parameters of an optimizer that autograd recorded.

    Args:
        monitor: The monitor that asks.
        parameters: The parameters, all of them without a gradient.
    """

    def __init__(self, monitor: Watching, parameters: Iterable[Tensor]) -> None:
        super().__init__(monitor)
        self._parameters = KnownSet(parameters)
        self._recorded = False
        self._looked = INSTRUMENT.enter(self)

    def called(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, before: Any) -> None:
        """Note a result with a graph that was computed from a parameter itself."""
        if self._recorded or not any(tensor.grad_fn is not None for tensor in tensors_in(result, 2)):
            return
        self._recorded = self._parameters.holds_any(tensors_in((args, kwargs)))

    def finish(self) -> bool | None:
        """Whether such an operation ran; None when nothing could be instrumented."""
        INSTRUMENT.leave(self)
        INSTRUMENT.settle()
        return self._recorded if self._looked else None
