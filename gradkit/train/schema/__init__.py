"""Every configuration key of a training run: type, default, meaning and allowed range.

The dataclasses are ordinary ones, as Hydra needs them. Composition, range checks, `--help` and the run folder
all read this package; nothing here may import torch, Lightning or Hydra.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gradkit.config.fields import fields_of, key
from gradkit.train.schema.data import DATA_SOURCES, DataConfig
from gradkit.train.schema.faults import FAULTS, FaultConfig
from gradkit.train.schema.loop import (
    INFERENCE_MODES,
    LOGGERS,
    TRAINERS,
    WATCHES,
    InferenceConfig,
    LoggerConfig,
    TrainerConfig,
    WatchConfig,
)
from gradkit.train.schema.models import GRADIENTS, LOSSES, MODELS, GradientConfig, LossConfig, ModelConfig
from gradkit.train.schema.optimizers import OPTIMIZERS, SCHEDULES, OptimizerConfig, ScheduleConfig


@dataclass
class TrainConfig:
    """One run."""

    mode: str = key("train", "what to do", choices=("train", "evaluate"), bookkeeping=True)
    run: str | None = key(None, "run folder to evaluate with mode=evaluate", bookkeeping=True)
    name: str | None = key(None, "a name of your own, shown in reports", bookkeeping=True)
    seed: int = key(0, "seed of everything random in the run", low=0, high=2**32 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    gradient: GradientConfig = field(default_factory=GradientConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    fault: FaultConfig = field(default_factory=FaultConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)


GROUPS: dict[str, dict[str, type]] = {
    "data": DATA_SOURCES,
    "model": MODELS,
    "gradient": GRADIENTS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "trainer": TRAINERS,
    "inference": INFERENCE_MODES,
    "logger": LOGGERS,
    "fault": FAULTS,
    "watch": WATCHES,
}
"""Schema of every group choice that gradkit ships; the YAML files in `configs/` hold the values."""


def keys_that_are(kind: str) -> tuple[str, ...]:
    """The dotted keys declared as `bookkeeping`, `resumable` or `path`; `logger.` where all keys of a group are.

    Example:
        >>> keys_that_are("path")
        ('data.path', 'data.targets')
    """
    found = [name for name, field in fields_of(TrainConfig).items() if field.metadata.get(kind)]
    for group, schemas in GROUPS.items():
        fields = {name: field for schema in schemas.values() for name, field in fields_of(schema).items()}
        marked = [f"{group}.{name}" for name, field in fields.items() if field.metadata.get(kind)]
        found += [f"{group}."] if len(marked) == len(fields) else marked
    return tuple(found)
