"""Keys of the group `fault`: each a mistake the loop makes on purpose, and the rule that must name it."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.config.fields import key


@dataclass
class FaultConfig:
    """No fault: the loop as it should be."""

    name: str = key("none", "fault to commit", choices=("none",))


@dataclass
class UnzeroedFault(FaultConfig):
    """Gradients are not cleared between steps, so each step follows the sum of several windows (GK101)."""

    name: str = key("unzeroed", "fault to commit", choices=("unzeroed",))
    every: int | None = key(None, "clear in every so many steps only; null never clears", low=2)


@dataclass
class UnzeroedPartlyFault(FaultConfig):
    """Some parameters are left out when gradients are cleared (GK101)."""

    name: str = key("unzeroed_partly", "fault to commit", choices=("unzeroed_partly",))
    share: float = key(0.5, "share of the parameter tensors left out, the last ones, at least one", above=0, high=1)


@dataclass
class ClearedEarlyFault(FaultConfig):
    """Gradients are cleared between backward and step, which has nothing to go by (GK102)."""

    name: str = key("cleared_early", "fault to commit", choices=("cleared_early",))


@dataclass
class SteppedTwiceFault(FaultConfig):
    """The optimizer steps twice on one gradient (GK103)."""

    name: str = key("stepped_twice", "fault to commit", choices=("stepped_twice",))


@dataclass
class RetainedGraphFault(FaultConfig):
    """The loss of every step is kept with its graph, so graphs of earlier steps stay alive (GK202)."""

    name: str = key("retained_graph", "fault to commit", choices=("retained_graph",))


@dataclass
class NeedlessRetainFault(FaultConfig):
    """Every backward keeps its graph for a second one that never comes (GK207)."""

    name: str = key("needless_retain", "fault to commit", choices=("needless_retain",))


@dataclass
class UnoptimizedHeadFault(FaultConfig):
    """The optimizer does not hold the model's last layer (GK401)."""

    name: str = key("unoptimized_head", "fault to commit", choices=("unoptimized_head",))


@dataclass
class ForeignOptimizerFault(FaultConfig):
    """The optimizer holds the parameters of a copy of the model (GK402)."""

    name: str = key("foreign_optimizer", "fault to commit", choices=("foreign_optimizer",))


@dataclass
class TrackedEvaluationFault(FaultConfig):
    """Validation records autograd graphs that nobody uses (GK201)."""

    name: str = key("tracked_evaluation", "fault to commit", choices=("tracked_evaluation",))


@dataclass
class EvalModeLeftOnFault(FaultConfig):
    """The model stays in eval mode after its first validation (GK204)."""

    name: str = key("eval_mode_left_on", "fault to commit", choices=("eval_mode_left_on",))


@dataclass
class TrainModeInEvaluationFault(FaultConfig):
    """Validation runs with dropout and batch-norm in train mode (GK205)."""

    name: str = key("train_mode_in_evaluation", "fault to commit", choices=("train_mode_in_evaluation",))


@dataclass
class FrozenLrFault(FaultConfig):
    """The learning rate is 0 in every step, so no weight ever changes (GK403)."""

    name: str = key("frozen_lr", "fault to commit", choices=("frozen_lr",))


@dataclass
class HugeLrFault(FaultConfig):
    """The learning rate is many times what was configured (GK404)."""

    name: str = key("huge_lr", "fault to commit", choices=("huge_lr",))
    factor: float = key(1.0e4, "what the learning rate is multiplied by", above=1)


@dataclass
class SchedulerFirstFault(FaultConfig):
    """The learning-rate schedule steps before the optimizer does (GK405)."""

    name: str = key("scheduler_first", "fault to commit", choices=("scheduler_first",))


@dataclass
class FrozenMovesFault(FaultConfig):
    """The first layer is frozen after some steps, and the optimizer goes on moving it (GK406)."""

    name: str = key("frozen_moves", "fault to commit", choices=("frozen_moves",))
    after: int = key(10, "optimizer steps before the layer is frozen", low=1)


@dataclass
class DetachedFault(FaultConfig):
    """The output of the first layer is cut off from autograd, so that layer never learns (GK203)."""

    name: str = key("detached", "fault to commit", choices=("detached",))


@dataclass
class UntrackedWriteFault(FaultConfig):
    """Weights change between forward and backward where autograd cannot see it (GK208)."""

    name: str = key("untracked_write", "fault to commit", choices=("untracked_write",))


FAULTS: dict[str, type] = {
    "none": FaultConfig,
    "unzeroed": UnzeroedFault,
    "unzeroed_partly": UnzeroedPartlyFault,
    "cleared_early": ClearedEarlyFault,
    "stepped_twice": SteppedTwiceFault,
    "retained_graph": RetainedGraphFault,
    "needless_retain": NeedlessRetainFault,
    "unoptimized_head": UnoptimizedHeadFault,
    "foreign_optimizer": ForeignOptimizerFault,
    "tracked_evaluation": TrackedEvaluationFault,
    "eval_mode_left_on": EvalModeLeftOnFault,
    "train_mode_in_evaluation": TrainModeInEvaluationFault,
    "frozen_lr": FrozenLrFault,
    "huge_lr": HugeLrFault,
    "scheduler_first": SchedulerFirstFault,
    "frozen_moves": FrozenMovesFault,
    "detached": DetachedFault,
    "untracked_write": UntrackedWriteFault,
}
