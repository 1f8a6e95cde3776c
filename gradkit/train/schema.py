"""Every configuration key of a training run: type, default, meaning and allowed range.

The dataclasses are ordinary ones, as Hydra needs them. Composition, range checks, `--help` and the run folder
all read this file; nothing here may import torch, Lightning or Hydra.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gradkit.config.fields import MISSING, key

# --- data ------------------------------------------------------------------------------------------------------------


@dataclass
class DataConfig:
    """What every data source shares."""

    name: str = key(MISSING, "data source, set by the group choice")
    validation_fraction: float = key(0.2, "share of the samples held out for validation", above=0, below=1)
    test_fraction: float = key(0.2, "share of the samples held out for the final test", above=0, below=1)
    standardize: bool = key(True, "scale features to mean 0 and standard deviation 1 of the training split")


@dataclass
class BreastCancerData(DataConfig):
    """scikit-learn's breast cancer set: 569 samples, 30 features, target 1 = benign."""

    name: str = key("breast_cancer", "data source", choices=("breast_cancer",))
    features: list[str] | None = key(None, "feature names to use; null takes all 30")


@dataclass
class DigitsOddData(DataConfig):
    """scikit-learn's digits: 1797 images of 8 x 8, target 1 = odd digit."""

    name: str = key("digits_odd", "data source", choices=("digits_odd",))


@dataclass
class SyntheticData(DataConfig):
    """Two Gaussian classes on either side of a random hyperplane."""

    name: str = key("synthetic", "data source", choices=("synthetic",))
    samples: int = key(10_000, "number of samples", low=10, high=10_000_000)
    dimensions: int = key(20, "number of features", low=1, high=100_000)
    noise: float = key(1.0, "standard deviation of the noise added to the logit", low=0)
    label_flips: float = key(0.0, "share of labels flipped at random", low=0, below=0.5)
    positive_share: float = key(0.5, "share of samples with target 1", above=0, below=1)
    seed: int = key("${seed}", "seed of the generator; by default the run's", low=0)


@dataclass
class WorkedExampleData(DataConfig):
    """One sample, used for training and evaluation alike: the worked example x = 6.7, y = 0."""

    name: str = key("worked_example", "data source", choices=("worked_example",))
    standardize: bool = key(False, "must stay false: one sample has no spread")
    x: float = key(6.7, "the feature")
    y: float = key(0.0, "the target", low=0, high=1)


@dataclass
class TableData(DataConfig):
    """What the user's own tables share."""

    path: str = key(MISSING, "the file")
    target: str = key(MISSING, "name of the target column")
    positive: str | None = key(None, "label that becomes 1; null takes the larger (or later in the alphabet) of two")
    features: list[str] | None = key(None, "columns to train on; null takes all but the target")


@dataclass
class CsvData(TableData):
    """A CSV file with a header line."""

    name: str = key("csv", "data source", choices=("csv",))
    delimiter: str = key(",", "one character between two cells")


@dataclass
class ParquetData(TableData):
    """A Parquet file."""

    name: str = key("parquet", "data source", choices=("parquet",))


@dataclass
class NpyData(DataConfig):
    """NumPy files: features in an .npy with the targets in another, or both in one .npz."""

    name: str = key("npy", "data source", choices=("npy",))
    path: str = key(MISSING, "an .npy file of shape (samples, features), or an .npz")
    targets: str | None = key(None, "an .npy file of shape (samples,), needed when `path` is an .npy")
    features_key: str = key("X", "name of the feature array in an .npz")
    targets_key: str = key("y", "name of the target array in an .npz")
    positive: str | None = key(None, "label that becomes 1; null takes the larger of two")


# --- model -----------------------------------------------------------------------------------------------------------


@dataclass
class ModelConfig:
    """What every model shares: it maps features (batch, ...) to logits (batch,)."""

    name: str = key(MISSING, "model, set by the group choice")


@dataclass
class NotebookModel(ModelConfig):
    """Two scalars, z = w x + b, on one feature: the origin of gradkit."""

    name: str = key("notebook", "model", choices=("notebook",))
    w: float = key(1.0, "initial weight")
    b: float = key(0.0, "initial bias")
    feature: int = key(0, "index of the one feature it looks at", low=0)


@dataclass
class LogisticModel(ModelConfig):
    """Logistic regression on all features, started at zero (the loss is convex)."""

    name: str = key("logistic", "model", choices=("logistic",))


