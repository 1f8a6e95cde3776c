"""What every check returns: verdict, findings, a table, a dictionary, and `assert_ok()`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gradkit.check.engine.errors import CheckFailedError
from gradkit.findings import Finding, Severity
from gradkit.rules import all_check_rules

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

Verdict = Literal["pass", "fail", "inconclusive", "skipped"]

ORDER: Mapping[Verdict, int] = {"skipped": 0, "pass": 1, "inconclusive": 2, "fail": 3}
COLOURS: Mapping[Verdict, str] = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "skipped": "dim"}


def finding(rule: str, message: str, remedy: str, evidence: Mapping[str, Any]) -> Finding:
    """A finding of a check.

    Args:
        rule: Code, such as `GK601`.
        message: The fact and the number, in the past tense.
        remedy: What to do.
        evidence: The numbers behind it, plain data.
    """
    said = all_check_rules()[rule]
    return Finding(
        rule=rule, name=said.name, severity=said.severity, message=message, remedy=remedy, evidence=dict(evidence)
    )


def _finding_as_data(each: Finding) -> dict[str, Any]:
    return {
        "rule": each.rule,
        "name": each.name,
        "severity": each.severity.value,
        "message": each.message,
        "evidence": dict(each.evidence),
        "remedy": each.remedy,
    }


def _finding_from_data(data: Mapping[str, Any]) -> Finding:
    return Finding(
        rule=data["rule"],
        name=data["name"],
        severity=Severity(data["severity"]),
        message=data["message"],
        remedy=data["remedy"],
        evidence=dict(data["evidence"]),
    )


def nondeterminism(title: str, value: Tensor, again: Tensor) -> Finding | None:
    """The finding that a gradient came out otherwise the second time; None when the two are equal bit for bit."""
    if bool((again.nan_to_num() == value.nan_to_num()).all()):
        return None
    apart = float((again - value).abs().max())
    return finding(
        "GK606",
        f"{title}: the same inputs and random state gave gradients {apart:.3g} apart.",
        "It may come from random numbers of a generator that is not torch's, NumPy's or Python's own, from state that a"
        " call leaves behind, or from the order of additions on a parallel device"
        " (torch.use_deterministic_algorithms).",
        {"largest_difference": apart},
    )


@dataclass(frozen=True)
class Line:
    """One line of a result: what was looked at, the verdict, and why.

    Attributes:
        subject: What was looked at.
        verdict: The judgement.
        measured: The numbers, by name.
        reason: One sentence; empty when there is nothing to say.
        advice: What to do; empty when nothing is to be done.
    """

    subject: str
    verdict: Verdict
    measured: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "subject": self.subject,
            "verdict": self.verdict,
            **self.measured,
            "reason": self.reason,
            "advice": self.advice,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Line:
        """The line that `to_dict` was called on; lists have become tuples."""
        own = ("subject", "verdict", "reason", "advice")
        if data["verdict"] not in ORDER:
            raise ValueError(f"unknown verdict {data['verdict']!r}")
        measured = {name: value for name, value in data.items() if name not in own}
        return cls(data["subject"], data["verdict"], measured, data["reason"], data["advice"])


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        title: What was checked.
        lines: One per comparison or property.
        findings: What the rules GK601 to GK608 have to say.
        notes: What could not be seen, and what a reader should know.
        settings: How the check was run: dtype, seed, number of evaluations.
        columns: The names in `measured` that the table shows; all of them when empty.
    """

    title: str
    lines: Sequence[Line]
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = ()

    @property
    def verdict(self) -> Verdict:
        """The gravest verdict of all lines; `pass` when there are none."""
        return max((line.verdict for line in self.lines), key=lambda each: ORDER[each], default="pass")

    @property
    def ok(self) -> bool:
        """Whether the verdict is `pass`."""
        return self.verdict == "pass"

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON except for infinities and NaNs among the numbers."""
        return {
            "schema_version": 1,
            "title": self.title,
            "verdict": self.verdict,
            "settings": dict(self.settings),
            "lines": [line.to_dict() for line in self.lines],
            "findings": [_finding_as_data(each) for each in self.findings],
            "notes": list(self.notes),
            "columns": list(self.columns),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CheckResult:
        """The result that `to_dict` was called on."""
        return cls(
            title=data["title"],
            lines=[Line.from_dict(each) for each in data["lines"]],
            findings=[_finding_from_data(each) for each in data["findings"]],
            notes=list(data["notes"]),
            settings=dict(data["settings"]),
            columns=tuple(data.get("columns", ())),
        )

    def assert_ok(self, *, allow_inconclusive: bool = False) -> None:
        """Do nothing when the check passed.

        Args:
            allow_inconclusive: Let inconclusive lines pass too.

        Raises:
            CheckFailedError: A line failed, or was inconclusive or nothing could be compared; says which and why.
        """
        if self.ok or (allow_inconclusive and self.verdict == "inconclusive"):
            return
        worst = [line for line in self.lines if line.verdict == self.verdict]
        told = "\n".join(f"  {line.subject}: {_sentence(line)}" for line in worst[:10])
        more = f"\n  and {len(worst) - 10} more" if len(worst) > 10 else ""
        raise CheckFailedError(f"{self.title}: {self.verdict}\n{told}{more}")

    def table(self) -> Table:
        """A Rich table of the lines."""
        from rich.table import Table
        from rich.text import Text

        columns = self.columns or list(dict.fromkeys(name for line in self.lines for name in line.measured))
        table = Table(
            title=self.title,
            title_justify="left",
            caption="\n".join(self.notes) or None,
            caption_justify="left",
            show_edge=False,
            pad_edge=False,
        )
        table.add_column("checked", overflow="fold")
        for name in columns:  # a number is shown whole or not at all
            table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        told = any(line.reason or line.advice for line in self.lines)
        if told:
            table.add_column("why", overflow="fold")
        for line in self.lines:
            cells = [Text(shown(line.measured.get(name))) for name in columns]
            why = [Text(_sentence(line))] if told else []
            table.add_row(Text(line.subject), *cells, Text(line.verdict, style=COLOURS[line.verdict]), *why)
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        told = "".join(f"\n  {line.subject}: {line.verdict}. {_sentence(line)}".rstrip() for line in self.lines)
        return f"{self.title}: {self.verdict}{told}"


def _sentence(line: Line) -> str:
    return " ".join(part for part in (line.reason, line.advice) if part)


def shown(value: object) -> str:
    """A number or word as a table shows it.

    Example:
        >>> shown(1.23456e-8), shown(None), shown((0, 1)), shown(3)
        ('1.23e-08', '', '(0, 1)', '3')
    """
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
