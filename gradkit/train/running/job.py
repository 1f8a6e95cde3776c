"""One run from a validated configuration to a finished folder: set up, train, evaluate, summarise."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
import warnings
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradkit.errors import ConfigError, GradkitError, NothingKeptError, RunFolderError
from gradkit.report.text import parts
from gradkit.runs.claims import WRITE_TEST
from gradkit.runs.store import Complaints, RunStore, read_manifest
from gradkit.train.command.display import Display, fact_table, metric_table
from gradkit.train.running.context import JobContext
from gradkit.train.running.processes import run_in_processes, started_from_outside
from gradkit.train.running.signals import EXIT_STATUS, StopSignals
from gradkit.train.schema import TrainConfig, keys_that_are

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from gradkit.train.running.watching import Watching


def execute(config: TrainConfig, context: JobContext) -> None:
    """Train or evaluate as `config` says, in `context.run_folder`.

    Args:
        config: A validated configuration.
        context: The run folder, which exists, and how the run was called.

    Raises:
        GradkitError: Something the user has to mend; nothing was trained.
        SystemExit: With 143 after SIGTERM and 130 after Ctrl-C; the run can be resumed.
    """
    with StopSignals() as signals:
        display = Display(config.trainer.progress, silent=int(os.environ.get("RANK", "0")) > 0)
        started = time.perf_counter()
        display.say("loading torch and lightning ...")
        fabric = make_fabric(config)
        display.say(f"loaded in {time.perf_counter() - started:.1f} s")
        if config.mode == "evaluate":
            from gradkit.train.evaluation.evaluation_job import evaluate_run

            evaluate_run(config, context, fabric, display)
            return
        check_writable(context.run_folder)
        if config.trainer.devices > 1:
            status = run_in_processes(fabric, partial(train_in_process, config=config, context=context), signals)
        else:
            status = train(config, context, fabric, display, signals)
    if status:
        raise SystemExit(status)


def train_in_process(fabric: Fabric, config: TrainConfig, context: JobContext) -> int:
    """The entry of one of several processes; only the first prints and writes. Returns the exit status."""
    if fabric.global_rank > 0:
        warnings.simplefilter("ignore")
    folder = fabric.broadcast(str(context.run_folder))
    context = replace(context, run_folder=Path(folder))
    with StopSignals() as signals:
        display = Display(config.trainer.progress, silent=fabric.global_rank > 0)
        return train(config, context, fabric, display, signals)


def make_fabric(config: TrainConfig) -> Fabric:
    """Fabric for the devices, processes and precision asked for.

    Raises:
        ConfigError: The machine has no such accelerator, or fewer devices.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from lightning.fabric import Fabric

        # Fabric announces what it replaces; the manifest and the summary say it instead. Importing it sets levels anew,
        # and has it speak through the Trainer's logger.
        for name in ("lightning.fabric", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.ERROR)
        trainer = config.trainer
        if trainer.threads is not None:
            torch.set_num_threads(trainer.threads)
        accelerator = {"cuda": "cuda", "gpu": "gpu"}.get(trainer.accelerator, trainer.accelerator)
        # Fabric's 64-true hands outputs back in float32, through which a float64 loss loses half its digits; the
        # session converts the model itself.
        precision: Any = {"32": "32-true", "64": "32-true"}.get(trainer.precision, trainer.precision)
        # One process has none to share gradients with, and Fabric's own strategies want to be launched.
        strategy = trainer.strategy if trainer.devices > 1 else "auto"
        if trainer.devices > 1 and not started_from_outside():
            # Processes started by Fabric itself: a second reading of the command line would compose a second run.
            strategy = "ddp_spawn"
        try:
            return Fabric(accelerator=accelerator, devices=trainer.devices, strategy=strategy, precision=precision)
        except Exception as error:  # Fabric raises its own exceptions, RuntimeError or ValueError for a missing device
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"trainer.accelerator={trainer.accelerator} with trainer.devices={trainer.devices} cannot be used "
                f"here: {reason} Take trainer.accelerator=auto."
            ) from None


def check_writable(folder: Path) -> None:
    """Refuse a run folder nothing can be written to, before any work is done.

    Raises:
        RunFolderError: A test file cannot be written.
    """
    probe = folder / WRITE_TEST
    try:
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise RunFolderError(
            f"The run folder {folder} cannot be written: {error.strerror or error}. "
            "Choose another with hydra.run.dir=FOLDER."
        ) from None


