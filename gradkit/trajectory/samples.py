"""Sees which samples a training step uses, from the arguments of the modules it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.utils._pytree import tree_leaves

from gradkit.observe.taps.forwards import hook_all_modules, unhook
from gradkit.observe.taps.signals import COMPILING
from gradkit.observe.taps.uncompiled import compiled_code_exists
from gradkit.trajectory.measure import directions, wide

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching


class SampleHooks:
    """Tells the tensors given to each outermost call of a module with parameters, while gradients are on.

    Off while compiled code exists: torch warns of hooks on all modules, and would compile them in.

    Args:
        tell: Takes the tensors of one call.
        monitor: Hears of an exception in here.
    """

    def __init__(self, tell: Callable[[Sequence[Tensor]], None], monitor: Watching) -> None:
        self.monitor = monitor
        self._tell = tell
        self._depth = 0
        self._handles: list[Any] = []

    def start(self) -> None:
        """Put the hooks on, unless compiled code forbids it."""
        if compiled_code_exists():
            return
        self._depth = 0
        for point in COMPILING:
            point.listen(self)
        hook_all_modules(self._enter, self._leave, self._handles)

    def stop(self) -> None:
        """Take the hooks off; doing so twice does nothing."""
        if self._handles:
            for point in COMPILING:
                point.leave(self)
        unhook(self._handles)
        self._handles = []

    def compiling_begins(self) -> None:
        """Something is about to be compiled."""
        self.stop()

    def _enter(self, module: nn.Module, args: Any) -> None:
        if not is_compiling():
            self._depth += 1

    def _leave(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        if is_compiling():
            return
        self._depth -= 1
        if self._depth == 0 and torch.is_grad_enabled() and any(True for _ in module.parameters()):
            self._tell([leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)])


def samples_in(tensors: Sequence[Tensor]) -> tuple[int | None, Tensor | None]:
    """How many samples the tensors hold, and their signature (see `Trajectory.rows`), 0-dim on their device.

    Args:
        tensors: (samples, ...) each; those that require gradients are outputs of other modules and left out, as are
            scalars, complex and sparse tensors.
    """
    count: int | None = None
    signature: Tensor | None = None
    for position, tensor in enumerate(tensors):
        if tensor.requires_grad or tensor.dim() == 0 or tensor.is_complex() or tensor.is_sparse:
            continue
        count = tensor.shape[0] if count is None else count
        if tensor.numel() == 0:
            continue
        rows = wide(tensor.detach()).reshape(tensor.shape[0], -1)
        value = (rows @ directions(rows.shape[1], rows, offset=position)).square().sum()
        signature = value if signature is None else signature + value
    return count, signature
