"""Findings: what a rule reports, as frozen values ready for JSON; imports no torch."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gradkit.records import Location


class Severity(enum.Enum):
    """How sure and how harmful, ordered: note, warning, error."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for a note, 1 for a warning, 2 for an error."""
        return ("note", "warning", "error").index(self.value)

    def __lt__(self, other: Severity) -> bool:
        return self.rank < other.rank

    def __le__(self, other: Severity) -> bool:
        return self.rank <= other.rank


CONTROLS = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(
        [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)], 0xFFFD
    ),
}
"""What would move the cursor, colour or retitle the terminal becomes a symbol of the same length (U+2400 and following,
else U+FFFD), and so does what would turn the reading direction of the line (Unicode annex 9, explicit formatting) or
cannot be encoded (a lone surrogate)."""
_OF_ONE_LINE = {**CONTROLS, 0x09: 0x2409, 0x0A: 0x240A}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of one rule; repeats at the same place are merged into `count` and `last_step`.

    Attributes:
        rule: The code, such as `GK101`.
        name: The rule's name, such as `stale-gradients`.
        severity: Of this finding; the rule's own is the highest it can have.
        message: One sentence of fact in the past tense with its numbers.
        location: The user's own line that is responsible; None when there is none.
        first_step: Number of the optimizer's step that showed it first, from 0; None when it belongs to no step.
        last_step: The last such step.
        count: How many steps showed it.
        optimizer: Label of the optimizer, if one is concerned.
        parameters: Names of the parameters concerned.
        modules: Names of the modules concerned.
        cost: What it costs the run.
        remedy: What to do.
        evidence: Facts behind the finding, JSON-ready.
        labels: Further places in the user's source, each with what happened there.
        ranks: Processes of a distributed run that showed it; empty in a run of one process.
    """

    rule: str
    name: str
    severity: Severity
    message: str
    location: Location | None = None
    first_step: int | None = None
    last_step: int | None = None
    count: int = 1
    optimizer: str | None = None
    parameters: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cost: str = ""
    remedy: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[tuple[Location, str], ...] = ()
    ranks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Make names safe that come from anybody's program, before they can leave it by whatever way."""
        words = (self.message, self.optimizer or "", *self.parameters, *self.modules, *self.evidence)
        texts = (
            self.location.function if self.location else "",
            *filter(str.__instancecheck__, self.evidence.values()),
        )
        if "".join((*words, *texts)).isprintable():
            return
        safe = {
            "message": self.message.translate(_OF_ONE_LINE),
            "optimizer": self.optimizer and self.optimizer.translate(_OF_ONE_LINE),
            "parameters": tuple(name.translate(_OF_ONE_LINE) for name in self.parameters),
            "modules": tuple(name.translate(_OF_ONE_LINE) for name in self.modules),
            "evidence": {key.translate(_OF_ONE_LINE): _safe(value) for key, value in self.evidence.items()},
            "location": self.location
            and replace(self.location, function=self.location.function.translate(_OF_ONE_LINE)),
        }
        for name, value in safe.items():
            object.__setattr__(self, name, value)

    @property
    def key(self) -> tuple[str, str | None, str | None, int | None]:
        """What makes two findings the same one: rule, optimizer, file and line."""
        place = self.location
        return (self.rule, self.optimizer, place.file if place else None, place.line if place else None)

    def merged(self, later: Finding) -> Finding:
        """This finding with a repeat of it added: the count grows, evidence takes the later numbers."""
        return replace(
            self,
            count=self.count + later.count,
            last_step=later.last_step if later.last_step is not None else self.last_step,
            severity=max(self.severity, later.severity, key=lambda severity: severity.rank),
            evidence={**self.evidence, **later.evidence},
            labels=later.labels if len(later.labels) >= len(self.labels) else self.labels,
        )

    def joined(self, other: Finding) -> Finding:
        """This finding with the same mistake of another optimizer added; the evidence counts the optimizers."""
        steps = [step for step in (self.last_step, other.last_step) if step is not None]
        return replace(
            self,
            count=self.count + other.count,
            last_step=max(steps, default=None),
            severity=max(self.severity, other.severity, key=lambda severity: severity.rank),
            parameters=tuple(dict.fromkeys((*self.parameters, *other.parameters))),
            modules=tuple(dict.fromkeys((*self.modules, *other.modules))),
            evidence={**self.evidence, "optimizers": self.evidence.get("optimizers", 1) + 1},
        )


def _safe(value: Any) -> Any:
    """Evidence with its texts made safe; a traceback keeps its lines."""
    if isinstance(value, str):
        return value.translate(CONTROLS)
    if isinstance(value, (list, tuple)):
        return [_safe(item) for item in value]
    if isinstance(value, dict):
        return {_safe(key): _safe(item) for key, item in value.items()}
    return value
