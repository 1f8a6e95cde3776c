"""Keys of the groups `optimizer` and `schedule`."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.config.fields import MISSING, key


@dataclass
class OptimizerConfig:
    """What every optimizer shares."""

    name: str = key(MISSING, "optimizer, set by the group choice")
    lr: float = key(0.1, "learning rate", above=0)
    weight_decay: float = key(0.0, "weight decay", low=0)


@dataclass
class SgdOptimizer(OptimizerConfig):
    """torch.optim.SGD; the group choices sgd, momentum and nesterov are settings of it."""

    name: str = key("sgd", "optimizer", choices=("sgd",))
    momentum: float = key(0.0, "momentum", low=0, below=1)
    nesterov: bool = key(False, "Nesterov momentum (needs momentum > 0)")


@dataclass
class AdamOptimizer(OptimizerConfig):
    """torch.optim.Adam or AdamW."""

    name: str = key("adam", "optimizer", choices=("adam", "adamw"))
    lr: float = key(0.01, "learning rate", above=0)
    beta1: float = key(0.9, "decay of the first moment", low=0, below=1)
    beta2: float = key(0.999, "decay of the second moment", low=0, below=1)
    eps: float = key(1e-8, "term added to the denominator", above=0)
    amsgrad: bool = key(False, "keep the maximum of the second moment")


@dataclass
class RmspropOptimizer(OptimizerConfig):
    """torch.optim.RMSprop."""

    name: str = key("rmsprop", "optimizer", choices=("rmsprop",))
    lr: float = key(0.005, "learning rate", above=0)
    alpha: float = key(0.99, "decay of the squared gradient", low=0, below=1)
    momentum: float = key(0.0, "momentum", low=0, below=1)
    eps: float = key(1e-8, "term added to the denominator", above=0)


@dataclass
class AdagradOptimizer(OptimizerConfig):
    """torch.optim.Adagrad."""

    name: str = key("adagrad", "optimizer", choices=("adagrad",))
    lr: float = key(0.05, "learning rate", above=0)
    eps: float = key(1e-10, "term added to the denominator", above=0)


@dataclass
class LbfgsOptimizer(OptimizerConfig):
    """torch.optim.LBFGS with a strong-Wolfe line search; takes no weight decay (use loss.l2)."""

    name: str = key("lbfgs", "optimizer", choices=("lbfgs",))
    lr: float = key(1.0, "learning rate", above=0)
    max_iter: int = key(10, "iterations in one step", low=1)
    history_size: int = key(10, "updates kept", low=1)


@dataclass
class ScheduleConfig:
    """What every learning-rate schedule shares; `constant` adds nothing."""

    name: str = key("constant", "schedule, set by the group choice", choices=("constant",))


@dataclass
class StepSchedule(ScheduleConfig):
    """Multiply the learning rate by `gamma` every `every_epochs`."""

    name: str = key("step", "schedule", choices=("step",))
    every_epochs: int = key(10, "epochs between two drops", low=1)
    gamma: float = key(0.5, "factor of each drop", above=0, high=1)


@dataclass
class CosineSchedule(ScheduleConfig):
    """Half a cosine from the learning rate down to `final_factor` of it over the whole run."""

    name: str = key("cosine", "schedule", choices=("cosine",))
    final_factor: float = key(0.0, "share of the learning rate that is left at the end", low=0, high=1)


@dataclass
class WarmupSchedule(ScheduleConfig):
    """Linear from 0 over the first steps, then constant."""

    name: str = key("warmup", "schedule", choices=("warmup",))
    steps: int = key(20, "optimizer steps until the full learning rate", low=1)


@dataclass
class OneCycleSchedule(ScheduleConfig):
    """torch.optim.lr_scheduler.OneCycleLR over the whole run; the learning rate is its maximum."""

    name: str = key("one_cycle", "schedule", choices=("one_cycle",))
    warmup_fraction: float = key(0.3, "share of the steps in which the learning rate rises", above=0, below=1)


@dataclass
class PlateauSchedule(ScheduleConfig):
    """Lower the learning rate when the validation loss has not improved."""

    name: str = key("plateau", "schedule", choices=("plateau",))
    patience: int = key(5, "evaluations without improvement before a drop", low=0)
    factor: float = key(0.5, "factor of each drop", above=0, below=1)


OPTIMIZERS: dict[str, type] = {
    "sgd": SgdOptimizer,
    "momentum": SgdOptimizer,
    "nesterov": SgdOptimizer,
    "adam": AdamOptimizer,
    "adamw": AdamOptimizer,
    "rmsprop": RmspropOptimizer,
    "adagrad": AdagradOptimizer,
    "lbfgs": LbfgsOptimizer,
}

SCHEDULES: dict[str, type] = {
    "constant": ScheduleConfig,
    "step": StepSchedule,
    "cosine": CosineSchedule,
    "warmup": WarmupSchedule,
    "one_cycle": OneCycleSchedule,
    "plateau": PlateauSchedule,
}
