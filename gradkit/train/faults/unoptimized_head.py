"""The optimizer lacks the last layer, as when a head is replaced after the optimizer was built (GK401)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK401"


class Loop(TrainingLoop):
    """Takes the last layer's parameters out of the optimizer."""

    def __post_init__(self) -> None:
        """Leave the optimizer with all layers but the last."""
        super().__post_init__()
        layers = [module for module in self.model.modules() if list(module.parameters(recurse=False))]
        head = {id(parameter) for parameter in layers[-1].parameters()}
        for group in self.optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in head]
