"""How a loss that is back-propagated was reduced, and by which constants it was multiplied: read from its graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

LONGEST_PATH = 32
"""Nodes followed from the loss down to its reduction; a loss made of more is not understood."""
_PASSING = frozenset(
    f"{name}Backward{number}"
    for name in ("View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "ToCopy", "Alias", "Clone", "Select")
    for number in (0, 1, 2)
)
_MEANS = ("MeanBackward0", "MeanBackward1")
_MEAN_REDUCTION = 1
"""`at::Reduction::Mean`, as the nodes of torch's losses save it."""


@dataclass(frozen=True, slots=True)
class MeanLoss:
    """One mean that a loss is made of.

    Attributes:
        reduction: Name of the node that took the mean.
        factor: Product of the constants between the mean and the loss.
        constants: How many those are.
        items: Number of items of the mean, a 0-d tensor on the device, where the node states it: a negative
            log-likelihood knows how many targets it did not ignore.
    """

    reduction: str
    factor: float
    constants: int
    items: Tensor | None


@dataclass(frozen=True, slots=True)
class LossScale:
    """The means a loss is made of, and the names of all nodes above them, which tell two kinds of loss apart."""

    structure: tuple[str, ...]
    means: tuple[MeanLoss, ...]

    @property
    def undivided(self) -> bool:
        """Whether a mean went into the loss with no constant on its way."""
        return any(not mean.constants for mean in self.means)

    def divided_by(self, number: int) -> MeanLoss | None:
        """A mean that went into the loss divided by `number`, None when there is none."""
        return next((mean for mean in self.means if math.isclose(mean.factor * number, 1.0, rel_tol=1e-6)), None)


def scale_of(loss: Tensor) -> LossScale | None:
    """The scale of a scalar loss; None when it is not understood, or no mean."""
    names: list[str] = []
    means: list[MeanLoss] = []
    waiting: list[tuple[Any, float, int]] = [(loss.grad_fn, 1.0, 0)]
    while waiting:
        node, factor, constants = waiting.pop()
        if node is None:
            continue
        name = node.name()
        names.append(name)
        if len(names) > LONGEST_PATH:
            return None
        below = [following for following, _ in node.next_functions if following is not None]
        if name in _PASSING and len(below) == 1:
            waiting.append((below[0], factor, constants))
        elif name == "AddBackward0":
            waiting += [(following, factor, constants) for following in below]
        elif name in ("MulBackward0", "DivBackward0") and len(below) == 1:
            constant = _constant(node._raw_saved_other)
            if constant is None:
                return None
            waiting.append((below[0], factor / constant if name[0] == "D" else factor * constant, constants + 1))
        elif name in _MEANS or getattr(node, "_saved_reduction", None) == _MEAN_REDUCTION:
            means.append(MeanLoss(name, factor, constants, _items(node)))
    return LossScale(tuple(names), tuple(means)) if means else None


def _items(node: Any) -> Tensor | None:
    if not hasattr(node, "_raw_saved_total_weight") or node._saved_weight is not None:
        return None
    return _seen(node._raw_saved_total_weight)


def _constant(saved: Any) -> float | None:
    """The number a loss was multiplied by; None when it was no number of Python's."""
    value = _seen(saved)
    # A Python number is wrapped in a tensor of the widest type of its kind; other tensors may change, or lie elsewhere.
    if value is None or value.dim() or not value.is_cpu or str(value.dtype) not in ("torch.float64", "torch.int64"):
        return None
    number = float(value)
    return number if math.isfinite(number) and number else None


def _seen(saved: Any) -> Tensor | None:
    """The tensor a node has saved; None when hooks of somebody else's packed it.

    Reading it plainly would call their unpack hook, with which checkpointing computes its forward again. Hooks can be
    registered only where there are none, and are handed the tensor at once; ours change nothing.
    """
    seen: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        seen.append(tensor.detach())
        return tensor.detach() if tensor.grad_fn is not None else tensor

    try:
        saved.register_hooks(pack, lambda tensor: tensor)
    except RuntimeError:  # packed, freed, or nothing was saved
        return None
    return seen[0] if seen else None
