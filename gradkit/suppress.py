"""Findings a user has asked not to see: comments on the reported line, and baselines of known findings; no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import gradkit
from gradkit.errors import ConfigError
from gradkit.findings import Finding
from gradkit.fingerprints import VERSION, fingerprint, lines_of, project_path
from gradkit.reading import UnreadableError, mismatch, read_json
from gradkit.sources import line_of_file
from gradkit.store import write_atomically

INLINE, BASELINE = "comment", "baseline"
SCHEMA_VERSION = 1
_COMMENT = re.compile(r"#\s*gradkit:\s*ignore\b(?:\s*\[([^\]]*)\])?")


def ignored_by_comment(finding: Finding) -> bool:
    """Whether the reported statement carries `# gradkit: ignore[CODES]`; without brackets it is meant for every rule.

    A code may be a prefix, as in `--select`. GK9xx, which is about gradkit itself, belongs to no line.
    """
    place = finding.location
    if place is None:
        return False
    for line in lines_of(place):
        for found in _COMMENT.finditer(line_of_file(place.file, line)):
            codes = [code.strip() for code in (found[1] or "").split(",")] if found[1] is not None else ["GK"]
            if any(code and finding.rule.startswith(code) for code in codes):
                return True
    return False


class _Entry(TypedDict):
    fingerprint: str


class _Baseline(TypedDict):
    findings: list[_Entry]


class Suppressor:
    """Says of a finding by what it is suppressed, if by anything.

    Args:
        baseline: The file of known findings; None for none.

    Raises:
        ConfigError: The file is missing or no baseline.
    """

    def __init__(self, baseline: str | None = None) -> None:
        self._known = read_baseline(Path(baseline)) if baseline is not None else frozenset[str]()

    def reason(self, finding: Finding) -> str | None:
        """`INLINE`, `BASELINE` or None."""
        if ignored_by_comment(finding):
            return INLINE
        return BASELINE if self._known and fingerprint(finding) in self._known else None

    def split(self, findings: Iterable[Finding]) -> tuple[list[Finding], list[Finding]]:
        """The findings to report and the suppressed ones, both in the given order."""
        kept: list[Finding] = []
        suppressed: list[Finding] = []
        for finding in findings:
            (suppressed if self.reason(finding) else kept).append(finding)
        return kept, suppressed


def baseline_schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12) of a baseline."""
    path = Path(__file__).with_name("report") / "baseline.schema.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def read_baseline(path: Path) -> frozenset[str]:
    """The fingerprints a baseline lists.

    Raises:
        ConfigError: The file is missing or no baseline of this version.
    """
    try:
        data = read_json(path)
    except FileNotFoundError:
        raise ConfigError(
            f"baseline: there is no file {str(path)!r}. Write it from a run with --baseline {path} --write-baseline."
        ) from None
    except (OSError, UnreadableError) as error:
        raise ConfigError(f"baseline: {str(path)!r} cannot be read: {error}") from None
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION or data.get("made_by") != VERSION:
        raise ConfigError(
            f"baseline: {str(path)!r} is no baseline of this gradkit, which writes schema_version {SCHEMA_VERSION} with"
            f" fingerprints {VERSION}. Write it again with --write-baseline."
        )
    if wrong := mismatch(data, _Baseline):
        raise ConfigError(
            f"baseline: the findings in {str(path)!r} have no fingerprints that can be read: {wrong}. Write it again."
        )
    entries = data["findings"]
    return frozenset(entry["fingerprint"] for entry in entries)


def write_baseline(findings: Iterable[Finding], path: Path) -> None:
    """Write the findings as known ones, sorted so that the file changes only where findings do.

    Notes about gradkit itself (GK9xx) are left out: they concern one run.

    Raises:
        OSError: The folder cannot be written.
    """
    entries = {fingerprint(finding): _entry(finding) for finding in findings if not finding.rule.startswith("GK9")}
    ordered = sorted(entries.values(), key=_order)
    data = {
        "schema_version": SCHEMA_VERSION,
        "gradkit": gradkit.__version__,
        "made_by": VERSION,
        "findings": ordered,
    }
    write_atomically(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


def _entry(finding: Finding) -> dict[str, Any]:
    place = finding.location
    return {
        "fingerprint": fingerprint(finding),
        "rule": finding.rule,
        "file": project_path(place.file) if place else None,
        "function": place.function if place else None,
        "line": place.line if place else None,
    }


def _order(entry: dict[str, Any]) -> tuple[str, str, int]:
    return entry["file"] or "", entry["rule"], entry["line"] or 0
