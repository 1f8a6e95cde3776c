"""Several backward passes over one graph, and whether they agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradkit.check.engine.errors import MethodError
from gradkit.check.engine.leaves import first_line
from gradkit.check.engine.methods import quiet
from gradkit.check.engine.result import Line
from gradkit.check.engine.shares import of_bound
from gradkit.check.engine.subject import Subject


class Graph:
    """One forward of the subject, for several backward passes."""

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

    def backward(self, cotangents: list[Tensor | None]) -> Tensor:
        """The gradient by what is tracked as one flat float64 vector."""
        pairs = [(o, c) for o, c in zip(self.outputs, cotangents, strict=True) if c is not None and o.requires_grad]
        if not pairs:
            return torch.cat([torch.zeros(leaf.numel(), dtype=torch.float64) for leaf in self.tracked])
        try:
            found = torch.autograd.grad(
                [o for o, _ in pairs], self.tracked, [c for _, c in pairs], retain_graph=True, allow_unused=True
            )
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            raise MethodError(f"the backward pass raised {type(error).__name__}: {first_line(error)}") from error
        flat = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, self.tracked, strict=True)]
        return torch.cat([each.detach().double().reshape(-1).cpu() for each in flat])


def by_outputs(graph: Graph, cotangents: list[Tensor | None]) -> Tensor:
    """The sum of the gradients of one output at a time, the other cotangents being absent."""
    total = None
    for place in range(len(cotangents)):
        alone = [c if number == place else None for number, c in enumerate(cotangents)]
        part = graph.backward(alone)
        total = part if total is None else total + part
    assert total is not None
    return total


def same(name: str, compute: Any, expected: Tensor, bound: Tensor, reason: str, advice: str) -> Line:
    """One line: what `compute` gives against what is expected, within a bound, element by element."""
    try:
        found = compute()
    except MethodError as error:
        return Line(name, "fail", {}, f"{error}.", advice)
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
        advice,
    )
