"""The optimizer holds the parameters of a copy of the model (GK402)."""

from __future__ import annotations

import copy

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK402"


class Loop(TrainingLoop):
    """Copies the model after the optimizer was built, and trains the copy the optimizer does not know."""

    def __post_init__(self) -> None:
        """Give the optimizer the parameters of a copy, in the same order."""
        super().__post_init__()
        originals = list(self.model.parameters())
        copies = dict(zip(map(id, originals), copy.deepcopy(self.model).parameters(), strict=True))
        for group in self.optimizer.param_groups:
            group["params"] = [copies[id(parameter)] for parameter in group["params"]]
