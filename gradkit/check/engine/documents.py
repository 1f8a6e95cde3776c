"""`gradkit.check.documents`: in a packed or padded batch, does a document see another one, or padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_unflatten

from gradkit.check.engine.batches import Forward, call_model, cast, twin_of
from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.leaves import path_name
from gradkit.check.engine.probes import PROBES, Place, Probe, examine, typical
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.replacement import others
from gradkit.check.engine.result import CheckResult

PADDING = -1
"""What marks padding among the numbers of documents."""


def documents(
    model: nn.Module,
    inputs: Any,
    belongs: Tensor,
    *,
    padding: int = PADDING,
    content: Sequence[str] | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> CheckResult:
    """Change what other documents of a row say, and padding, and see whether a document's outputs stay, bit for bit.

    Features are changed where they come in; token identities are left as they are, because a model may read from them
    where padding is or a document ends, and their embeddings are changed instead.

    Args:
        model: Any module, in the mode to be checked; it is copied.
        inputs: What it takes, with `(batch, positions)` in front; called as `model(inputs)`, `model(*inputs)` or
            `model(**inputs)`.
        belongs: The number of the document each position belongs to, `(batch, positions)`; a boolean tensor, such as
            an attention mask, has one document a row and padding where it is false.
        padding: The number that marks padding.
        content: Names of the inputs to be changed instead, integers too. None for floating inputs of three and more
            dimensions and for the embeddings of integer ones.
        forward: How to call the model instead: takes the model and the inputs.
        seed: Of the new values.

    Returns:
        One line for padding and one per document; when one fails, with the first module whose outputs leak.

    Raises:
        CheckInputError: One document a row and no padding, nothing that can be changed, or no output with
            `(batch, positions)` in front.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 4))
        >>> tokens = torch.tensor([[1, 2, 3, 4, 5, 0]])
        >>> documents(model, tokens, torch.tensor([[0, 0, 1, 1, 1, -1]])).verdict
        'pass'
    """
    owner = _owners(belongs, padding)
    shape = tuple(owner.shape)
    probed = list(_probed(owner))
    if not probed:
        raise CheckInputError(
            "belongs: every row holds one document and no padding, so there is nothing that must not be seen;"
            f" number the documents of a row, and mark padding by {padding}."
        )
    call = forward or call_model
    changed = _Content(inputs, shape, content)
    with random_state_kept():
        _refuse_unreachable(model, inputs, call, shape, changed)

    def under(model: nn.Module, packed: Any) -> Any:
        given, where = packed
        with _embeddings_moved(model, given, where, seed):
            return call(model, given)

    def probe(name: str, where: Tensor, kept: Tensor) -> Probe:
        def change(packed: Any, generator: torch.Generator) -> Any:
            return changed.at(packed[0], where, generator), where

        return Probe(name, change, lambda output: output[kept.to(output.device)])

    probes = [probe(*each) for each in probed]
    place = Place(1, lambda each: tuple(each.shape[:2]) == shape, f"{shape} in front")
    nothing = torch.zeros_like(owner, dtype=torch.bool)
    return examine(
        model, (inputs, nothing), under, probes, place, f"documents of {type(model).__name__}", "GK608", seed
    )


def _owners(belongs: Tensor, padding: int) -> Tensor:
    """The number of the document of each position on the CPU, -1 for padding."""
    if belongs.dim() != 2 or belongs.is_floating_point() or belongs.is_complex():
        raise CheckInputError(
            f"belongs: expected whole numbers of shape (batch, positions), got {tuple(belongs.shape)} of"
            f" {str(belongs.dtype).removeprefix('torch.')}."
        )
    if belongs.dtype is torch.bool:
        return belongs.cpu().long() - 1
    return torch.where(belongs.cpu() == padding, PADDING, belongs.cpu().long())


def _probed(owner: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, positions to change and positions that must not follow: for padding, then for documents of some rows."""
    real = owner != PADDING
    if not bool(real.all()) and bool(real.any()):
        yield "padding", ~real, real
    packed = [
        (row, number)
        for row in range(len(owner))
        for number in owner[row][real[row]].unique().tolist()
        if bool(((owner[row] != number) & real[row]).any())
    ]
    step = max(1, -(-len(packed) // PROBES))
    for row, number in packed[::step]:
        inside, outside = torch.zeros_like(real), torch.zeros_like(real)
        inside[row] = owner[row] == number
        outside[row] = ~inside[row] & real[row]
        yield f"all but document {number} of row {row}", outside, inside


class _Content:
    """The inputs that are changed at some positions.

    Args:
        inputs: Of the model.
        shape: Batch and positions.
        names: Which of them; None for the features among them.
    """

    def __init__(self, inputs: Any, shape: tuple[int, ...], names: Sequence[str] | None) -> None:
        leaves, self._spec = tree_flatten_with_path(inputs)
        fitting = {
            number: path_name(path)
            for number, (path, leaf) in enumerate(leaves)
            if isinstance(leaf, Tensor) and tuple(leaf.shape[:2]) == shape
        }
        if not fitting:
            raise CheckInputError(f"inputs: no tensor has {shape}, the shape of belongs, in front.")
        if names is None:
            self.places = {
                number for number in fitting if leaves[number][1].is_floating_point() and leaves[number][1].dim() > 2
            }
            return
        plain = {number: name.removeprefix("input ").strip("'") for number, name in fitting.items()}
        if unknown := [name for name in names if name not in plain.values()]:
            raise CheckInputError(
                f"content: no input {unknown[0]!r}; those of this shape: {', '.join(plain.values())}."
            )
        self.places = {number for number, name in plain.items() if name in names}

    def at(self, inputs: Any, where: Tensor, generator: torch.Generator) -> Any:
        """The inputs, other values at these positions."""
        leaves = tree_leaves(inputs)
        changed = [
            self._other(leaf, where, generator) if number in self.places else leaf for number, leaf in enumerate(leaves)
        ]
        return tree_unflatten(changed, self._spec)

    def _other(self, leaf: Tensor, where: Tensor, generator: torch.Generator) -> Tensor:
        values = leaf.detach().cpu().clone()
        if not values.is_floating_point():
            values[where] = others(values[where], values, generator)
        else:
            values[where] = moved(values, generator)[where]
        return values.to(leaf.device)


def moved(values: Tensor, generator: torch.Generator) -> Tensor:
    """Other values of the same size, the same ones in every dtype."""
    noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
    return values + (typical(values) * (1 + noise)).to(values)


@contextmanager
def _embeddings_moved(
    model: nn.Module, inputs: Any, where: Tensor, seed: int, met: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Within the block, what embeds an integer input gives other values at these positions."""
    identities = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and not leaf.is_floating_point()]

    def hook(_: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        embeds = given and any(
            isinstance(given[0], Tensor) and given[0].shape == each.shape and torch.equal(given[0], each)
            for each in identities
        )
        if not embeds or tuple(output.shape[:2]) != tuple(where.shape):
            return output
        met()
        other = moved(output.detach().cpu(), torch.Generator().manual_seed(seed)).to(output)
        return torch.where(where.to(output.device).view(*where.shape, *[1] * (output.dim() - 2)), other, output)

    handles = [each.register_forward_hook(hook) for each in model.modules() if isinstance(each, nn.Embedding)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _refuse_unreachable(
    model: nn.Module, inputs: Any, call: Forward, shape: tuple[int, ...], content: _Content
) -> None:
    """Nothing could be changed: neither features nor an embedding of the inputs.

    Raises:
        CheckInputError: Says what to give.
    """
    if content.places:
        return
    met: list[None] = []
    twin, given = twin_of(model), cast(inputs)
    with (
        torch.no_grad(),
        _embeddings_moved(twin, given, torch.zeros(shape, dtype=torch.bool), 0, lambda: met.append(None)),
    ):
        call(twin, given)
    if not met:
        raise CheckInputError(
            "inputs: neither a floating tensor of three dimensions nor an nn.Embedding of an integer one was found;"
            " name the inputs that hold what the documents say in content=."
        )
