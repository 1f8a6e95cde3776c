"""Findings as annotations of GitHub Actions: one workflow command per finding; imports no torch.

Source: GitHub documentation, "Workflow commands for GitHub Actions", setting an error, warning or notice message. The
runner of GitHub reads commands from standard error as well as from standard output.
"""

from collections.abc import Collection
from pathlib import Path

from gradkit.findings import Finding, Severity
from gradkit.fingerprints import fingerprint
from gradkit.report.report import Report

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def annotation(finding: Finding) -> str:
    """One workflow command, without a line end.

    Example:
        >>> from gradkit.findings import Finding, Severity
        >>> annotation(Finding(rule="GK101", name="stale-gradients", severity=Severity.ERROR, message="A, b: 50%."))
        '::error title=GK101 stale-gradients::A, b: 50%25.'
    """
    place = finding.location
    properties = {}
    if place is not None:
        properties = {"file": _relative(place.file), "line": str(place.line)}
    properties["title"] = f"{finding.rule} {finding.name}"
    text = " ".join(part for part in (finding.message, finding.cost, finding.remedy) if part)
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{_COMMANDS[finding.severity]} {listed}::{_data(text)}"


def annotations(report: Report, *, notes: bool = False, said: Collection[str] = ()) -> list[str]:
    """The commands of a report, worst first, then one line for the log that says how much was watched.

    Args:
        report: The report.
        notes: Include notes.
        said: Fingerprints of findings that have been annotated already.
    """
    shown = [
        finding
        for finding in report.findings
        if (notes or finding.severity is not Severity.NOTE) and fingerprint(finding) not in said
    ]
    return [*map(annotation, shown), f"gradkit: {len(report.findings)} finding(s). {report.totals()}."]


def _relative(file: str) -> str:
    """The path below the working folder, which a job's step has in the checkout; an absolute one elsewhere."""
    path = Path(file)
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return file


def _data(text: str) -> str:
    """Escaped as a command's message: GitHub decodes these three."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escaped as a property, where colons and commas separate."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