@dataclass
class MlpModel(ModelConfig):
    """Fully connected layers, each with an activation."""

    name: str = key("mlp", "model", choices=("mlp",))
    hidden: list[int] = key([64, 64], "widths of the hidden layers", low=1, high=65_536)
    activation: str = key("relu", "activation of the hidden layers", choices=("relu", "tanh", "sigmoid"))
    dropout: float = key(0.0, "share of activations dropped in training", low=0, below=1)
    batch_norm: bool = key(False, "normalise each hidden layer over the batch, before its activation")


@dataclass
class DeepSigmoidModel(ModelConfig):
    """Many narrow sigmoid layers, whose gradients vanish on their way down."""

    name: str = key("deep_sigmoid", "model", choices=("deep_sigmoid",))
    depth: int = key(8, "number of hidden layers", low=1, high=1_000)
    width: int = key(32, "width of each hidden layer", low=1, high=65_536)


@dataclass
class CnnDigitsModel(ModelConfig):
    """Two convolutions and a linear layer for the 8 x 8 digits."""

    name: str = key("cnn_digits", "model", choices=("cnn_digits",))
    channels: int = key(16, "channels of the first convolution; the second has twice as many", low=1, high=4_096)
    dropout: float = key(0.0, "share of activations dropped before the last layer", low=0, below=1)


@dataclass
class CustomModel(ModelConfig):
    """The user's own module class or factory, allowed by `--trust`."""

    name: str = key("custom", "model", choices=("custom",))
    target: str = key(MISSING, "dotted path of a callable that returns a torch.nn.Module")
    options: dict[str, Any] = key({}, "keyword arguments handed to it")
    sparse_gradients: bool = key(False, "declares that some gradients are sparse")


# --- gradient, loss --------------------------------------------------------------------------------------------------


@dataclass
class GradientConfig:
    """Who works out the gradient."""

    name: str = key("autograd", "source of the gradient", choices=("autograd", "manual", "both"))


@dataclass
class LossConfig:
    """Mean binary cross-entropy, in one of its forms, with optional penalties."""

    name: str = key(
        "bce_with_logits",
        "form of the loss",
        choices=("bce_with_logits", "bce_on_probabilities", "textbook"),
    )
    pos_weight: float | None = key(None, "weight of the samples with target 1; null is 1", above=0)
    label_smoothing: float = key(0.0, "targets are moved this far towards 0.5: y (1 - s) + s / 2", low=0, below=1)
    l1: float = key(0.0, "adds l1 * sum of absolute weights (parameters with two or more axes, or the scalar w)", low=0)
    l2: float = key(0.0, "adds l2 / 2 * sum of squared weights (the same parameters)", low=0)


@dataclass
class CustomLoss(LossConfig):
    """The user's own loss, `fn(logits, targets) -> scalar`, allowed by `--trust`."""

    name: str = key("custom", "form of the loss", choices=("custom",))
    target: str = key(MISSING, "dotted path of the function")


# --- optimizer, schedule ---------------------------------------------------------------------------------------------


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


# --- trainer, inference, logger --------------------------------------------------------------------------------------


@dataclass
class TrainerConfig:
    """How long, in which portions and where the loop runs."""

    epochs: int = key(60, "passes over the training split", low=1)
    max_steps: int | None = key(None, "stop after this many optimizer steps; null has no limit", low=1)
    max_seconds: float | None = key(None, "stop after this many seconds of training; null has no limit", above=0)
    batch_size: int = key(64, "samples in a micro-batch; a larger number than there are takes all", low=1)
    accumulate: int = key(1, "micro-batches in an accumulation window", low=1)
    shuffle: str = key(
        "full", "order of the samples: every sample, whole batches, or as stored", choices=("full", "batches", "none")
    )
    clip_norm: float | None = key(None, "clip gradients to this 2-norm; null does not clip", above=0)
    clip_value: float | None = key(None, "clip each gradient element to this magnitude; null does not clip", above=0)
    precision: str = key("32", "arithmetic of the loop", choices=("32", "64", "bf16-mixed", "16-mixed"))
    accelerator: str = key("auto", "where to run", choices=("auto", "cpu", "cuda", "gpu", "mps"))
    devices: int = key(1, "number of devices, each with its own process", low=1, high=1024)
    strategy: str = key("auto", "how several devices work together", choices=("auto", "ddp"))
    threads: int | None = key(None, "threads inside one torch operation; null leaves torch's choice", low=1, high=4096)
    compile: bool = key(False, "compile the model with torch.compile")
    seed: int = key("${seed}", "seed of split, initial weights, order and dropout", low=0, high=2**32 - 1)
    early_stopping: int | None = key(None, "stop after this many evaluations without a lower validation loss", low=1)
    evaluate_every: int = key(1, "epochs between two evaluations on the validation split", low=1)
    checkpoint_every: int | None = key(200, "optimizer steps between two checkpoints; null writes only the last", low=1)
    keep_checkpoints: int = key(2, "step checkpoints kept beside the best", low=2, high=1000)
    flush_every: int = key(200, "optimizer steps between two reads of recorded values from the device", low=1)
    record: bool = key(True, "record loss and gradient norm of every step in events.jsonl")
    progress: str = key("auto", "what is shown while training", choices=("auto", "bar", "lines", "none"))
    resume: str | None = key(None, "run folder to go on with, in place")


