"""Steps per second of the training loop, beside a bare torch loop, the Lightning Trainer and scikit-learn.

Logistic regression on 1,000,000 x 100 float32, one thread. Every figure is a ratio of two things measured in turns in
this process: a block is one epoch (or a fixed number of steps where an epoch takes too long), the order alternates, and
the median of the pairs is reported with its quartiles.

    python benchmarks/throughput.py                 the whole table, about six minutes
    python benchmarks/throughput.py --samples 200000 --pairs 3

The result is written to benchmarks/results/throughput.json, with the machine and the versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional as F

from gradkit.runs.store import Complaints, RunStore
from gradkit.train.command.display import Display
from gradkit.train.data.batches import BUFFERS, CHUNK_ROWS
from gradkit.train.data.staging import Ring
from gradkit.train.running.context import JobContext
from gradkit.train.running.session import Session
from gradkit.train.schema import TrainConfig
from gradkit.train.schema.data import SyntheticData
from gradkit.train.schema.loop import InferenceConfig, TrainerConfig
from gradkit.train.schema.models import GradientConfig, LogisticModel, LossConfig
from gradkit.train.schema.optimizers import ScheduleConfig, SgdOptimizer

BATCHES = (64, 1024, 16384)
BUDGET = {64: 1.30, 1024: 1.25, 16384: 1.10}


class Bare:
    """The loop anybody would write: slices of a tensor, nn.Linear, SGD."""

    def __init__(self, features: torch.Tensor, targets: torch.Tensor, batch: int) -> None:
        self.features, self.targets, self.batch = features, targets, batch
        self.model = nn.Linear(features.shape[1], 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

    def epoch(self) -> None:
        """One pass over the data, in stored order."""
        features, targets, batch, model, optimizer = self.features, self.targets, self.batch, self.model, self.optimizer
        for start in range(0, len(targets), batch):
            optimizer.zero_grad()
            logits = model(features[start : start + batch]).squeeze(-1)
            F.binary_cross_entropy_with_logits(logits, targets[start : start + batch]).backward()
            optimizer.step()


def make_session(samples: int, dimensions: int, folder: Path, **trainer: Any) -> Session:
    """A session of `python -m gradkit.train data=synthetic` whose training split has `samples` rows."""
    config = TrainConfig(
        data=SyntheticData(samples=int(samples / 0.6), dimensions=dimensions, seed=0),
        model=LogisticModel(),
        gradient=GradientConfig(),
        loss=LossConfig(),
        optimizer=SgdOptimizer(lr=0.1),
        schedule=ScheduleConfig(),
        trainer=TrainerConfig(seed=0, epochs=10**6, progress="lines", accelerator="cpu", **trainer),
        inference=InferenceConfig(),
    )
    complaints = Complaints()
    store = RunStore(folder, complaints)
    return Session(
        config, JobContext(folder), Fabric(accelerator="cpu", devices=1), Display("none"), store, complaints, 1
    )


def epoch_of(session: Session, *, everything: bool) -> Callable[[], None]:
    """A function that trains one more epoch; `everything` evaluates, checkpoints, watches and shows progress."""
    loop = session.loop
    watching: AbstractContextManager[Any] = session._watching() if everything else nullcontext()
    if everything:
        steps = session.display.follow(None, 0)
        session._steps = steps
        batch = session.config.trainer.batch_size
        loop.on_step = lambda loss: steps.step(batch, lambda: float(loss), session._last_norm)
    else:
        loop.on_epoch_end = lambda inference, eval_mode: None
        loop.config = replace(loop.config, checkpoint_every=None)

    def epoch() -> None:
        loop.progress.stopped_because = None
        loop.config = replace(loop.config, epochs=loop.progress.epoch + 1)
        with watching:
            loop.run()
        session.recorder.flush()

    return epoch


def gathering(features: torch.Tensor, targets: torch.Tensor) -> Callable[[], None]:
    """A function that gathers all rows once in a random order, as the training's second thread does, and no more."""
    ring = Ring(features, targets, CHUNK_ROWS, BUFFERS, torch.device("cpu"))
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    pieces = order.split(CHUNK_ROWS)

    def epoch() -> None:
        for chunk, piece in enumerate(pieces):
            ring.gather(chunk, piece)

    return epoch


