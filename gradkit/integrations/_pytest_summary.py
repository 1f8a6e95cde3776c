"""The findings of a whole test session, merged: the terminal's section and the JSON report; imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradkit.config.wording import counted
from gradkit.report.json_report import to_json
from gradkit.report.report import Report
from gradkit.store import write_atomically

_RANK = {"error": 0, "warning": 1, "note": 2}
_TESTS_SHOWN = 3
"""Tests named after a finding; the JSON report has all."""
_SUMS = ("steps", "backwards", "optimizers", "parameters", "reads", "seconds", "overhead_seconds")


def merge(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One report of the form of `gradkit.report`, over all tests, with a further key `tests`.

    Findings with the same rule and line are one finding, with the sum of their counts. Each test lists the
    positions of its findings in `findings`. The order of the records, which differs under xdist, does not matter.

    Args:
        records: What the tests reported: test, outcome and report.
    """
    document = to_json(Report(findings=()))
    records = sorted(records, key=lambda record: str(record["test"]))
    documents = [record["report"] for record in records]
    for each in documents:
        document["environment"].update(each["environment"])
        document["dropped"] += each["dropped"]
        for name in _SUMS:
            document["run"][name] = round(document["run"][name] + each["run"][name], 6)
    rules = {rule["code"]: rule for each in documents for rule in each["rules"]}
    document["rules"] = [rules[code] for code in sorted(rules)]
    merged: dict[tuple[object, ...], dict[str, Any]] = {}
    suppressed: dict[tuple[object, ...], dict[str, Any]] = {}
    for each in documents:
        for finding in each["findings"]:
            _add(merged, finding)
        for finding in each["suppressed"]:
            _add(suppressed, finding)
    order = sorted(merged, key=lambda key: _RANK[merged[key]["severity"]])
    places = {key: position for position, key in enumerate(order)}
    document["findings"] = [merged[key] for key in order]
    document["suppressed"] = list(suppressed.values())
    document["tests"] = [
        {
            "test": record["test"],
            "outcome": record["outcome"],
            "failed_on_findings": record["failed_on"],
            "steps": record["report"]["run"]["steps"],
            "backwards": record["report"]["run"]["backwards"],
            "findings": [places[_key(finding)] for finding in record["report"]["findings"]],
        }
        for record in records
    ]
    return document


def _key(finding: Mapping[str, Any]) -> tuple[object, ...]:
    place = finding["location"] or {}
    # A finding of a check has no place in a source file: the message tells two of them apart. The optimizer's label
    # does not: it counts those alive in the process, and tests before this one may have left some.
    detail = None if place else finding["message"]
    return (finding["rule"], place.get("file"), place.get("line"), detail)


def _add(merged: dict[tuple[object, ...], dict[str, Any]], finding: dict[str, Any]) -> None:
    known = merged.setdefault(_key(finding), {**finding, "count": 0})
    known["count"] += finding["count"]
    if _RANK[finding["severity"]] < _RANK[known["severity"]]:
        known["severity"] = finding["severity"]
    if finding["last_step"] is not None:
        known["last_step"] = max(known["last_step"] or 0, finding["last_step"])


def write(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the merged report.

    Raises:
        OSError: The file cannot be written.
    """
    text = json.dumps(merge(records), indent=2, allow_nan=False)
    write_atomically(path, (text + "\n").encode("utf-8"))


def lines(records: Sequence[Mapping[str, Any]], *, always: bool) -> list[str]:
    """The lines of the terminal's section; none when there is nothing to say.

    Args:
        records: What the tests reported.
        always: Say what was watched even when nothing was found. Otherwise only findings are worth a section that no
            failing test has shown already.
    """
    document = merge(records)
    findings = [finding for finding in document["findings"] if finding["severity"] != "note"]
    told = {
        position
        for test in document["tests"]
        if test["outcome"] == "failed" or test["failed_on_findings"]  # the latter also when it was expected to fail
        for position in test["findings"]
    }
    if not always and told.issuperset(map(document["findings"].index, findings)):
        return []
    written = []
    for finding in findings:
        position = document["findings"].index(finding)
        tests = [test["test"] for test in document["tests"] if position in test["findings"]]
        place = finding["location"]
        where = f" {_short(place['file'])}:{place['line']}" if place else ""
        shown = ", ".join(tests[:_TESTS_SHOWN]) + (f" and {len(tests) - _TESTS_SHOWN} more" * (len(tests) > 3))
        written.append(f"{finding['severity']}[{finding['rule']}] {finding['name']}{where} in {shown}")
    counts = {word: sum(finding["severity"] == word for finding in document["findings"]) for word in _RANK}
    said = ", ".join(counted(counts[word], word) for word in ("error", "warning") if counts[word]) or "no findings"
    trained = sum(test["steps"] > 0 for test in document["tests"])
    run = document["run"]
    written.append(
        f"gradkit: {said} in {counted(len(document['tests']), 'test')} with gradients, {trained} of them trained: "
        f"{counted(run['steps'], 'optimizer step')}, {counted(run['backwards'], 'backward call')}."
        + (f" {counted(counts['note'], 'note')} not shown." if counts["note"] else "")
    )
    return written


def _short(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive on Windows
        return path
    return path if relative.startswith("..") else relative
