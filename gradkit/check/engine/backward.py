"""Several backward passes over one graph, what each of them changes, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradkit.check.engine.errors import MethodError
from gradkit.check.engine.intact import replica, same_bits
from gradkit.check.engine.leaves import first_line
from gradkit.check.engine.methods import quiet
from gradkit.check.engine.random_state import RandomState
from gradkit.check.engine.result import Line
from gradkit.check.engine.reverse import nodes
from gradkit.check.engine.shares import of_bound
from gradkit.check.engine.subject import Subject


class Graph:
    """One forward of the subject, for several backward passes.

    Attributes:
        wrote_cotangent: Whether a backward pass wrote into a cotangent it was given; each call is given copies.
        wrote_saved: Whether one wrote into a tensor that its function had saved.
        drew: The generators that a backward pass drew from.
    """

    def __init__(self, subject: Subject, only: int | None = None) -> None:
        self.subject = subject
        leaves = subject.leaves(None)
        self.wanted = [leaves[slot.position] for slot in subject.slots]
        tracked = self.wanted if only is None else [self.wanted[only]]
        for leaf in tracked:
            leaf.requires_grad_()
        with subject.frozen_randomness(), quiet(), torch.enable_grad():
            self.outputs = subject.selected(subject.apply(subject.fn, leaves))
        self.tracked = tracked
        self.wrote_cotangent = self.wrote_saved = False
        self.drew: frozenset[str] = frozenset()

    def backward(self, cotangents: Sequence[Tensor | None]) -> Tensor:
        """The gradient by what is tracked as one flat float64 vector."""
        pairs = [(o, c) for o, c in zip(self.outputs, cotangents, strict=True) if c is not None and o.requires_grad]
        if not pairs:
            return torch.cat([torch.zeros(leaf.numel(), dtype=torch.float64) for leaf in self.tracked])
        outputs, given = [o for o, _ in pairs], [replica(c) for _, c in pairs]
        saved = [(each, each.clone()) for each in self._saved()]
        state = RandomState.capture()
        try:
            found = torch.autograd.grad(outputs, self.tracked, given, retain_graph=True, allow_unused=True)
        except Exception as error:
            raise MethodError(f"the backward pass raised {type(error).__name__}: {first_line(error)}") from error
        self.drew |= state.moved()
        self.wrote_cotangent |= not all(same_bits(one, c) for one, (_, c) in zip(given, pairs, strict=True))
        self.wrote_saved |= not all(same_bits(one, before) for one, before in saved)
        flat = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, self.tracked, strict=True)]
        dense = [each if each.layout is torch.strided else each.to_dense() for each in flat]
        return torch.cat([each.detach().double().reshape(-1).cpu() for each in dense])

    def _saved(self) -> list[Tensor]:
        """The strided tensors that custom functions of the graph saved; a broken version counter hides one."""
        found: list[Tensor] = []
        for node in nodes(self.outputs):
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                try:
                    found += [each for each in node.saved_tensors if isinstance(each, Tensor)]
                except RuntimeError:
                    continue
        return [each.detach() for each in found if each.layout is torch.strided]


def by_outputs(graph: Graph, cotangents: list[Tensor | None]) -> Tensor:
    """The sum of the gradients of one output at a time, the other cotangents being absent."""
    total = None
    for place in range(len(cotangents)):
        alone = [c if number == place else None for number, c in enumerate(cotangents)]
        part = graph.backward(alone)
        total = part if total is None else total + part
    assert total is not None
    return total


def same(
    name: str, compute: Callable[[], Tensor], expected: Tensor, bound: Tensor, reason: str, advice: str | None
) -> Line:
    """One line: what `compute` gives against what is expected, within a bound, element by element.

    Args:
        name: What is compared.
        compute: Gives the numbers, `(n,)`, float64.
        expected: What they should be.
        bound: How far each may be off.
        reason: The fact, when they are not.
        advice: What may cause it and what to do.
    """
    try:
        found = compute()
    except MethodError as error:
        return Line(name, "fail", {}, f"{str(error)[:1].upper()}{str(error)[1:]}.", advice or "")
    if expected.numel() == 0:
        return Line(name, "pass", {"elements": 0}, "No elements.")
    apart = (found - expected).abs()
    place = int(torch.where(apart <= bound, -1.0, apart.nan_to_num(nan=torch.inf)).argmax())
    measured = {
        "elements": apart.numel(),
        "max_abs": float(apart.max()),
        "of_bound": of_bound(apart, bound),
        "bound": float(bound[place]),
    }
    if bool((apart <= bound).all()):
        return Line(name, "pass", measured)
    return Line(
        name,
        "fail",
        measured,
        f"{reason} Element {place}: {float(found[place]):.6g} and {float(expected[place]):.6g}.",
        advice or "",
    )
