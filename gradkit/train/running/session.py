"""Everything one training process holds: data, model, optimizer, loop, checkpoints; built from the configuration."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradkit.errors import CheckpointError, ConfigError
from gradkit.runs.checkpoints import BEST, Checkpoints, load
from gradkit.runs.store import Complaints, RunStore, read_manifest
from gradkit.train.command.display import Display
from gradkit.train.data import Batches, Split, load_dataset
from gradkit.train.evaluation.evaluate import evaluate
from gradkit.train.faults import loop_with_fault
from gradkit.train.gradients import build_gradient
from gradkit.train.loop.losses import build_loss
from gradkit.train.loop.optimizers import build_optimizer
from gradkit.train.loop.recorder import Recorder
from gradkit.train.loop.schedules import build_schedule
from gradkit.train.loop.steps import SIGNAL, Progress, TrainingLoop
from gradkit.train.models import build_model
from gradkit.train.running.context import JobContext
from gradkit.train.running.mirrors import Mirrors
from gradkit.train.running.random_state import restore_rng, rng_state, seed_everything
from gradkit.train.running.signals import StopSignals
from gradkit.train.running.stored import check_same_data
from gradkit.train.running.watching import Watching
from gradkit.train.schema import TrainConfig
from gradkit.train.schema.models import NotebookModel


class Session:
    """One process's part of a run.

    Args:
        config: A validated configuration.
        context: The run folder and how the run was called.
        fabric: Devices, precision and processes, launched.
        display: What a person sees.
        store: Writes the run folder; None in processes other than the first.
        complaints: Where writers that fail are reported.
        attempt: 1, or one more than the attempt being resumed.

    Raises:
        GradkitError: Data, model, optimizer or checkpoint cannot be used.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: JobContext,
        fabric: Fabric,
        display: Display,
        store: RunStore | None,
        complaints: Complaints,
        attempt: int,
    ) -> None:
        self.config, self.fabric, self.display, self.store = config, fabric, display, store
        self.folder, self.attempt = context.run_folder, attempt
        self.dtype = torch.float64 if config.trainer.precision == "64" else torch.float32
        self.dataset = load_dataset(config.data, config.trainer.seed, context.base)
        if config.trainer.resume is not None:
            check_same_data(self.folder, self.dataset.fingerprint)
        seed_everything(config.trainer.seed)
        with no_warnings():
            self._build(context)
        self._prepare_outputs(complaints)
        if config.trainer.resume is not None:
            self._restore()

    def _build(self, context: JobContext) -> None:
        config, trainer, fabric = self.config, self.config.trainer, self.fabric
        self.raw_model = build_model(config.model, self.dataset.input_shape, trust=context.trust).to(self.dtype)
        module: nn.Module = torch.compile(self.raw_model) if trainer.compile else self.raw_model  # type: ignore[assignment]
        wrapped = fabric.setup_module(module)
        self.autocast: Callable[[], Any] = fabric.autocast if "mixed" in trainer.precision else nullcontext
        # Fabric's wrapper converts inputs and enters autocast at every call, 26 us on a 100 us step, and its backward
        # asks strategy and precision for hooks, 5 us. With one process and full precision all of this does nothing, so
        # module and backward are called directly.
        direct = fabric.world_size == 1 and "mixed" not in trainer.precision
        self._backward: Callable[[Tensor], None] = torch.Tensor.backward if direct else fabric.backward
        self.model: nn.Module = module if direct else wrapped
        self.loss = build_loss(config.loss, trust=context.trust)
        self.gradient = build_gradient(
            config.gradient,
            self.model,
            self.raw_model,
            config.loss,
            self.loss,
            self._backward,
            steers_by_loss=config.optimizer.name == "lbfgs",
        )
        raw_optimizer = build_optimizer(config.optimizer, self.raw_model)
        self.optimizer: Any = fabric.setup_optimizers(raw_optimizer)
        self.batches = Batches(
            self.dataset.train,
            trainer.batch_size,
            seed=trainer.seed,
            shuffle=trainer.shuffle,
            device=fabric.device,
            rank=fabric.global_rank,
            ranks=fabric.world_size,
            dtype=self.dtype,
        )
        if any(isinstance(module, _BatchNorm) for module in self.raw_model.modules()):
            refuse_single_sample(trainer.batch_size, self.batches.samples_per_epoch)
        steps_per_epoch = math.ceil(self.batches.steps_per_epoch / trainer.accumulate)
        self.total_steps = min(trainer.epochs * steps_per_epoch, trainer.max_steps or trainer.epochs * steps_per_epoch)
        self.schedule = build_schedule(
            config.schedule, raw_optimizer, total_steps=self.total_steps, steps_per_epoch=steps_per_epoch
        )
        if fabric.world_size > 1:
            seed_everything(trainer.seed + 1 + fabric.global_rank)  # same weights everywhere, dropout of its own

    def _prepare_outputs(self, complaints: Complaints) -> None:
        config, trainer = self.config, self.config.trainer
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints", keep=trainer.keep_checkpoints, complaints=complaints
        )
        self.mirrors: Mirrors | None = None
        if self.fabric.global_rank == 0:
            self.mirrors = Mirrors(config.logger, self.folder, attempt=self.attempt, complaints=complaints)
        self.recorder = Recorder(
            self.store,
            attempt=self.attempt,
            every=trainer.flush_every,
            enabled=trainer.record,
            learning_rate=lambda: self.schedule.learning_rate,
            mirrors=(self.mirrors,) if self.mirrors is not None and self.mirrors.active else (),
        )
        self.loop: TrainingLoop = loop_with_fault(config.fault.name)(
            fault=config.fault,
            config=trainer,
            fabric=self.fabric,
            model=self.model,
            optimizer=self.optimizer,
            closure_optimizer=config.optimizer.name == "lbfgs",
            schedule=self.schedule,
            gradient=self.gradient,
            batches=self.batches,
            recorder=self.recorder,
            on_epoch_end=self._epoch_ended,
            inference=config.inference.name,
            on_checkpoint=self.save_checkpoint,
            on_step=lambda loss: None,
            stop_requested=lambda: False,
        )
        self._evaluated_at: int | None = None

    # --- training -----------------------------------------------------------------------------------------------------

    def run(self, signals: StopSignals) -> dict[str, Any]:
        """Train to the end, evaluate on every split, and return what the manifest should say of it."""
        loop = self.loop
        watching = self.watching = self._watching()
        steps = self.display.follow(self.total_steps, loop.progress.step, lambda: watching.found)
        self._steps = steps
        samples = self.config.trainer.batch_size * self.config.trainer.accumulate * self.fabric.world_size
        loop.on_step = lambda loss: steps.step(samples, lambda: float(loss), self._last_norm)
        loop.stop_requested = signals.requested
        summary: dict[str, Any] = {}
        if isinstance(self.config.model, NotebookModel) and loop.progress.step == 0:
            summary["worked_example"] = self._first_gradient()
        try:
            with watching:
                progress = loop.run()
        finally:
            steps.finish()
            self.recorder.flush()
            self._note_findings(watching)
        self.save_checkpoint()
        metrics: dict[str, Any] = {}
        best: dict[str, Any] = {"validation_loss": progress.best_loss, "step": progress.best_step}
        if not signals.requested() and progress.stopped_because != SIGNAL:
            if self._evaluated_at != progress.step:
                best = self._with_last_weights(best)
            metrics = self._final_metrics(best["step"])
        if self.mirrors is not None:
            self.mirrors.close()
        if self.recorder.maxima:
            summary["differences"] = self.recorder.maxima
        return summary | {
            "steps": progress.step,
            "epochs": progress.epoch,
            "stopped_because": progress.stopped_because,
            "best": best if best["step"] is not None else {"validation_loss": None, "step": None},
            "timings": {"train_seconds": progress.seconds},
            "metrics": metrics,
        }

    def _watching(self) -> Watching:
        trainer = self.config.trainer
        return Watching(
            self.config.watch,
            self.raw_model,
            self.optimizer.optimizer,
            accumulate=trainer.accumulate,
            store=self.store,
            attempt=self.attempt,
            first_step=self.loop.progress.step,
            flush_every=trainer.flush_every,
        )

    def _note_findings(self, watching: Watching) -> None:
        """Into the manifest, also of a run that ends by an exception."""
        if self.store is not None:
            earlier = self.store.manifest.get("findings", []) if self.attempt > 1 else []
            self.store.manifest.update(watching.facts(earlier))

    def _first_gradient(self) -> dict[str, float]:
        """The gradient of the notebook's two scalars on the whole training split, before the first step."""
        split = self.dataset.train
        features = split.features.to(self.fabric.device, self.dtype)
        targets = split.targets.to(self.fabric.device, self.dtype)
        self.raw_model.train()
        self.gradient.backward(self.gradient.forward(features, targets), 1.0)
        self.gradient.differences()
        gradient = {name: float(p.grad) for name, p in self.raw_model.named_parameters() if p.grad is not None}
        self.raw_model.zero_grad()
        return gradient

    def _last_norm(self) -> float | None:
        return self.recorder.last.get("grad_norm_l2")

    def _epoch_ended(self, inference: str, eval_mode: bool) -> float | None:
        progress = self.loop.progress
        values = self.evaluate(self.dataset.validation, inference, eval_mode=eval_mode)
        self._report("validation", values, progress.step)
        self._steps.evaluated(progress.epoch, self.config.trainer.epochs, values)
        self._evaluated_at = progress.step
        loss = values["log_loss"]
        if loss is not None and loss < progress.best_loss:
            self._save_best()
        return loss

    def _with_last_weights(self, best: dict[str, Any]) -> dict[str, Any]:
        """The best of a run that ended between two evaluations, its last weights included.

        What the loop steers by stays as it is, so that going on is as if the run had not been stopped.
        """
        values = self.evaluate(self.dataset.validation, self.config.inference.name)
        step, loss = self.loop.progress.step, values["log_loss"]
        self._report("validation", values, step)
        if loss is None or not loss < best["validation_loss"]:
            return best
        self._save_best()
        return {"validation_loss": loss, "step": step}

    def _save_best(self) -> None:
        # The step checkpoint's state is not needed to use the best weights.
        state = {"model": self._weights(), "step": self.loop.progress.step}
        self._write(lambda: self.checkpoints.save_best(state))

    def evaluate(self, split: Split, inference: str, *, eval_mode: bool = True) -> dict[str, float | None]:
        """Metrics on one split under an inference mode."""
        return evaluate(
            self.raw_model,
            split,
            mode=inference,
            eval_mode=eval_mode,
            device=self.fabric.device,
            dtype=self.dtype,
            autocast=self.autocast(),
        )

    def _final_metrics(self, best_step: int | None) -> dict[str, Any]:
        """Metrics of every split; after early stopping, of the best weights."""
        step = self.loop.progress.step
        if self.config.trainer.early_stopping is not None and best_step is not None and self.fabric.global_rank == 0:
            try:
                state = load(self.checkpoints.folder / BEST)
                self.raw_model.load_state_dict(state["model"])
                step = state["step"]
            except CheckpointError as error:
                self.display.say(f"note: the final metrics are of the last weights, not the best: {error}")
        dataset = self.dataset
        splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
        found = {name: self.evaluate(split, self.config.inference.name) for name, split in splits.items()}
        self._report("test", found["test"], step)
        return found

    def _report(self, split: str, values: dict[str, float | None], step: int) -> None:
        """Record the metrics of the weights after `step` steps."""
        self.recorder.flush()
        if self.store is not None:
            epoch = self.loop.progress.epoch
            event = {"event": "evaluation", "attempt": self.attempt, "step": step, "epoch": epoch}
            self.store.append([{**event, "split": split, **values}])
        if self.mirrors is not None:
            self.mirrors.evaluation(split, values, step)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save_checkpoint(self) -> None:
        """Write everything a bit-identical continuation needs."""
        self.recorder.flush()
        progress = self.loop.progress
        state = {
            "model": self._weights(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": dict(self.fabric.strategy.precision.state_dict()),
            "progress": {name: value for name, value in vars(progress).items() if name != "stopped_because"},
            "differences": dict(self.recorder.maxima),
            "rng": self._generators(),
        }
        self._write(lambda: self.checkpoints.save_step(progress.step, state))

    def _generators(self) -> list[dict[str, Tensor]]:
        """The state of every rank's generators, by rank."""
        mine = rng_state(self.fabric.device)
        if self.fabric.world_size == 1:
            return [mine]
        states: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(states, mine)
        return states

    def _weights(self) -> dict[str, Any]:
        return dict(self.raw_model.state_dict())

    def _write(self, action: Callable[[], None]) -> None:
        if self.fabric.global_rank == 0:
            action()

    def _restore(self) -> None:
        if not self.checkpoints.begun and "steps" not in read_manifest(self.folder):
            self.display.say("note: the run ended before its first checkpoint; it starts again from its first step.")
            return
        state, damaged = self.checkpoints.latest()
        for sentence in damaged:
            self.display.say(f"note: {sentence} The checkpoint before it is used.")
        try:
            self.raw_model.load_state_dict(state["model"])
            self.optimizer.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.fabric.strategy.precision.load_state_dict(state["precision"])
            self.loop.progress = Progress(**state["progress"])
            self.recorder.maxima = dict(state["differences"])
            if self.fabric.global_rank < len(state["rng"]):  # a rank that is new keeps the seed it was given
                restore_rng(state["rng"][self.fabric.global_rank], self.fabric.device)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise CheckpointError(
                f"The checkpoint in {self.checkpoints.folder} does not fit this run: {reason}"
            ) from None
        made, trainer = self.loop.progress, self.config.trainer
        for key, limit, done in (("epochs", trainer.epochs, made.epoch), ("max_steps", trainer.max_steps, made.step)):
            if limit is not None and limit < done:
                raise ConfigError(f"trainer.{key}={limit} is below the {done} that {self.folder} has made already.")


def refuse_single_sample(batch_size: int, samples: int) -> None:
    """Refuse micro-batches of which the last of an epoch holds one sample: batch-norm cannot normalise it.

    Raises:
        ConfigError: Names the next batch size that leaves none.
    """
    if samples % batch_size != 1:
        return
    better = next((size for size in range(batch_size + 1, samples + 1) if samples % size != 1), None)
    advice = f"take trainer.batch_size={better}" if better is not None else "take more data"
    raise ConfigError(
        "The model's batch-norm cannot normalise a micro-batch of one sample, and"
        f" trainer.batch_size={batch_size} leaves one of {samples} at the end of every epoch; {advice}."
    )


class no_warnings(warnings.catch_warnings):
    """Silences third-party set-up warnings that the summary states in its own words."""

    def __enter__(self) -> Any:
        result = super().__enter__()
        warnings.simplefilter("ignore")
        return result
