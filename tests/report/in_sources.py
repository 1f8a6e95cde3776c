"""Findings and reports built by hand, with a source file behind them."""

from __future__ import annotations

import linecache
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradkit.findings import Finding, Severity
from gradkit.records import Location, RunInfo
from gradkit.report.report import Report

SOURCE = """\
def train(model, optimizer):
    for batch in batches:
        loss = model(batch)
        loss.backward()
        optimizer.step()
        optimizer.step()  # twice
    optimizer.step(
        closure,
    )
"""


def project(folder: Path, text: str = SOURCE, name: str = "train.py") -> Path:
    """A project of one source file; earlier text of the file is forgotten."""
    (folder / "pyproject.toml").touch()
    path = folder / "src" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    linecache.checkcache(str(path))
    return path


def finding(path: Path | str | None, line: int = 5, **values: Any) -> Finding:
    """A finding of GK101 at a line."""
    base = Finding(
        rule="GK101",
        name="stale-gradients",
        severity=Severity.ERROR,
        message="Step 1 consumed 50% stale gradients: 2, of 4.",
        location=Location(str(path), line, "train") if path is not None else None,
        first_step=1,
        last_step=3,
        count=3,
        optimizer="SGD",
        parameters=("weight",),
        cost="It cost.",
        remedy="Mend it.",
        evidence={"share": 0.5, "norm": float("inf")},
    )
    return replace(base, **values)


def report(*findings: Finding, **values: Any) -> Report:
    """A report of one run."""
    info = RunInfo(steps=4, backwards=4, optimizers=1, parameters=2, seconds=1.5)
    return Report(findings=findings, info=info, rules=(("GK101", "stale-gradients"),), **values)