def seconds_of(action: Callable[[], None]) -> float:
    """Wall time of one call [s]."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def paired(candidate: Callable[[], None], reference: Callable[[], None], pairs: int) -> dict[str, float]:
    """Median and quartiles of candidate over reference, measured in turns; one uncounted round first."""
    candidate()
    reference()
    ratios, times = [], []
    for index in range(pairs):
        first, second = (candidate, reference) if index % 2 else (reference, candidate)
        a, b = seconds_of(first), seconds_of(second)
        mine, other = (a, b) if first is candidate else (b, a)
        ratios.append(mine / other)
        times.append((mine, other))
    low, middle, high = statistics.quantiles(ratios, n=4) if pairs > 1 else (ratios[0],) * 3
    return {
        "ratio": round(middle, 3),
        "quartile_low": round(low, 3),
        "quartile_high": round(high, 3),
        "seconds": round(statistics.median(mine for mine, _ in times), 4),
        "reference_seconds": round(statistics.median(other for _, other in times), 4),
    }


def trainer_epoch(features: torch.Tensor, targets: torch.Tensor, batch: int, steps: int) -> Callable[[], None]:
    """The Lightning Trainer with its defaults off where they print, fed by DataLoader(TensorDataset), `steps` steps."""
    import lightning.pytorch as pl
    from torch.utils.data import DataLoader, TensorDataset

    class Logistic(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(features.shape[1], 1)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            x, y = batch
            return F.binary_cross_entropy_with_logits(self.linear(x).squeeze(-1), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader = DataLoader(TensorDataset(features, targets), batch_size=batch, shuffle=True)
    model = Logistic()

    def epoch() -> None:
        pl.Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(model, loader)

    return epoch


def manual_against_autograd(batch: int, dimensions: int, pairs: int, repeats: int = 2000) -> dict[str, float]:
    """Forward and gradient of logistic regression: autograd's time over the hand-derived one's."""
    from gradkit.train.gradients import build_gradient
    from gradkit.train.loop.losses import build_loss
    from gradkit.train.models import build_model

    torch.manual_seed(0)
    features, targets = torch.randn(batch, dimensions), (torch.rand(batch) > 0.5).float()

    def runner(name: str) -> Callable[[], None]:
        model = build_model(LogisticModel(), (dimensions,))
        loss_config = LossConfig()
        method = build_gradient(
            GradientConfig(name=name), model, model, loss_config, build_loss(loss_config), lambda loss: loss.backward()
        )
        parameters = list(model.parameters())

        def run() -> None:
            for _ in range(repeats):
                for parameter in parameters:
                    parameter.grad = None
                method.backward(method.forward(features, targets), 1.0)

        return run

    result = paired(runner("autograd"), runner("manual"), pairs)
    result["microseconds_autograd"] = round(result.pop("seconds") / repeats * 1e6, 1)
    result["microseconds_manual"] = round(result.pop("reference_seconds") / repeats * 1e6, 1)
    return result


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "throughput.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    pairs = arguments.pairs

    def note(what: str, batch: int, figures: dict[str, float], budget: str = "") -> None:
        rows.append({"what": what, "batch": batch, "budget": budget, **figures})
        low, high = figures["quartile_low"], figures["quartile_high"]
        print(f"batch {batch:>6}  {what:<58} {figures['ratio']:>8.3f}  [{low:.3f}, {high:.3f}]  {budget}", flush=True)

    note(
        "autograd over hand-derived, forward + gradient",
        64,
        manual_against_autograd(64, arguments.dimensions, 5 * pairs),  # a pair takes a sixth of a second
        "at least 5",
    )
    with tempfile.TemporaryDirectory() as scratch:
        for batch in BATCHES:
            folder = Path(scratch) / str(batch)
            folder.mkdir()
            session = make_session(arguments.samples, arguments.dimensions, folder, batch_size=batch, shuffle="none")
            split = session.dataset.train
            bare = Bare(split.features, split.targets, batch)
            plain = epoch_of(session, everything=False)
            note("gradkit loop, as stored / bare", batch, paired(plain, bare.epoch, pairs), f"at most {BUDGET[batch]}")
            session.recorder._enabled = False
            note("gradkit loop, as stored, record=false / bare", batch, paired(plain, bare.epoch, pairs))
            for shuffle in ("batches", "full"):
                (folder / shuffle).mkdir()
                shuffled = make_session(
                    arguments.samples, arguments.dimensions, folder / shuffle, batch_size=batch, shuffle=shuffle
                )
                budget = "at most 1.25" if (batch, shuffle) == (16384, "full") else ""
                note(
                    f"gradkit loop, shuffle={shuffle} / bare unshuffled",
                    batch,
                    paired(epoch_of(shuffled, everything=False), bare.epoch, pairs),
                    budget,
                )
                if shuffle == "full":
                    # Of two cores one trains while the other gathers: what takes longer here, so will the epoch.
                    note(
                        "gathering all rows, one core, nothing else / bare unshuffled",
                        batch,
                        paired(gathering(split.features, split.targets), bare.epoch, pairs),
                    )
                    note(
                        "gradkit with all defaults / bare unshuffled",
                        batch,
                        paired(epoch_of(shuffled, everything=True), bare.epoch, pairs),
                        "at most 1.7" if batch == 64 else "",
                    )
                    if batch == 16384:
                        steps = 4
                        lightning = trainer_epoch(split.features, split.targets, batch, steps)
                        part = Bare(split.features[: steps * batch], split.targets[: steps * batch], batch)
                        note("Trainer + DataLoader / bare unshuffled, 4 steps", batch, paired(lightning, part.epoch, 3))
                        whole = paired(epoch_of(shuffled, everything=False), lightning, 3)
                        share = steps / shuffled.batches.steps_per_epoch
                        low, high = whole["quartile_low"], whole["quartile_high"]
                        # Inverted, the upper quartile is the lower one.
                        for name, value in (("ratio", whole["ratio"]), ("quartile_low", high), ("quartile_high", low)):
                            whole[name] = round(1 / (value * share), 2)
                        note("Trainer + DataLoader / gradkit shuffled, per step", batch, whole, "at least 20")
                del shuffled
            if batch >= 1024:
                note(
                    "gradkit epoch / SGDClassifier epoch",
                    batch,
                    paired(plain, sklearn_epoch(split.features, split.targets), 3),
                    "at most 1 from 1024 on",
                )
            del session, bare
    result = {
        "command": "python benchmarks/throughput.py",
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "threads": 1},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "samples": arguments.samples,
        "dimensions": arguments.dimensions,
        "rows": rows,
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {arguments.output}")


def sklearn_epoch(features: torch.Tensor, targets: torch.Tensor) -> Callable[[], None]:
    """One epoch of scikit-learn's SGDClassifier with logistic loss."""
    import numpy as np
    from sklearn.linear_model import SGDClassifier

    x, y = features.numpy(), targets.numpy()
    classifier = SGDClassifier(loss="log_loss", random_state=0)
    return lambda: classifier.partial_fit(x, y, classes=np.array([0.0, 1.0])) and None


if __name__ == "__main__":
    main()
