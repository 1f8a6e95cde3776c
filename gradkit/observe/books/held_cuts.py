"""A proven cut that is held back until the run is over: a later stage may still train what is behind it.

That parameters had no gradient in any step is known when no step can follow. Until then a hook on each of them waits
for a first gradient, and their bits are compared with what they were, for whoever moves them by hand.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from gradkit.observe.taps.containment import aside, contain, contained
from gradkit.observe.taps.tap import TAP
from gradkit.observe.tensors.buffers import is_capturing
from gradkit.observe.tensors.checksums import changed, checksums
from gradkit.records import CutPath

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching


class HeldCut:
    """One cut and the parameters behind it, from its proof to the end of the run.

    The parameters are kept alive no longer than the optimizer that holds them anyway.

    Args:
        monitor: Counts steps and reads checksums.
        optimizer: Holds the parameters.
        parameters: What had no gradient so far, all of it.
        before: Checksums of the parameters from when the first step without a gradient for them was seen.
        record: What is to be judged if none comes.
    """

    def __init__(
        self,
        monitor: Watching,
        optimizer: Optimizer,
        parameters: Sequence[Tensor],
        before: Sequence[Tensor | None],
        record: CutPath,
    ) -> None:
        self._monitor = monitor
        self._record = record
        self._trained = False
        self._parameters = list(parameters)
        self._before = list(before)
        self._after: list[Tensor | None] = []
        self._hooks = [self._hook(parameter) for parameter in parameters]
        self._optimizer = weakref.ref(optimizer, self._optimizer_died)
        ledger = monitor.ledger_of(optimizer)
        self._ledger = weakref.ref(ledger) if ledger is not None else lambda: None

    @property
    def attached(self) -> bool:
        """Whether hooks wait for a gradient."""
        return bool(self._hooks)

    def settle(self) -> CutPath | None:
        """The run is over: the record to judge, or None when a gradient came, or anything else moved a parameter."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._look()
        if self._trained or any(changed(self._before, self._after, self._monitor.reader)):
            return None
        return self._record

    def _hook(self, parameter: Tensor) -> Any:
        handles: list[Any] = []

        @contained
        def arrived(leaf: Tensor) -> None:
            if leaf.grad is not None:  # a custom function's None comes by here as well
                self._trained = True
                handles[0].remove()  # torch allows it inside the hook: from here on the parameter costs nothing

        handles.append(parameter.register_post_accumulate_grad_hook(arrived))
        return handles[0]

    def _optimizer_died(self, _: weakref.ref[Optimizer]) -> None:
        try:
            with aside():
                self._look()
        except BaseException as error:
            self._trained = True
            contain(error, "HeldCut", self._monitor)

    def _look(self) -> None:
        """Take down how the parameters are now, without waiting for the device, and let go of them."""
        if TAP.thread.over:  # another thread may be at work on them, and nothing is judged any more
            self._trained, self._parameters = True, []
        if self._parameters:
            # A gradient set by hand passes the hook; a parameter that was frozen meanwhile is declared to be meant.
            if any(parameter.grad is not None or not parameter.requires_grad for parameter in self._parameters):
                self._trained = True
            self._after = [None] * len(self._parameters) if is_capturing() else checksums(self._parameters)
            self._parameters = []
            TAP.short.sync()
            if (ledger := self._ledger()) is not None:
                later = ledger.steps - 1 - self._record.step
                self._record = replace(self._record, steps=self._record.steps + max(later, 0))
