"""`gradkit.check.batch_independence` and `.causality`: does an output depend on what it must not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gradkit.check.engine.batches import Forward, size_along
from gradkit.check.engine.probes import Probe, along, examine, picking, spread, typical
from gradkit.check.engine.replacement import others
from gradkit.check.engine.result import CheckResult

Change = Callable[[Tensor, torch.Generator], Tensor]


def batch_independence(
    model: nn.Module, inputs: Any, *, forward: Forward | None = None, dim: int = 0, seed: int = 0
) -> CheckResult:
    """Change one sample at a time and see whether the outputs of the others stay, bit for bit.

    Args:
        model: Any module, in the mode to be checked; it is copied.
        inputs: What it takes, at least two samples; called as `model(inputs)`, `model(*inputs)` or `model(**inputs)`.
        forward: How to call it instead: takes the model and the inputs.
        dim: Where the samples are, in inputs and outputs.
        seed: Of the new values.

    Returns:
        One line per changed sample; when one fails, with the first module whose outputs leak.

    Raises:
        CheckInputError: Fewer than two samples, or no output with that dimension.
    """
    size = size_along(inputs, dim, "samples")
    title = f"batch independence of {type(model).__name__}"

    def change(place: int) -> Callable[[Tensor, torch.Generator], Tensor]:
        def one(values: Tensor, generator: torch.Generator) -> Tensor:
            changed = values.clone()
            other = values.select(dim, (place + 1) % size)
            part = changed.select(dim, place)
            if values.is_floating_point():
                noise = torch.randn(part.shape, generator=generator, dtype=torch.float64).to(values)
                other = 1.5 * other + typical(values) * noise
            part.copy_(other)
            return changed

        return one

    everyone = torch.arange(size)
    probes = [
        Probe(f"sample {place}", _each(change(place), dim, size), picking(dim, everyone[everyone != place]))
        for place in spread(size)
    ]
    return examine(model, inputs, forward, probes, along(dim, size), title, "GK603", seed)


def causality(
    model: nn.Module, inputs: Any, *, forward: Forward | None = None, dim: int = 1, seed: int = 0
) -> CheckResult:
    """Change everything after a position and see whether the outputs up to it stay, bit for bit.

    Boolean tensors are left as they are, because they are masks; integers are replaced by other values that occur.

    Args:
        model: Any module, in the mode to be checked; it is copied.
        inputs: What it takes; called as `model(inputs)`, `model(*inputs)` or `model(**inputs)`.
        forward: How to call it instead: takes the model and the inputs.
        dim: Where the positions are, in inputs and outputs.
        seed: Of the new values.

    Returns:
        One line per position; when one fails, with the first module whose outputs leak.

    Raises:
        CheckInputError: Fewer than two positions, or no output with that dimension.
    """
    size = size_along(inputs, dim, "positions")
    title = f"causality of {type(model).__name__}"

    def change(place: int) -> Callable[[Tensor, torch.Generator], Tensor]:
        def one(values: Tensor, generator: torch.Generator) -> Tensor:
            if values.dtype is torch.bool:
                return values
            changed = values.clone()
            later = changed.narrow(dim, place + 1, size - place - 1)
            if values.is_floating_point():
                noise = torch.randn(later.shape, generator=generator, dtype=torch.float64).to(values)
                later.copy_(later + typical(values) * (1 + noise))
            else:
                later.copy_(others(later, values, generator))
            return changed

        return one

    probes = [
        Probe(f"positions after {place}", _each(change(place), dim, size), picking(dim, torch.arange(place + 1)))
        for place in spread(size - 1)
    ]
    return examine(model, inputs, forward, probes, along(dim, size), title, "GK604", seed)


def _each(change: Change, dim: int, size: int) -> Callable[[Any, torch.Generator], Any]:
    """The change of a tensor, made to every tensor of the inputs that has the dimension."""

    def changed(inputs: Any, generator: torch.Generator) -> Any:
        def one(leaf: Any) -> Any:
            along_it = isinstance(leaf, Tensor) and leaf.dim() > dim and leaf.shape[dim] == size
            return change(leaf.detach().cpu(), generator).to(leaf.device) if along_it else leaf

        return tree_map(one, inputs)

    return changed


__all__ = ["batch_independence", "causality"]
