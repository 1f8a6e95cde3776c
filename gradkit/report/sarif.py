"""The report as SARIF 2.1.0, the format of code-scanning services and editors; imports no torch.

Source: OASIS Standard "Static Analysis Results Interchange Format (SARIF) Version 2.1.0"; section numbers in comments.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

import gradkit
from gradkit.findings import Finding
from gradkit.fingerprints import VERSION, fingerprint
from gradkit.records import Location
from gradkit.rules import Declared, all_declared
from gradkit.sources import line_of_file
from gradkit.store import plain, write_atomically
from gradkit.suppress import INLINE, ignored_by_comment

if TYPE_CHECKING:
    from gradkit.report.report import Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"


def to_sarif(report: Report, root: Path | None = None) -> dict[str, Any]:
    """The report as one SARIF log with one run.

    Args:
        report: The report.
        root: Folder that paths are written relative to; the working folder when None.
    """
    root = (root or Path.cwd()).absolute()
    every = [*report.findings, *report.suppressed]
    rules = all_declared()
    codes = sorted({code for code, _ in report.rules} | {finding.rule for finding in every})
    driver = {
        "name": "gradkit",
        "version": gradkit.__version__,
        "semanticVersion": gradkit.__version__,
        "rules": [_rule(rules[code]) for code in codes if code in rules],
    }
    index = {code: number for number, code in enumerate(code for code in codes if code in rules)}
    suppressed = {id(finding) for finding in report.suppressed}
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {ROOT: {"uri": root.as_uri().rstrip("/") + "/"}},
                "results": [_result(finding, index, root, id(finding) in suppressed) for finding in every],
                "properties": {
                    "optimizer_steps": report.info.steps,
                    "backward_calls": report.info.backwards,
                    "findings_not_listed": report.dropped,
                },
            }
        ],
    }
    cleaned: dict[str, Any] = plain(document)
    return cleaned


def write_sarif(report: Report, path: str | os.PathLike[str], root: Path | None = None) -> None:
    """Write the report as one SARIF file, replacing an older one in a single move; `root` as for `to_sarif`.

    Raises:
        OSError: The folder cannot be written.
    """
    text = json.dumps(to_sarif(report, root), indent=2, allow_nan=False)
    write_atomically(Path(path), (text + "\n").encode("utf-8", "backslashreplace"))


def _rule(rule: type[Declared]) -> dict[str, Any]:
    page = rule.page()
    text = f"Reports: {page['Reports']} Why: {page['Why']} Quiet when: {page['Quiet when']} Remedy: {page['Remedy']}"
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": page["Summary"]},
        "fullDescription": {"text": page["Reports"][:1].upper() + page["Reports"][1:]},
        "help": {"text": text, "markdown": "\n\n".join(f"**{word}** {page[word]}" for word in _HELP)},
        # SARIF's levels have gradkit's names for severities (3.27.10).
        "defaultConfiguration": {"level": rule.severity.value},
    }


_HELP = ("Reports", "Why", "Quiet when", "Remedy")


def _result(finding: Finding, index: dict[str, int], root: Path, suppressed: bool) -> dict[str, Any]:
    text = " ".join(part for part in (finding.message, finding.cost, finding.remedy) if part)
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": finding.severity.value,
        "message": {"text": text},
        "partialFingerprints": {VERSION: fingerprint(finding)},
        "occurrenceCount": finding.count,
        "properties": {
            "first_step": finding.first_step,
            "last_step": finding.last_step,
            "optimizer": finding.optimizer,
            "parameters": list(finding.parameters),
            "ranks": list(finding.ranks or (0,)),
            "evidence": dict(finding.evidence),
        },
    }
    if finding.rule in index:
        result["ruleIndex"] = index[finding.rule]
    if finding.location is not None:
        result["locations"] = [_location(finding.location, root)]
    if finding.labels:
        result["relatedLocations"] = [
            {"id": number, **_location(place, root), "message": {"text": note}}
            for number, (place, note) in enumerate(finding.labels)
        ]
    if suppressed:
        by_comment = ignored_by_comment(finding)
        result["suppressions"] = [
            {"kind": "inSource" if by_comment else "external", "justification": INLINE if by_comment else "baseline"}
        ]
    return result


def _location(place: Location, root: Path) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": place.line}
    line = line_of_file(place.file, place.line).rstrip("\r\n")
    if line:
        region["snippet"] = {"text": line}
    return {
        "physicalLocation": {"artifactLocation": _artifact(place.file, root), "region": region},
        "logicalLocations": [{"name": place.function, "kind": "function"}],
    }


def _artifact(file: str, root: Path) -> dict[str, Any]:
    """A file's URI: relative to the root below it, absolute elsewhere; code that has no file keeps its name."""
    if file.startswith("<"):
        return {"uri": "memory:" + file.strip("<>").replace(" ", "%20")}
    path = Path(_nameable(file)).absolute()
    try:
        below = path.relative_to(root)
    except ValueError:
        return {"uri": path.as_uri()}
    return {"uri": quote_from_bytes(os.fsencode(below.as_posix())), "uriBaseId": ROOT}


def _nameable(file: str) -> str:
    """The name with escapes for lone surrogates that stand for no byte, which no file's name holds."""
    try:
        os.fsencode(file)
    except UnicodeEncodeError:
        return file.encode("utf-8", "backslashreplace").decode("utf-8")
    return file
