"""The trajectory in a run folder of `python -m gradkit.train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradkit.errors import CheckpointError, RunFolderError
from gradkit.runs.store import read_events, read_manifest
from gradkit.trajectory.values import COLUMNS, ParameterPrint, Trajectory

_PRECISIONS = {"32": "float32", "64": "float64", "bf16-mixed": "bfloat16", "16-mixed": "float16"}


def trajectory_of_run(folder: Path) -> Trajectory:
    """Loss, gradient norm and learning rate of every step, the final weights, and the configuration.

    Raises:
        RunFolderError: It is no run folder, recorded no steps, or its weights cannot be read.
    """
    manifest = read_manifest(folder)
    steps = [event for event in read_events(folder) if event["event"] == "step"]
    if not steps:
        raise RunFolderError(f"{folder} recorded no steps; train with trainer.record=true.")
    rows = [
        {name: float(event[name]) for name in COLUMNS if isinstance(event.get(name), (int, float))} for event in steps
    ]
    left_out = (*manifest.get("bookkeeping", ()), *manifest.get("places", ()))
    groups = tuple(name for name in left_out if name.endswith("."))
    settings = {
        name: value
        for name, value in _flat(manifest.get("config") or {})
        if name not in left_out and not name.startswith(groups)
    }
    precision = str(settings.get("trainer.precision", ""))
    return Trajectory(rows, _final_weights(folder), settings, _PRECISIONS.get(precision))


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        elif value is not None:
            found.append((f"{prefix}{name}", value))
    return found


def _final_weights(folder: Path) -> dict[str, ParameterPrint]:
    from gradkit.runs.checkpoints import Checkpoints
    from gradkit.trajectory.measure import weight_print

    checkpoints = Checkpoints(folder / "checkpoints")
    if not checkpoints.begun:
        return {}
    try:
        model = checkpoints.latest()[0]["model"]
    except (CheckpointError, KeyError) as error:
        raise RunFolderError(f"{folder} holds no weights that can be read: {error}") from None
    return {
        name: ParameterPrint(tuple(tensor.shape), final=weight_print(tensor))
        for name, tensor in model.items()
        if tensor.is_floating_point()
    }
