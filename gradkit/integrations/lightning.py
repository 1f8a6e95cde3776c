"""`GradientHygiene`: watches a Lightning `Trainer.fit` and puts what it found into the trainer's loggers."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from gradkit.findings import Finding
from gradkit.integrations._metrics import metrics_of
from gradkit.observe.monitor import Monitor

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    # The two packages hold the same classes under different names: be a callback of the one, or ones, in use.
    _loaded = [name for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
    _bases = tuple(importlib.import_module(name).Callback for name in _loaded or ["lightning.pytorch"])
    Callback = type("Callback", _bases, {"__doc__": "A callback of every Lightning package in use."})


class GradientHygiene(Callback):
    """Watches each `fit` from its set-up, before the optimizers are made, to its end.

    Works with automatic and manual optimization. How many batches make a window is taken from the trainer's
    `accumulate_grad_batches`. Nothing is logged as long as nothing is found; from then on the loggers get the metrics
    below at the end of each epoch and of the fit. Findings name the user's own line, such as the one where
    `training_step` returns its loss.

    Args:
        **options: Options of `gradkit.watch`, such as `select`, `frozen`, `halt_on` or `report`.

    Raises:
        ConfigError: An option that cannot be used.

    Metrics:
        gradkit/errors, gradkit/warnings, gradkit/notes: Distinct findings so far [count].
        gradkit/GK101 and so on: Steps that showed the finding so far [count].

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(
        ...     callbacks=[GradientHygiene()], logger=False, enable_checkpointing=False, accelerator="cpu"
        ... )
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = options
        self._logged: dict[str, int] = {}
        self.monitor = Monitor(**options)  # refuses bad options here rather than when training has begun

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the present or last fit, worst first."""
        return self.monitor.findings

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to watch a fit; validation, testing and prediction on their own are left alone."""
        if stage != "fit":
            return
        self.monitor.stop()
        batches = trainer.accumulate_grad_batches
        declared = batches if pl_module.automatic_optimization and batches > 1 else None
        if any(type(callback).__name__ == "GradientAccumulationScheduler" for callback in trainer.callbacks):  # type: ignore[attr-defined]
            declared = None  # windows grow on purpose
        self._logged = {}
        self.monitor = Monitor(**{"accumulate": declared, **self._options}).start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what has been found so far."""
        self._log(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching a fit that was interrupted."""
        self._end(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching and print the findings."""
        if stage == "fit":
            self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        self.monitor.stop()
        self._log(trainer)

    def _log(self, trainer: Trainer) -> None:
        metrics = metrics_of(self.findings)
        if metrics != self._logged:
            self._logged = metrics
            for logger in trainer.loggers:
                logger.log_metrics(dict(metrics), step=trainer.global_step)
