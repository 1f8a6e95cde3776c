"""The comparison for tools: one JSON document, and a CSV table with one line per run."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import Any

import gradkit
from gradkit.compare.comparison import Comparison, direction
from gradkit.compare.statistics import Paired
from gradkit.runs.folders import Run
from gradkit.store import plain

SCHEMA_VERSION = 1


def to_json(comparison: Comparison, *, best: int = 3) -> dict[str, Any]:
    """The comparison as strict JSON data; non-finite numbers become words as in run folders.

    Args:
        comparison: What to write.
        best: How many best runs of each metric to name.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "gradkit": gradkit.__version__,
        "reference": comparison.reference,
        "by": comparison.by,
        "differing": comparison.differing,
        "confidence": comparison.confidence,
        "arms": [
            {"label": arm.label, "settings": arm.settings, "runs": [_run(run) for run in arm.runs]}
            for arm in comparison.arms
        ],
        "metrics": [
            {
                "metric": row.metric,
                "arm": row.arm,
                "better": {1: "higher", -1: "lower", 0: None}[direction(row.metric)],
                **asdict(row.summary),
                "non_finite": row.non_finite,
                "against_reference": None if row.against is None else _paired(row.against),
            }
            for row in comparison.rows
        ],
        "findings": [asdict(row) for row in comparison.findings],
        "best": {
            metric: [{"folder": str(run.folder), "value": value} for run, value in comparison.best(metric, best)]
            for metric in comparison.metrics
            if direction(metric)
        },
        "unfinished": [
            {"folder": str(run.folder), "status": run.status, "error": run.manifest.get("error")}
            for run in comparison.unfinished
        ],
        "repeated": [str(run.folder) for run in comparison.repeated],
        "skipped": [asdict(each) for each in comparison.skipped],
    }
    cleaned: dict[str, Any] = plain(document)
    return cleaned


def _run(run: Run) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "seed": run.seed,
        "metrics": run.metrics,
        "findings": [finding.get("rule") for finding in run.findings],
    }


def _paired(found: Paired) -> dict[str, Any]:
    return {
        "pairs": found.n,
        "higher": found.higher,
        "lower": found.lower,
        "equal": found.equal,
        "non_finite": found.non_finite,
        "difference": asdict(found.difference),
    }


def json_text(comparison: Comparison, *, best: int = 3) -> str:
    """`to_json` as text."""
    return json.dumps(to_json(comparison, best=best), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(comparison: Comparison) -> str:
    """One line per run, unfinished ones included: folder, status, seed, arm, differing keys, metrics, rules found."""
    keys, metrics = comparison.differing, comparison.metrics
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["run", "status", "seed", "arm", *keys, *metrics, "findings"])
    for run in [*comparison.runs, *comparison.unfinished]:
        config = [run.config.get(key, "") for key in keys]
        values = [run.metrics.get(name, "") if run.finished else "" for name in metrics]
        rules = " ".join(sorted({str(finding.get("rule")) for finding in run.findings}))
        row = [str(run.folder), run.status, run.seed, comparison.arm_of(run), *config, *values, rules]
        writer.writerow(["" if cell is None else cell for cell in row])
    return written.getvalue()