@dataclass
class InferenceConfig:
    """How evaluation keeps autograd out, if it does."""

    name: str = key(
        "no_grad",
        "way to evaluate",
        choices=("tracked", "no_grad", "inference_mode", "detach", "requires_grad_false"),
    )


@dataclass
class LoggerConfig:
    """Mirrors of events.jsonl for other tools; a mirror that fails never harms the run."""

    csv: bool = key(False, "write metrics.csv")
    tensorboard: bool = key(False, "write TensorBoard event files (needs gradkit[tensorboard])")


# --- fault, watch ----------------------------------------------------------------------------------------------------


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


@dataclass
class WatchConfig:
    """How gradkit watches the loop: never changes the training itself."""

    name: str = key("standard", "how closely to watch", choices=("none", "standard", "deep"))
    select: list[str] | None = key(None, "rule codes or prefixes to judge by, such as [GK1]; null takes all")
    ignore: list[str] = key([], "rule codes or prefixes to leave out")
    halt_on: str | None = key(
        None, "end the run at the first finding of this severity or worse", choices=("note", "warning", "error")
    )


@dataclass
class TrainConfig:
    """One run."""

    mode: str = key("train", "what to do", choices=("train", "evaluate"))
    run: str | None = key(None, "run folder to evaluate with mode=evaluate")
    name: str | None = key(None, "a name of your own, shown in reports")
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
    "data": {
        "breast_cancer": BreastCancerData,
        "digits_odd": DigitsOddData,
        "synthetic": SyntheticData,
        "worked_example": WorkedExampleData,
        "csv": CsvData,
        "parquet": ParquetData,
        "npy": NpyData,
    },
    "model": {
        "notebook": NotebookModel,
        "logistic": LogisticModel,
        "mlp": MlpModel,
        "deep_sigmoid": DeepSigmoidModel,
        "cnn_digits": CnnDigitsModel,
        "custom": CustomModel,
    },
    "gradient": {"autograd": GradientConfig, "manual": GradientConfig, "both": GradientConfig},
    "loss": {
        "bce_with_logits": LossConfig,
        "bce_on_probabilities": LossConfig,
        "textbook": LossConfig,
        "custom": CustomLoss,
    },
    "optimizer": {
        "sgd": SgdOptimizer,
        "momentum": SgdOptimizer,
        "nesterov": SgdOptimizer,
        "adam": AdamOptimizer,
        "adamw": AdamOptimizer,
        "rmsprop": RmspropOptimizer,
        "adagrad": AdagradOptimizer,
        "lbfgs": LbfgsOptimizer,
    },
    "schedule": {
        "constant": ScheduleConfig,
        "step": StepSchedule,
        "cosine": CosineSchedule,
        "warmup": WarmupSchedule,
        "one_cycle": OneCycleSchedule,
        "plateau": PlateauSchedule,
    },
    "trainer": {"default": TrainerConfig},
    "inference": {
        "tracked": InferenceConfig,
        "no_grad": InferenceConfig,
        "inference_mode": InferenceConfig,
        "detach": InferenceConfig,
        "requires_grad_false": InferenceConfig,
    },
    "logger": {"none": LoggerConfig, "csv": LoggerConfig, "tensorboard": LoggerConfig, "all": LoggerConfig},
    "fault": {
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
    },
    "watch": {"none": WatchConfig, "standard": WatchConfig, "deep": WatchConfig},
}
"""Schema of every group choice that gradkit ships; the YAML files in `configs/` hold the values."""
