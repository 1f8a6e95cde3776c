"""The bases of all rules: of those that judge the records of a run, and of those that a gradient check reports."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, get_args

from gradkit.findings import Finding, Severity
from gradkit.records import Location

RecordT = TypeVar("RecordT")
FIELDS = ("Reports", "Why", "Quiet when", "Remedy", "Source")


class Declared:
    """What stands behind a code. The name is that of the class, the page is the docstring of its module."""

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    since: ClassVar[str]

    @classmethod
    def _declare(cls, code: str, severity: Severity, since: str) -> None:
        cls.code, cls.severity, cls.since = code, severity, since
        cls.name = "-".join(word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", cls.__name__))

    @classmethod
    def page(cls) -> dict[str, str]:
        """The five fields of the module's docstring, and its first sentence under `Summary`.

        Raises:
            ValueError: A field is missing from the docstring.
        """
        module = inspect.getmodule(cls)
        text = inspect.cleandoc((module.__doc__ if module else None) or "")
        page = {"Summary": text.split("\n", 1)[0]}
        for field in FIELDS:
            found = re.search(rf"^{field}:\s*(.*?)(?=^\S[^\n]*:\s|\Z)", text, re.MULTILINE | re.DOTALL)
            if not found:
                raise ValueError(
                    f"{cls.__module__}: the docstring has no field {field!r}; every rule file needs {FIELDS}"
                )
            page[field] = " ".join(found[1].split())
        return page


@dataclass(frozen=True, kw_only=True)
class Rule(Declared, Generic[RecordT]):
    """One judgement; subclasses declare `class Name(Rule[Kind], code=..., severity=..., since=...)`.

    A rule is pure: it keeps no memory, reads no clock and touches no tensor. What it needs of the past it asks for with
    `lookback`, the number of earlier records of the same source it is handed besides the present one.
    """

    kind: ClassVar[type]
    lookback: ClassVar[int] = 0
    every_window: ClassVar[bool] = False
    """True when the rule needs a record of every step, not only of those that deserve a judgement."""
    supersedes: ClassVar[tuple[str, ...]] = ()
    """Codes whose findings about the same optimizer and steps are consequences of this rule's findings."""

    def __init_subclass__(
        cls, *, code: str, severity: Severity, since: str, lookback: int = 0, every_window: bool = False, **kwargs: Any
    ) -> None:
        """Store the declaration and read the kind of record from the base class's parameter."""
        super().__init_subclass__(**kwargs)
        cls._declare(code, severity, since)
        cls.lookback, cls.every_window = lookback, every_window
        (cls.kind,) = get_args(cls.__orig_bases__[0])  # type: ignore[attr-defined]

    def check(self, records: Sequence[RecordT]) -> Iterator[Finding]:
        """Yield the findings of `records[-1]`; the earlier ones are context."""
        raise NotImplementedError

    def finding(
        self,
        *,
        message: str,
        severity: Severity | None = None,
        step: int | None = None,
        where: Location | None = None,
        optimizer: str | None = None,
        parameters: Sequence[str] = (),
        modules: Sequence[str] = (),
        cost: str = "",
        remedy: str | None = None,
        evidence: Mapping[str, Any] | None = None,
        labels: Sequence[tuple[Location, str]] = (),
    ) -> Finding:
        """A finding of this rule; the severity may be lowered, the remedy defaults to the one of the rule's page."""
        return Finding(
            rule=self.code,
            name=self.name,
            severity=severity or self.severity,
            message=message,
            location=where,
            first_step=step,
            last_step=step,
            optimizer=optimizer,
            parameters=tuple(parameters),
            modules=tuple(modules),
            cost=cost,
            remedy=type(self).page()["Remedy"] if remedy is None else remedy,
            evidence=dict(evidence or {}),
            labels=tuple(labels),
        )


class CheckRule(Declared):
    """What `gradkit.check` reports under one code; the check itself, which computes with tensors, is not here."""

    def __init_subclass__(cls, *, code: str, severity: Severity, since: str, **kwargs: Any) -> None:
        """Store the declaration."""
        super().__init_subclass__(**kwargs)
        cls._declare(code, severity, since)
