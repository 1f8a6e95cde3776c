"""Some parameters are forgotten when gradients are cleared, as by a list of parameters kept too long (GK101)."""

from __future__ import annotations

import math

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK101"


class Loop(TrainingLoop):
    """Clears all parameters but the last `fault.share` of them, at least one."""

    def clear_gradients(self) -> None:
        """Clear the first parameters only."""
        forgotten = max(1, math.ceil(self.fault.share * len(self.parameters)))
        for parameter in self.parameters[: len(self.parameters) - forgotten]:
            parameter.grad = None
