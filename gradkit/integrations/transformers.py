"""`GradientHygieneCallback`: watches a Hugging Face `Trainer.train` and adds what it found to the trainer's log."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from gradkit.findings import Finding
from gradkit.integrations._metrics import metrics_of
from gradkit.observe.monitor import Monitor


class GradientHygieneCallback(TrainerCallback):
    """Watches each `train` from its beginning to its end.

    How many batches make a window is taken from `gradient_accumulation_steps`. As long as nothing is found the log of
    the trainer stays as it is; from then on each entry of `trainer.state.log_history` also holds the metrics below,
    and a checkpoint keeps them in `trainer_state.json`. Findings name the user's own line: in `compute_loss` or
    `training_step` of a trainer of the user's, else the call of `train`.

    Args:
        **options: Options of `gradkit.watch`, such as `select`, `frozen`, `halt_on` or `report`.

    Raises:
        ConfigError: An option that cannot be used.

    Metrics:
        gradkit/errors, gradkit/warnings, gradkit/notes: Distinct findings so far [count].
        gradkit/GK101 and so on: Steps that showed the finding so far [count].
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = options
        self.monitor = Monitor(**options)  # refuses bad options here rather than when training has begun

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the present or last training, worst first."""
        return self.monitor.findings

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to watch; a training that raised has not told its end, so an earlier watch is ended here."""
        self.monitor.stop()
        batches = int(args.gradient_accumulation_steps)
        declared = batches if batches > 1 else None
        self.monitor = Monitor(**{"accumulate": declared, **self._options}).start()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add what has been found so far to the entry just written."""
        metrics = metrics_of(self.findings)
        if metrics and state.log_history:
            state.log_history[-1].update(metrics)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop watching and print the findings."""
        self.monitor.stop()
        self.on_log(args, state, control)
