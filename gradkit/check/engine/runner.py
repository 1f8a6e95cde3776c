"""Runs a model again and again from one state, and listens to its modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradkit.check.engine.batches import Forward, cast, floating, twin_of
from gradkit.check.engine.random_state import RandomState


class Runner:
    """Runs one copy of a model on inputs, every time from the same state."""

    def __init__(self, model: nn.Module, forward: Forward, state: RandomState, dtype: torch.dtype | None) -> None:
        self.model = model
        self.forward = forward
        self.state = state
        self.dtype = dtype

    def run(self, inputs: Any) -> list[Tensor]:
        """The floating outputs."""
        return floating(self.fresh(inputs)[1])

    def fresh(self, inputs: Any) -> tuple[nn.Module, Any]:
        """A fresh copy of the model, and what it returned."""
        twin = twin_of(self.model, self.dtype)
        self.state.restore()
        with torch.no_grad():
            return twin, self.forward(twin, cast(inputs, self.dtype))

    def traced(self, inputs: Any) -> list[tuple[str, nn.Module, list[Tensor]]]:
        """The outputs of every module in the order in which they finished."""
        twin = twin_of(self.model, self.dtype)
        seen: list[tuple[str, nn.Module, list[Tensor]]] = []
        with _watching(twin, seen):
            self.state.restore()
            with torch.no_grad():
                self.forward(twin, cast(inputs, self.dtype))
        return seen


@contextmanager
def _watching(model: nn.Module, seen: list[tuple[str, nn.Module, list[Tensor]]]) -> Iterator[None]:
    handles = []
    for name, each in model.named_modules():

        def note(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
            seen.append((name, module, [leaf.detach().clone() for leaf in floating(output)]))

        handles.append(each.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
