"""`mode=evaluate`: the metrics of a finished run under one inference mode, and what that mode costs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from gradkit.errors import CheckpointError, RunFolderError
from gradkit.runs.checkpoints import BEST, Checkpoints, load
from gradkit.runs.store import read_manifest
from gradkit.store import plain, write_atomically
from gradkit.train.command.display import Display, fact_table, metric_table
from gradkit.train.command.validate import below_home
from gradkit.train.data import load_dataset
from gradkit.train.evaluation.accounting import inference_cost
from gradkit.train.evaluation.evaluate import EVALUATION_BATCH, evaluate
from gradkit.train.models import build_model
from gradkit.train.running.context import JobContext
from gradkit.train.running.environment import environment, versions
from gradkit.train.running.stored import check_same_data
from gradkit.train.schema import TrainConfig


def evaluate_run(config: TrainConfig, context: JobContext, fabric: Fabric, display: Display) -> None:
    """Evaluate the weights the run in `config.run` reports on; prints tables and writes `evaluation.json`.

    Those are the last, or the best where the run was to stop early, as in the run's own final metrics.

    Raises:
        RunFolderError: The folder is no run, or its data has changed since.
        CheckpointError: No usable checkpoint, or one that does not fit the model.
    """
    run = below_home(str(config.run))
    manifest = read_manifest(run)
    dataset = load_dataset(config.data, config.trainer.seed, context.base)
    check_same_data(run, dataset.fingerprint)
    dtype = torch.float64 if config.trainer.precision == "64" else torch.float32
    model = build_model(config.model, dataset.input_shape, trust=context.trust).to(dtype)
    state, step, notes = _reported_on(run, manifest, config)
    try:
        model.load_state_dict(state["model"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"The checkpoint of {run} does not fit the model: {' '.join(str(error).split())}"
        ) from None
    fabric.setup_module(model)
    mode = config.inference.name
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    metrics = {
        name: evaluate(model, split, mode=mode, device=fabric.device, dtype=dtype, autocast=fabric.autocast())
        for name, split in splits.items()
    }
    features = dataset.test.features[:EVALUATION_BATCH].to(fabric.device, dtype)
    cost = inference_cost(model, features, mode)
    display.say(
        *(f"note: {sentence}" for sentence in notes),
        metric_table(f"Evaluation under inference={mode}", metrics),
        "",
        fact_table(
            [
                ("bytes saved for backward", f"{cost.saved_bytes:,}"),
                ("graph nodes", f"{cost.graph_nodes:,}"),
                ("time of one forward", f"{cost.seconds * 1e6:,.0f} us on {cost.samples:,} samples"),
                ("peak memory of a forward", f"{cost.peak_bytes:,} bytes"),
                ("step evaluated", str(step)),
                ("written to", str(context.run_folder / "evaluation.json")),
            ]
        ),
    )
    result: dict[str, Any] = {
        "schema_version": 1,
        "run": str(run),
        "step": step,
        "evaluated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "inference": mode,
        "metrics": metrics,
        "cost": cost.to_dict(),
        "environment": environment(fabric, dtype),
        "versions": versions(),
    }
    try:
        write_atomically(context.run_folder / "evaluation.json", json.dumps(plain(result), indent=2).encode())
    except OSError as error:
        raise RunFolderError(f"{context.run_folder} cannot be written: {error.strerror or error}.") from None


def _reported_on(run: Path, manifest: dict[str, Any], config: TrainConfig) -> tuple[dict[str, Any], int, list[str]]:
    """The checkpoint to evaluate, the step it was written at, and what a person should know of it."""
    checkpoints = Checkpoints(run / "checkpoints")
    best = (manifest.get("best") or {}).get("step")
    if config.trainer.early_stopping is not None and best is not None and manifest.get("status") == "completed":
        try:
            state = load(checkpoints.folder / BEST)
            return state, state["step"], [f"These are the best weights, of step {state['step']}."]
        except CheckpointError as error:
            notes = [f"The last weights are evaluated, not the best: {error}"]
    else:
        notes = []
    state, damaged = checkpoints.latest()
    notes += [f"{sentence} The checkpoint before it is used." for sentence in damaged]
    return state, state["progress"]["step"], notes
