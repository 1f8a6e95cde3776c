"""The training loop, readable in one sitting: clear, forward, backward, clip, step, schedule.

Each of these is one short method, so that what a loop does can be seen, and a fault can replace exactly one of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from gradkit.train.data import Batches
from gradkit.train.gradients import GradientMethod
from gradkit.train.loop.recorder import Recorder
from gradkit.train.loop.schedules import Schedule
from gradkit.train.schema.faults import FaultConfig
from gradkit.train.schema.loop import TrainerConfig

_NOTHING = nullcontext()

SIGNAL = "signal"
"""What `Progress.stopped_because` says when a signal asked the run to stop."""

MicroBatch = tuple[Tensor, Tensor, float]
"""Features, targets, and the share of the window's samples that this micro-batch holds."""


@dataclass(slots=True)
class Window:
    """The micro-batches between two optimizer steps, to be read once: their tensors are views that move on."""

    count: int
    micro_batches: Iterable[MicroBatch]


@dataclass
class Progress:
    """Where a run stands; everything a checkpoint needs beside tensors.

    Attributes:
        step: Optimizer steps made.
        epoch: The epoch in progress, from 0.
        micro_batch: Micro-batches of that epoch already consumed.
        seconds: Time spent in the loop by this and all earlier attempts [s].
        best_loss: Lowest validation loss so far.
        best_step: Step it was seen at.
        evaluations_since_best: Evaluations since then.
        stopped_because: Why the loop ended, or None while it runs.
    """

    step: int = 0
    epoch: int = 0
    micro_batch: int = 0
    seconds: float = 0.0
    best_loss: float = float("inf")
    best_step: int | None = None
    evaluations_since_best: int = 0
    stopped_because: str | None = None


