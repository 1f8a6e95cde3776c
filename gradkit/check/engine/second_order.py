"""The gradient of a function as a function itself, for checks of second order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradkit.check.engine.errors import MethodError
from gradkit.check.engine.leaves import first_line
from gradkit.check.engine.subject import Function, Subject


def first_gradient(subject: Subject) -> Function:
    """A function from the leaves of the subject's inputs and its cotangents to its gradient, with a graph.

    The cotangents are inputs too: a backward pass must be differentiable by them as well.
    """
    leaves_count = len(subject.leaves(None))

    def gradient(*arguments: Any) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            arguments = tuple(_tracked(each) for each in arguments)
            leaves, cotangents = list(arguments[:leaves_count]), arguments[leaves_count:]
            outputs = subject.selected(subject.apply(subject.fn, leaves))
            wanted = [leaves[slot.position] for slot in subject.slots]
            pairs = [(each, c) for each, c in zip(outputs, cotangents, strict=True) if each.requires_grad]
            if not pairs:
                return tuple(torch.zeros_like(each) for each in wanted)
            try:
                found = torch.autograd.grad(
                    [each for each, _ in pairs],
                    wanted,
                    [c.to(each.dtype) for each, c in pairs],
                    create_graph=True,
                    allow_unused=True,
                )
            except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
                told = f"the backward pass raised {type(error).__name__}: {first_line(error)}"
                raise MethodError(f"{told} while its own graph was recorded") from error
            if any(g is not None and type(g.grad_fn).__name__ == "Error" for g in found):
                # torch cuts the graph there, and `autograd.grad` then reports zeros without a word.
                raise MethodError("the backward pass is declared once_differentiable")
            return tuple(torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True))

    gradient.__qualname__ = f"gradient of {getattr(subject.fn, '__qualname__', 'function')}"
    return gradient


def _tracked(value: Any) -> Any:
    """The same tensor as part of a graph; a view where it was not, which keeps a forward-mode tangent."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.requires_grad:
        return value
    return value.view_as(value).requires_grad_()
