"""The first layer is frozen after some steps and still moves: the optimizer keeps what it had of it (GK406)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK406"


class Loop(TrainingLoop):
    """Freezes by `requires_grad_(False)` after `fault.after` steps and leaves the last gradient where it is."""

    def clear_gradients(self) -> None:
        """Clear what is trainable; a frozen parameter keeps its last gradient, and the optimizer uses it."""
        if self.progress.step == self.fault.after:
            layers = [module for module in self.model.modules() if list(module.parameters(recurse=False))]
            layers[0].requires_grad_(False)
            self.parameters = [parameter for parameter in self.parameters if parameter.requires_grad]
        super().clear_gradients()