@dataclass
class TrainingLoop:
    """Trains one model until a limit of the configuration is reached or a signal asks to stop.

    Attributes:
        config: The `trainer` group.
        fabric: Devices, precision and processes.
        model: The model as Fabric set it up.
        optimizer: The optimizer as Fabric set it up; `closure_optimizer` tells whether it evaluates the window itself.
        schedule: The learning-rate schedule.
        gradient: Who works out the gradient.
        batches: Micro-batches of the training split.
        recorder: Keeps the values of each step on the device until it flushes them.
        on_epoch_end: Called after every epoch with an inference mode and whether to be in eval mode; evaluates, and
            returns the validation loss or None.
        on_checkpoint: Called when a step checkpoint is due.
        on_step: Called after every step with the last loss, for the progress display; must not read the device.
        stop_requested: Asked between steps; true ends the loop there, on all ranks.
        inference: How to evaluate, one of the five modes of `gradkit.train.evaluation.inference`.
        fault: The settings of the fault to commit; the plain loop has none (see `gradkit.train.faults`).
    """

    config: TrainerConfig
    fabric: Fabric
    model: nn.Module
    optimizer: Any
    closure_optimizer: bool
    schedule: Schedule
    gradient: GradientMethod
    batches: Batches
    recorder: Recorder
    on_epoch_end: Callable[[str, bool], float | None]
    on_checkpoint: Callable[[], None]
    on_step: Callable[[Tensor], None]
    stop_requested: Callable[[], bool]
    inference: str = "no_grad"
    fault: Any = field(default_factory=FaultConfig)
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._ranks = self.fabric.world_size
        batch, samples = min(self.config.batch_size, self.batches.samples_per_epoch), self.batches.samples_per_epoch
        self._sizes = [batch] * (samples // batch) + [samples % batch] * (samples % batch > 0)
        # A loss scaler exists only with 16-mixed on an accelerator.
        self._scaled = getattr(self.fabric.strategy.precision, "scaler", None) is not None

    def run(self) -> Progress:
        """Train to the end; the returned progress says why it ended."""
        progress = self.progress
        started = time.perf_counter() - progress.seconds
        config, every = self.config, self.config.checkpoint_every
        self.model.train()
        while progress.stopped_because is None:
            if progress.epoch >= config.epochs:
                progress.stopped_because = f"epochs={config.epochs}"
                break
            if config.early_stopping is not None and progress.evaluations_since_best >= config.early_stopping:
                progress.stopped_because = f"early_stopping={config.early_stopping}"
                break
            for window in self.windows():
                progress.stopped_because = self.reason_to_stop(started)
                if progress.stopped_because is not None:
                    progress.seconds = time.perf_counter() - started
                    break
                loss = self.train_window(window)
                progress.step += 1
                progress.micro_batch += window.count
                progress.seconds = time.perf_counter() - started
                self.on_step(loss)
                if every is not None and progress.step % every == 0:
                    self.on_checkpoint()
            else:
                progress.epoch += 1
                progress.micro_batch = 0
                self.finish_epoch()
        return progress

    def reason_to_stop(self, started: float) -> str | None:
        """Why to end before the next step, the same on all ranks; None to go on.

        Args:
            started: When training began, on the clock of `time.perf_counter` [s].
        """
        config, step = self.config, self.progress.step
        if config.max_steps is not None and step >= config.max_steps:
            return f"max_steps={config.max_steps}"
        if self._ranks > 1 and step % config.flush_every and self.progress.micro_batch:
            return None  # a rank that left alone would leave the others waiting; asking them waits for the device
        late = config.max_seconds is not None and time.perf_counter() - started >= config.max_seconds
        stop = self.stop_requested()
        if self._ranks > 1:
            late, stop = self._on_any_rank(late, stop)
        return f"max_seconds={config.max_seconds:g}" if late else SIGNAL if stop else None

    def _on_any_rank(self, *facts: bool) -> list[bool]:
        """Whether each fact holds on at least one rank."""
        counts = torch.tensor(facts, dtype=torch.float32, device=self.fabric.device)
        return [count > 0 for count in self.fabric.all_reduce(counts, reduce_op="sum").tolist()]  # type: ignore[union-attr]

    def windows(self) -> Iterator[Window]:
        """The accumulation windows left in this epoch; the last one may hold fewer micro-batches."""
        progress, sizes, accumulate = self.progress, self._sizes, self.config.accumulate
        stream = self.batches.epoch(progress.epoch, start=progress.micro_batch)
        if accumulate == 1:
            for features, targets in stream:
                yield Window(1, ((features, targets, 1.0),))
            return
        for position in range(progress.micro_batch, len(sizes), accumulate):
            window = sizes[position : position + accumulate]
            samples = sum(window)
            batches = itertools.islice(stream, len(window))
            shares = (size / samples for size in window)
            yield Window(len(window), ((*batch, share) for batch, share in zip(batches, shares, strict=True)))

    def train_window(self, window: Window) -> Tensor:
        """One optimizer step on one accumulation window; returns its mean loss, 0-dim, still on the device."""
        if self.closure_optimizer:
            return self.train_window_by_closure(window)
        self.clear_gradients()
        loss = self.accumulate_gradients(window)
        self.finish_gradients(loss)
        self.update_parameters()
        return loss

    def train_window_by_closure(self, window: Window) -> Tensor:
        """The same for an optimizer that evaluates the window several times within one step (LBFGS)."""
        # The views of a window live only until the stream moves on; a closure needs them again.
        kept = Window(window.count, [(x.clone(), y.clone(), share) for x, y, share in window.micro_batches])
        losses: list[Tensor] = []

        def closure() -> Tensor:
            self.clear_gradients()
            losses.append(self.accumulate_gradients(kept))
            self.finish_gradients(losses[-1], record=len(losses) == 1)
            return losses[-1]

        self.optimizer.step(closure)
        self.schedule.after_step()
        return losses[0]

    def clear_gradients(self) -> None:
        """Forget the gradients of the window before."""
        # What `optimizer.zero_grad()` does, without the profiler range that takes two thirds of its time.
        for parameter in self.parameters:
            parameter.grad = None

    def accumulate_gradients(self, window: Window) -> Tensor:
        """Forward and backward of every micro-batch; the shares make the sum the window's mean."""
        total: Tensor | None = None
        remaining = window.count
        for features, targets, share in window.micro_batches:
            remaining -= 1
            with self._reduction(last=remaining == 0):
                loss = self.gradient.forward(features, targets)
                self.backward(loss, share)
            part = self.value_of(loss) if share == 1.0 else self.value_of(loss) * share
            total = part if total is None else total + part
        assert total is not None, "a window holds at least one micro-batch"
        return total

    def backward(self, loss: Tensor, share: float) -> None:
        """Add a micro-batch's share of the window's gradient to `.grad`."""
        self.gradient.backward(loss, share)

    def value_of(self, loss: Tensor) -> Tensor:
        """The loss as a number to keep, 0-dim, without the graph that computed it."""
        return loss.detach()

    def _reduction(self, *, last: bool) -> AbstractContextManager[Any]:
        """Let processes exchange gradients only in the last micro-batch of a window."""
        if last or self._ranks == 1 or not self.gradient.builds_graph:
            return _NOTHING
        return self.fabric.no_backward_sync(self.model)  # type: ignore[arg-type]

    def finish_gradients(self, loss: Tensor, *, record: bool = True) -> None:
        """Reduce over processes, unscale, record and clip what the step is about to use."""
        if self._ranks > 1 and not self.gradient.builds_graph:  # autograd's are reduced during backward
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.copy_(self.fabric.all_reduce(parameter.grad, reduce_op="mean"))  # type: ignore[arg-type]
        if self._scaled:
            self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        if record:
            differences = self.gradient.differences()
            self.recorder.record(self.progress.step, self.progress.epoch, loss, self.parameters, differences)
        self.clip_gradients()

    def clip_gradients(self) -> None:
        """Clip by norm or by value, where the configuration asks for it."""
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        elif self.config.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.config.clip_value)

    def update_parameters(self) -> None:
        """Step the optimizer, then the schedule."""
        self.optimizer.step()
        self.schedule.after_step()

    def finish_epoch(self) -> None:
        """Evaluate, tell the schedule, and count the evaluations without a better loss."""
        progress, config = self.progress, self.config
        self.schedule.after_epoch()
        if progress.epoch % config.evaluate_every and progress.epoch < config.epochs:
            return
        loss = self.evaluate()
        if self._ranks > 1:
            # Running statistics are each rank's own, and so are the losses measured with them.
            loss = self.fabric.broadcast(loss)
        if loss is None:
            return
        self.schedule.after_evaluation(loss)
        if loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.evaluations_since_best = loss, progress.step, 0
        else:
            progress.evaluations_since_best += 1

    def evaluate(self) -> float | None:
        """The loss on the validation split, measured in eval mode and out of autograd's sight."""
        return self.on_epoch_end(self.inference, True)
