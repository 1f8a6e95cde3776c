"""Writes run folders for tests: as many as wanted, like those of real runs, without training anything."""

import json
import random
from pathlib import Path
from typing import Any


def manifest(seed: int = 0, **entries: Any) -> dict[str, Any]:
    """A manifest as `python -m gradkit.train` writes it, in its main parts."""
    made: dict[str, Any] = {
        "schema_version": 1,
        "status": "completed",
        "attempt": 1,
        "name": None,
        "seed": seed,
        "started": "2026-11-23T07:06:27+0000",
        "config": {
            "seed": seed,
            "data": {"name": "breast_cancer"},
            "model": {"name": "logistic"},
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0},
            "fault": {"name": "none"},
            "trainer": {"epochs": 3, "batch_size": 64, "seed": seed, "progress": "auto"},
        },
        "bookkeeping": ["name", "trainer.progress", "watch."],
        "versions": {"gradkit": "0.1.0", "python": "3.11.7"},
        "environment": {"device": "cpu"},
        "findings": [],
        "steps": 18,
        "timings": {"train_seconds": 0.05},
        "metrics": {"test": {"accuracy": 0.9, "log_loss": 0.3}, "validation": {"log_loss": 0.25}},
    }
    made.update(entries)
    return made


def configured(seed: int = 0, log_loss: float = 0.3, **settings: Any) -> dict[str, Any]:
    """A manifest with configuration keys set, `optimizer__lr=0.1` for `optimizer.lr`, and the test log-loss given."""
    made = manifest(seed)
    for key, value in settings.items():
        group, name = key.split("__")
        made["config"].setdefault(group, {})[name] = value
    made["metrics"]["test"]["log_loss"] = log_loss
    return made


def write(folder: Path, content: dict[str, Any] | str | bytes, events: list[dict[str, Any]] | None = None) -> Path:
    """Write a run folder; text and bytes go into `run.json` as they are."""
    folder.mkdir(parents=True)
    if isinstance(content, dict):
        content = json.dumps(content, indent=2)
    (folder / "run.json").write_bytes(content.encode() if isinstance(content, str) else content)
    if events is not None:
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def steps(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Step events of a run whose loss falls."""
    noise = random.Random(seed)
    return [
        {
            "event": "step",
            "attempt": 1,
            "step": step,
            "epoch": step // 6,
            "lr": 0.1,
            "loss": 1 / (1 + step) + noise.random() / 100,
            "grad_norm_l2": 2 / (1 + step),
        }
        for step in range(count)
    ]


def finding(rule: str = "GK101", count: int = 17, severity: str = "error") -> dict[str, Any]:
    """One finding as a manifest holds it."""
    return {
        "rule": rule,
        "name": "stale-gradients",
        "severity": severity,
        "message": "Step 1 of SGD consumed 2 of 2 gradient(s) that an earlier step had consumed.",
        "cost": "The update followed the sum of several windows.",
        "location": {"file": "/home/user/train.py", "line": 3, "function": "main", "via": None},
        "labels": [],
        "first_step": 1,
        "last_step": 17,
        "count": count,
        "parameters": ["linear.weight"],
        "modules": [],
        "optimizer": "SGD",
        "evidence": {"windows_mixed": 18},
        "remedy": "Clear the gradients once per optimizer step.",
        "docs": "docs/rules/gk101.md",
        "attempt": 1,
    }
