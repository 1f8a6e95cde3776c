"""The report a person reads: findings like a good compiler's, and for a quiet run what was watched; never on stdout."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console
from rich.text import Text

from gradkit.config.wording import counted
from gradkit.findings import CONTROLS, Finding, Severity
from gradkit.records import Location
from gradkit.report.contents import Contents
from gradkit.sources import line_of_file, lines_of_file

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}
_MARGIN = 1
"""Source lines shown before and after the marked one."""


class _Console(Console):
    """A console whose reader may leave (`| head`): Rich's own would end the program that is watched."""

    def on_broken_pipe(self) -> None:
        """Let the error through."""
        raise  # Rich calls this where it caught the error


def write(report: Contents, stream: TextIO | None, *, notes: bool) -> None:
    """Write the report to a stream, standard error when None; see `gradkit.report.report.Report.print`."""
    stream = stream if stream is not None else sys.stderr
    if stream is None:  # a process without standard error
        return
    colour = stream.isatty() and not os.environ.get("NO_COLOR")  # no-color.org: present and not empty
    # A fixed width off a terminal: the same run gives the same text whatever the shell's size.
    width = None if stream.isatty() else 120
    console = _Console(file=stream, width=width, no_color=not colour, highlight=False, soft_wrap=True)
    for text in parts(report, notes=notes):
        text.plain = _encodable(text.plain, stream)
        console.print(text, soft_wrap=True)


def parts(report: Contents, *, notes: bool) -> list[Text]:
    """The findings and the last line as Rich texts, for a console of the caller's."""
    shown = [finding for finding in report.findings if notes or finding.severity is not Severity.NOTE]
    texts = [_finding(finding) for finding in shown]
    texts.append(_summary(report, len(report.findings) - len(shown)))
    for text in texts:
        text.plain = text.plain.translate(CONTROLS)
    return texts


def _summary(report: Contents, hidden: int) -> Text:
    counts = {severity: sum(f.severity is severity for f in report.findings) for severity in Severity}
    said = [counted(counts[s], s.value) for s in (Severity.ERROR, Severity.WARNING) if counts[s]]
    text = Text("gradkit: ", style="bold")
    verdict = ", ".join(said) if said else "no findings"
    text.append(verdict, style="bold red" if counts[Severity.ERROR] else "bold yellow" if said else "bold green")
    text.append(f". {report.totals()}.", style="")
    if report.suppressed:
        text.append(f" {counted(len(report.suppressed), 'finding')} suppressed.", style="dim")
    if hidden:
        text.append(f" {counted(hidden, 'note')} not shown.", style="dim")
    if report.dropped:
        text.append(f" {report.dropped} further findings were beyond the limit and are not listed.")
    for finding in report.findings:
        if finding.rule == "GK901":
            text.append(f"\n  not seen: {finding.message}", style="dim")
    return text


def _finding(finding: Finding) -> Text:
    text = Text()
    style = _STYLES[finding.severity]
    text.append(f"{finding.severity.value}[{finding.rule}]", style=style)
    text.append(f" {finding.name}: {finding.message}\n", style="bold")
    if finding.location is not None:
        _excerpt(text, finding.location, style)
    for place, note in finding.labels:
        same_file = finding.location is not None and place.file == finding.location.file
        where = f"line {place.line}" if same_file else f"{short(place.file)}:{place.line}"
        code = line_of_file(place.file, place.line).strip()
        text.append(f"  {where}: ", style="dim")
        text.append(f"{code}  " if code else "")
        text.append(f"({note})\n", style="dim")
    for word, value in _facts(finding):
        text.append(f"  {word + ':':<12}", style="cyan")
        text.append(f"{value}\n")
    return text


def _excerpt(text: Text, place: Location, style: str) -> None:
    text.append("  --> ", style="blue")
    called = f", called by {place.via}" if place.via else ""
    text.append(f"{short(place.file)}:{place.line} in {place.function}{called}\n")
    lines = lines_of_file(place.file)
    if not 0 < place.line <= len(lines):
        return
    first, last = max(1, place.line - _MARGIN), min(len(lines), place.line + _MARGIN)
    digits = len(str(last))
    for number in range(first, last + 1):
        marked = number == place.line
        text.append(f"  {'>' if marked else ' '} {number:>{digits}} | ", style="blue")
        text.append(lines[number - 1].rstrip("\n\r") + "\n", style=style if marked else "")


def _facts(finding: Finding) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if finding.count > 1:
        facts.append(("seen", f"{finding.count:,} times, steps {finding.first_step} to {finding.last_step}"))
    if len(finding.ranks) > 1 or any(finding.ranks):
        facts.append(("ranks", ", ".join(map(str, finding.ranks))))
    if finding.parameters:
        shown = ", ".join(finding.parameters[:4])
        more = len(finding.parameters) - 4
        facts.append(("parameters", f"{shown} and {more} more" if more > 0 else shown))
    evidence = {
        key: value
        for key, value in finding.evidence.items()
        if key not in ("clearing", "traceback", "where", "error") and value is not None
    }
    if evidence:
        facts.append(
            ("evidence", ", ".join(f"{key.replace('_', ' ')} {_number(value)}" for key, value in evidence.items()))
        )
    if "traceback" in finding.evidence:
        facts.append(("traceback", "\n" + str(finding.evidence["traceback"]).rstrip()))
    if finding.cost:
        facts.append(("cost", finding.cost))
    if finding.remedy:
        facts.append(("remedy", finding.remedy))
    return facts


def _encodable(text: str, stream: TextIO) -> str:
    """The text with a question mark for what the stream's encoding lacks; otherwise the whole report would be lost."""
    encoding = getattr(stream, "encoding", None)
    if not encoding or getattr(stream, "errors", "strict") != "strict":
        return text
    return text.encode(encoding, "replace").decode(encoding)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short(path: str) -> str:
    """A path relative to the working folder when it lies below it."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive on Windows
        return path
    return path if relative.startswith("..") or path.startswith("<") else relative
