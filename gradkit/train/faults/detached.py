"""The output of the model's first layer is cut off from autograd, so that layer never learns (GK203)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK203"


class Loop(TrainingLoop):
    """Detaches what the first layer with parameters returns."""

    def __post_init__(self) -> None:
        """Cut the path."""
        super().__post_init__()
        layers = [module for module in self.model.modules() if list(module.parameters(recurse=False))]
        layers[0].register_forward_hook(cut)


def cut(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """The output without its history."""
    return output.detach()
