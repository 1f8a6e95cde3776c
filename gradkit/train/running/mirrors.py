"""Copies of the recorded values for other tools, through Fabric's loggers; a mirror that fails is dropped."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import CSVLogger
from lightning.fabric.loggers.tensorboard import TensorBoardLogger

from gradkit.runs.store import Complaints
from gradkit.train.schema.loop import LoggerConfig


class Mirrors:
    """The loggers a configuration asks for, each contained.

    Args:
        config: The `logger` group.
        folder: Run folder; each mirror has its own subfolder there.
        attempt: Number of the attempt, the loggers' version: a resumed run never rewrites an earlier mirror.
        complaints: Where a failing mirror is reported.
    """

    def __init__(self, config: LoggerConfig, folder: Path, *, attempt: int, complaints: Complaints) -> None:
        self._complaints = complaints
        self._loggers: dict[str, Any] = {}
        makers = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}
        for name, wanted in (("csv", config.csv), ("tensorboard", config.tensorboard)):
            if wanted:
                self._guarded(name, lambda name=name: self._open(name, makers[name], folder, attempt))

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Hand the values of one step to every mirror that still works."""
        for name, logger in list(self._loggers.items()):
            self._guarded(name, lambda logger=logger: logger.log_metrics(dict(values), step=step))

    def evaluation(self, split: str, values: Mapping[str, float | None], step: int) -> None:
        """Hand the metrics of an evaluation to every mirror, named `split/metric`."""
        self({f"{split}/{name}": value for name, value in values.items() if value is not None}, step)

    def flush(self) -> None:
        """Have the mirrors write what they hold."""
        for name, logger in list(self._loggers.items()):
            self._guarded(name, logger.save)

    def close(self) -> None:
        """Flush and let the mirrors go."""
        self.flush()
        for name, logger in list(self._loggers.items()):
            self._guarded(name, lambda logger=logger: logger.finalize("success"))
        self._loggers.clear()

    @property
    def active(self) -> bool:
        """Whether any mirror still works."""
        return bool(self._loggers)

    def _open(self, name: str, maker: Any, folder: Path, attempt: int) -> None:
        self._loggers[name] = maker(root_dir=folder, name=name, version=attempt)

    def _guarded(self, name: str, action: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                action()
        except Exception as error:  # third-party writers fail in many ways; none may end a training run
            self._loggers.pop(name, None)
            self._complaints.say(f"the {name} mirror", error)
