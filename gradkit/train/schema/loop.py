"""Keys of the groups `trainer`, `inference`, `logger` and `watch`."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.config.fields import key


@dataclass
class TrainerConfig:
    """How long, in which portions and where the loop runs."""

    epochs: int = key(60, "passes over the training split", low=1, resumable=True)
    max_steps: int | None = key(None, "stop after this many optimizer steps; null has no limit", low=1, resumable=True)
    max_seconds: float | None = key(
        None, "stop after this many seconds of training; null has no limit", above=0, resumable=True
    )
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
    threads: int | None = key(
        None, "threads inside one torch operation; null leaves torch's choice", low=1, high=4096, resumable=True
    )
    compile: bool = key(False, "compile the model with torch.compile")
    seed: int = key("${seed}", "seed of split, initial weights, order and dropout", low=0, high=2**32 - 1)
    early_stopping: int | None = key(
        None, "stop after this many evaluations without a lower validation loss", low=1, resumable=True
    )
    evaluate_every: int = key(1, "epochs between two evaluations on the validation split", low=1, resumable=True)
    checkpoint_every: int | None = key(
        200, "optimizer steps between two checkpoints; null writes only the last", low=1, bookkeeping=True
    )
    keep_checkpoints: int = key(2, "step checkpoints kept beside the best", low=2, high=1000, bookkeeping=True)
    flush_every: int = key(
        200, "optimizer steps between two reads of recorded values from the device", low=1, bookkeeping=True
    )
    record: bool = key(True, "record loss and gradient norm of every step in events.jsonl", bookkeeping=True)
    progress: str = key(
        "auto", "what is shown while training", choices=("auto", "bar", "lines", "none"), bookkeeping=True
    )
    resume: str | None = key(None, "run folder to go on with, in place", bookkeeping=True)


@dataclass
class InferenceConfig:
    """How evaluation keeps autograd out, if it does."""

    name: str = key(
        "no_grad",
        "way to evaluate",
        choices=("tracked", "no_grad", "inference_mode", "detach", "requires_grad_false"),
        resumable=True,
    )


@dataclass
class LoggerConfig:
    """Mirrors of events.jsonl for other tools; a mirror that fails never harms the run."""

    csv: bool = key(False, "write metrics.csv", bookkeeping=True)
    tensorboard: bool = key(False, "write TensorBoard event files (needs gradkit[tensorboard])", bookkeeping=True)


@dataclass
class WatchConfig:
    """How gradkit watches the loop: never changes the training itself."""

    name: str = key("standard", "how closely to watch", choices=("none", "standard", "deep"), bookkeeping=True)
    select: list[str] | None = key(
        None, "rule codes or prefixes to judge by, such as [GK1]; null takes all", bookkeeping=True
    )
    ignore: list[str] = key([], "rule codes or prefixes to leave out", bookkeeping=True)
    halt_on: str | None = key(
        None,
        "end the run at the first finding of this severity or worse",
        choices=("note", "warning", "error"),
        bookkeeping=True,
    )


TRAINERS: dict[str, type] = {"default": TrainerConfig}

INFERENCE_MODES: dict[str, type] = {
    "tracked": InferenceConfig,
    "no_grad": InferenceConfig,
    "inference_mode": InferenceConfig,
    "detach": InferenceConfig,
    "requires_grad_false": InferenceConfig,
}

LOGGERS: dict[str, type] = {"none": LoggerConfig, "csv": LoggerConfig, "tensorboard": LoggerConfig, "all": LoggerConfig}

WATCHES: dict[str, type] = {"none": WatchConfig, "standard": WatchConfig, "deep": WatchConfig}
