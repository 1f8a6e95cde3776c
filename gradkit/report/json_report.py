"""The report for tools: DESIGN.md's JSON, schema version 1, described by `report.schema.json` beside this file."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradkit
from gradkit.findings import Finding
from gradkit.records import Location
from gradkit.store import plain, write_atomically

if TYPE_CHECKING:
    from gradkit.report.text import Report

SCHEMA_VERSION = 1
DOCS = "docs/rules/{code}.md"


def schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12) of `to_json`."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8"))
    return loaded


def to_json(report: Report, ranks: int = 1) -> dict[str, Any]:
    """The report as strict JSON data: non-finite numbers become the words "NaN", "Infinity" and "-Infinity"."""
    info = report.info
    document = {
        "schema_version": SCHEMA_VERSION,
        "gradkit": gradkit.__version__,
        "environment": environment(),
        "run": {
            "steps": info.steps,
            "backwards": info.backwards,
            "optimizers": info.optimizers,
            "parameters": info.parameters,
            "ranks": ranks,
            "reads": info.reads,
            "seconds": round(info.seconds, 6),
            "overhead_seconds": round(info.overhead_seconds, 6),
        },
        "rules": [{"code": code, "name": name} for code, name in report.rules],
        "findings": [_finding(finding) for finding in report.findings],
        "suppressed": [_finding(finding) for finding in report.suppressed],
        "dropped": report.dropped,
    }
    cleaned: dict[str, Any] = plain(document)
    return cleaned


def write_json(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as one JSON file, replacing an older one in a single move.

    Raises:
        OSError: The folder cannot be written.
    """
    text = json.dumps(to_json(report), indent=2, allow_nan=False)
    write_atomically(Path(path), (text + "\n").encode("utf-8"))


def environment() -> dict[str, str]:
    """Versions that explain a report; frameworks only when the watched process had imported them."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("torch", "lightning", "transformers", "accelerate"):
        module = sys.modules.get(name)
        if module is not None:
            versions[name] = str(getattr(module, "__version__", "unknown"))
    return versions


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": finding.message,
        "cost": finding.cost,
        "location": _location(finding.location),
        "labels": [{**(_location(place) or {}), "note": note} for place, note in finding.labels],
        "first_step": finding.first_step,
        "last_step": finding.last_step,
        "count": finding.count,
        "parameters": list(finding.parameters),
        "modules": list(finding.modules),
        "optimizer": finding.optimizer,
        "ranks": [0],
        "evidence": dict(finding.evidence),
        "remedy": finding.remedy,
        "docs": DOCS.format(code=finding.rule.lower()),
    }


def _location(place: Location | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {"file": place.file, "line": place.line, "function": place.function, "via": place.via}