def train(config: TrainConfig, context: JobContext, fabric: Fabric, display: Display, signals: StopSignals) -> int:
    """Train in this process and write the run folder; returns the exit status a signal asks for, or 0.

    Raises:
        GradkitError: Data, model or checkpoint cannot be used; the manifest says so too.
        NothingKeptError: The disk took neither weights nor results.
    """
    from gradkit.train.loop.steps import SIGNAL
    from gradkit.train.running.facts import facts, introduction
    from gradkit.train.running.session import Session

    complaints = Complaints()
    store = RunStore(context.run_folder, complaints) if fabric.global_rank == 0 else None
    attempt = 1
    if config.trainer.resume is not None:
        previous = read_manifest(context.run_folder)
        attempt = previous.get("attempt", 1) + 1
        if store is not None:
            store.manifest = previous
    entry: dict[str, Any] = {
        "status": "running",
        "attempt": attempt,
        "name": config.name,
        "mode": config.mode,
        "seed": config.trainer.seed,
        "overrides": list(context.overrides),
        "cwd": str(context.base.absolute()),
        "bookkeeping": list(keys_that_are("bookkeeping")),
        "places": list(keys_that_are("path")),
        "config": asdict(config),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    entry.pop("error", None)
    try:
        session = Session(config, context, fabric, display, store, complaints, attempt)
        if store is not None:
            store.manifest.pop("error", None)
            store.update(**entry, **facts(session))
        display.say(*introduction(session))
        signals.defer()
        summary = session.run(signals)
    except GradkitError as error:
        if store is not None and config.trainer.resume is None:
            store.update(**entry | {"status": "failed", "error": str(error)})
        raise
    except BaseException as error:
        if store is not None:
            stopped = isinstance(error, (SystemExit, KeyboardInterrupt))
            store.update(**entry | {"status": "interrupted" if stopped else "failed", "error": repr(error)})
        raise
    # Of several processes another one may have received the signal.
    stopped = signals.requested() or summary["stopped_because"] == SIGNAL
    if store is not None:
        status = "interrupted" if stopped else "completed"
        written = store.update(
            status=status, ended=time.strftime("%Y-%m-%dT%H:%M:%S%z"), unwritten=complaints.subjects, **summary
        )
        show_summary(display, store, context.run_folder, session.watching)
        if not written and not session.checkpoints.begun:
            raise NothingKeptError(
                f"Nothing of the run in {context.run_folder} could be kept: {complaints.in_words()}."
            )
    return signals.exit_status if signals.requested() or not stopped else EXIT_STATUS[signal.SIGTERM]


def show_summary(display: Display, store: RunStore, folder: Path, watching: Watching) -> None:
    """Print findings, the metric table, the facts of the run, and where it is."""
    manifest = store.manifest
    report = watching.report
    if report is not None and report.findings:
        display.say("", *parts(report, notes=False))
        if (growth := watching.growth()) is not None:
            display.say("", growth)
    if "worked_example" in manifest:
        display.say("", gradient_table(manifest["worked_example"]))
    environment, timings, metrics = manifest["environment"], manifest["timings"], manifest.get("metrics", {})
    if metrics:
        display.say("", metric_table("Final metrics", metrics))
    facts = [
        ("ended by", str(manifest["stopped_because"])),
        ("steps", f"{manifest['steps']:,} in {timings['train_seconds']:.2f} s"),
        (
            "device",
            f"{environment['device']}, {_processes(environment['processes'])}, precision {environment['precision']}",
        ),
    ]
    for name, value in manifest.get("differences", {}).items():
        facts.append((name.replace("_", " "), f"at most {value:.3g}"))
    if report is not None:
        facts.append(("findings", f"{len(report.findings) or 'none'}; {report.totals()}"))
    if any(values["log_loss"] is not None and math.isnan(values["log_loss"]) for values in metrics.values()):
        facts.append(("not finite", "the weights; try a lower optimizer.lr or trainer.clip_norm"))
    if manifest.get("unwritten"):
        facts.append(("not written", ", ".join(manifest["unwritten"])))
    facts.append(("run folder", str(folder)))
    if manifest["status"] == "interrupted":
        facts.append(("go on with", f"{Path(sys.executable).name} -m gradkit.train trainer.resume={folder}"))
    display.say("", fact_table(facts))


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"


def gradient_table(example: dict[str, Any]) -> Any:
    """The gradient of a scalar model at its start, as the notebook prints it."""
    columns = {"gradient": {f"dL/d{name}": value for name, value in example.items()}}
    return metric_table("Gradient at the start", columns)
