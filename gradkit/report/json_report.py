"""The report for tools: JSON, schema version 1, described by `report.schema.json` beside this file."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import gradkit
from gradkit.findings import Finding, Severity
from gradkit.fingerprints import fingerprint
from gradkit.records import Location, RunInfo
from gradkit.report.contents import Contents
from gradkit.store import plain, write_atomically

SCHEMA_VERSION = 1
DOCS = "docs/rules/{code}.md"


def schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12) of `to_json`."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8"))
    return loaded


def to_json(report: Contents) -> dict[str, Any]:
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
            "ranks": report.ranks,
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


def write_json(report: Contents, path: str | os.PathLike[str]) -> None:
    """Write the report as one JSON file, replacing an older one in a single move.

    Raises:
        OSError: The folder cannot be written.
    """
    text = json.dumps(to_json(report), indent=2, allow_nan=False)
    write_atomically(Path(path), (text + "\n").encode("utf-8"))


def from_json(document: Mapping[str, Any]) -> Contents:
    """The report a document of `to_json` describes; numbers JSON does not have stay the words that stand for them.

    Raises:
        KeyError, TypeError, ValueError: The document does not follow the schema.
    """
    run = document["run"]
    return Contents(
        findings=tuple(_read_finding(entry) for entry in document["findings"]),
        suppressed=tuple(_read_finding(entry) for entry in document["suppressed"]),
        rules=tuple((rule["code"], rule["name"]) for rule in document["rules"]),
        info=RunInfo(**{each.name: run[each.name] for each in fields(RunInfo)}),
        dropped=document["dropped"],
        ranks=run["ranks"],
    )


def _read_finding(entry: Mapping[str, Any]) -> Finding:
    known = {each.name for each in fields(Finding)}
    values = {name: value for name, value in entry.items() if name in known}
    for name in ("parameters", "modules", "ranks"):
        values[name] = tuple(values[name])
    values["severity"] = Severity(entry["severity"])
    values["location"] = _read_location(entry["location"])
    values["labels"] = tuple((_read_location(label), label["note"]) for label in entry["labels"])
    return Finding(**values)


def _read_location(entry: Mapping[str, Any] | None) -> Any:
    return Location(entry["file"], entry["line"], entry["function"], entry.get("via")) if entry is not None else None


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
        "ranks": list(finding.ranks or (0,)),
        "evidence": dict(finding.evidence),
        "remedy": finding.remedy,
        "docs": DOCS.format(code=finding.rule.lower()),
        "fingerprint": fingerprint(finding),
    }


def _location(place: Location | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {"file": place.file, "line": place.line, "function": place.function, "via": place.via}
