"""Starting what was planned, through Hydra: one run, or the runs of a sweep by its launcher."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gradkit.config.wording import listed, one_line, quoted
from gradkit.errors import GradkitError, RunFolderError
from gradkit.runs.claims import claimed
from gradkit.train.command.compose import CONFIG_NAME, typed
from gradkit.train.command.explain import COMPOSING_ERRORS, explained
from gradkit.train.command.hostile import check_harmless
from gradkit.train.command.plan import Plan
from gradkit.train.command.validate import check
from gradkit.train.running.context import JobContext

FAILED_ARMS = 1
"""Exit status of a sweep of which at least one run failed."""


@dataclass(frozen=True)
class Failure:
    """A run that did not end well, in a form that travels between processes."""

    number: int
    overrides: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Job:
    """The function Hydra calls for each run; pickled to the workers of a launcher.

    Attributes:
        trust: Module prefixes from `--trust`. They travel here, not in the configuration or the environment, so that
            no file can set them.
        base: What relative paths in the configuration are meant from.
    """

    trust: tuple[str, ...]
    base: Path = Path()

    def __call__(self, cfg: DictConfig) -> None:
        """Check the configuration once more and run it.

        Raises:
            GradkitError: A mistake of the user's.
            SystemExit: The run was asked to stop.
        """
        check_harmless(cfg)
        config = typed(cfg)
        check(config, self.trust, self.base)
        hydra = HydraConfig.get()
        context = JobContext(
            run_folder=Path(hydra.runtime.output_dir),
            overrides=tuple(hydra.overrides.task),
            trust=self.trust,
            base=self.base,
        )
        # Here, not above: it imports torch.
        from gradkit.train.running.job import execute

        execute(config, context)


@dataclass(frozen=True)
class ClaimingJob:
    """A job in a folder that only Hydra knows before it begins."""

    job: Job

    def __call__(self, cfg: DictConfig) -> None:
        """Run it as the only writer of its folder."""
        with claimed(Path(HydraConfig.get().runtime.output_dir)):
            self.job(cfg)


@dataclass(frozen=True)
class SweepJob:
    """A job whose failure is reported and handed back, so that the other runs of the sweep go on.

    Attributes:
        job: What runs.
        arms: How many runs the sweep has; 0 when that is not known.
    """

    job: Job
    arms: int

    def __call__(self, cfg: DictConfig) -> Failure | None:
        """Run one arm; returns what went wrong, if something did."""
        hydra = HydraConfig.get()
        number, overrides = int(hydra.job.num), tuple(hydra.overrides.task)
        label = f"run {number} of the sweep" + (f" ({number + 1} of {self.arms})" if self.arms else "")
        print(f"{label}: {listed(overrides) or 'defaults'}", flush=True)
        try:
            ClaimingJob(self.job)(cfg)
        except GradkitError as error:
            message = one_line(str(error))
        except Exception as error:  # a fault in gradkit or in the user's model: shown in full, the other runs go on
            traceback.print_exc()
            message = one_line(f"{type(error).__name__}: {error}")
        else:
            return None
        print(f"gradkit.train: {label} failed: {message}", file=sys.stderr, flush=True)
        return Failure(number, overrides, message)


def launch(hydra: Hydra, plan: Plan, trust: Sequence[str], rank: int = 0) -> int:
    """Run the plan to its end.

    Args:
        hydra: From `gradkit.train.command.compose.session`.
        plan: Checked already.
        trust: Module prefixes from `--trust`.
        rank: Of this process among those of one run; rank 0 writes.

    Returns:
        The exit status: 0, or 1 when runs of a sweep failed.

    Raises:
        GradkitError: A mistake of the user's that only the run could find.
        SystemExit: The run was asked to stop.
    """
    job = Job(tuple(trust), plan.base.absolute())
    if rank > 0:  # rank 0 holds the folder
        return _single(hydra, plan, job)
    with claimed(plan.places.folder, going_on=plan.going_on):
        if not plan.going_on:
            plan.places.refuse_runs()  # again, now that nobody else can begin one
        return _sweep(hydra, plan, job) if plan.multirun else _single(hydra, plan, job)


def _single(hydra: Hydra, plan: Plan, job: Job) -> int:
    raised: list[Exception] = []
    started = False

    def run(cfg: DictConfig) -> None:
        nonlocal started
        started = True
        try:
            job(cfg)
        except Exception as error:  # kept from Hydra, which would print a line of its own before raising it again
            raised.append(error)

    try:
        hydra.run(config_name=CONFIG_NAME, task_function=run, overrides=list(plan.overrides))
    except COMPOSING_ERRORS as error:
        if started:
            raise
        raise _not_started("hydra.run.dir", error, plan) from error
    if raised:
        raise raised[0]
    return 0


def _sweep(hydra: Hydra, plan: Plan, job: Job) -> int:
    # Another sweeper than Hydra's own may want what the job returns, and takes an exception for a failure.
    task: Any = SweepJob(job, len(plan.arms)) if plan.arms else ClaimingJob(job)
    try:
        batches = hydra.multirun(config_name=CONFIG_NAME, task_function=task, overrides=list(plan.overrides))
    except OSError as error:
        raise _not_started("hydra.sweep.dir", error, plan) from error
    if not plan.arms:
        return 0
    failures = [each.return_value for batch in batches for each in batch if each.return_value is not None]
    if not failures:
        return 0
    names = "; ".join(f"{each.number} ({listed(each.overrides, 6) or 'defaults'})" for each in failures[:10])
    print(
        one_line(f"gradkit.train: {len(failures)} of {len(plan.arms)} runs of the sweep failed: {names}"),
        file=sys.stderr,
        flush=True,
    )
    return FAILED_ARMS


def _not_started(key: str, error: Exception, plan: Plan) -> GradkitError:
    if not isinstance(error, OSError):
        return explained(error, plan.overrides)
    where = f" {quoted(str(error.filename))}" if error.filename else ""
    return RunFolderError(f"{key}: cannot make the folder{where}: {error.strerror or error}.")
