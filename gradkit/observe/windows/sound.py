"""Writes the records of windows that are followed the short way, each in as few operations as there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradkit.observe.tensors.buffers import gradient_of
from gradkit.observe.windows.deep import Deep, is_plain
from gradkit.records import Window

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.books.ledger import Ledger


class SoundWindows:
    """The `gradkit.observe.taps.short_way.WindowWriter` of one optimizer whose windows are fresh as a whole.

    Args:
        fields: What each `Window` holds besides its step and its deep values.
        ledger: The optimizer's ledger, just after a step.
        optimizer: The optimizer.
        deep: Takes the numbers in deep mode; None in standard mode.
        first_to_hear: Nobody else's global hooks run between the optimizer's step and ours.
        deliver: Takes the record, whether to judge it, the optimizer's number and its ledger.

    Attributes:
        late: See `gradkit.observe.taps.short_way.WindowWriter`.
    """

    def __init__(
        self,
        fields: dict[str, Any],
        ledger: Ledger,
        optimizer: Optimizer,
        deep: Deep | None,
        first_to_hear: bool,
        deliver: Callable[[Window, bool, int, Ledger], None],
    ) -> None:
        self._fields = fields
        self._ledger = ledger
        self._first = ledger.steps
        self._deep = deep
        self._deliver = deliver
        gradients = [parameter.grad for parameter in ledger.parameters if parameter.grad is not None]
        self._plain = is_plain(gradients)
        self.late = (
            deep is not None
            and self._plain
            and first_to_hear
            and not any(ledger.held_versions)
            and _writes_show(optimizer)
        )

    def before_step(self, optimizer: Optimizer, window: int) -> None:
        """Write the record of a window from what is about to be consumed."""
        parameters: list[Tensor] = []
        if self._deep is not None:
            for group in optimizer.param_groups:
                parameters += group["params"]
        self._write(optimizer, window, [item for item in map(gradient_of, parameters) if item is not None])

    def after_step(self, optimizer: Optimizer, window: int, gradients: list[Tensor] | None) -> None:
        """Write the record of a window from what was consumed."""
        if gradients is None or optimizer.__dict__.get(_POST_HOOKS):
            gradients, self.late = None, False
        self._write(optimizer, window, gradients)

    def _write(self, optimizer: Optimizer, window: int, gradients: list[Tensor] | None) -> None:
        step, ledger = self._first + window, self._ledger
        if self._deep is None:
            self._deliver(Window(**{**self._fields, "step": step}), False, ledger.number, ledger)
        else:
            self._deep.put_sound(self._fields, step, ledger, optimizer, gradients, self._plain, self._deliver)


_POST_HOOKS = "_optimizer_step_post_hooks"


def _writes_show(optimizer: Optimizer) -> bool:
    """Whether a gradient that this optimizer's step writes to gets another version, and none is removed.

    torch's own do (Adagrad and Rprop write to gradients) unless they are fused. Others may write through `.data`, and
    so may hooks on the optimizer, which run before ours.
    """
    return (
        type(optimizer).__module__.startswith("torch.optim.")
        and not any(group.get("fused") for group in optimizer.param_groups)
        and not optimizer.__dict__.get(_POST_HOOKS)
    )
