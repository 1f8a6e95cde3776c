"""Feeds records to the rules that read them, selects, merges repeats and keeps the result bounded; imports no torch."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from gradkit.errors import ConfigError, did_you_mean
from gradkit.findings import Finding, Severity
from gradkit.interruptions import comes_from_outside
from gradkit.records import Crash, Record
from gradkit.rules import Rule, all_rules

MAX_FINDINGS = 1000
"""Distinct findings kept; what comes after is counted in `Engine.dropped` and said in the report."""
MAX_SOURCES = 4096
"""Sources (optimizers) whose earlier records are kept for rules with `lookback`."""


def select_rules(
    select: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Rule[Any]]:
    """Instances of the selected rules, in order of their codes.

    Args:
        select: Codes or prefixes (`GK1` is all of 1xx); None is all. GK900 and GK901 are always on unless ignored.
        ignore: Codes or prefixes taken away again.
        settings: Code to the values of that rule's settings.

    Raises:
        ConfigError: A code, prefix or setting does not exist.
    """
    rules = all_rules()
    for word, pattern in [("select", code) for code in select or ()] + [("ignore", code) for code in ignore]:
        if not any(code.startswith(pattern) for code in rules) or not pattern:
            raise ConfigError(
                f"Unknown rule {pattern!r} in {word}.{did_you_mean(pattern, rules)} The rules are {', '.join(rules)}."
            )
    for code, values in (settings or {}).items():
        if code not in rules:
            raise ConfigError(f"Unknown rule {code!r} in settings.{did_you_mean(code, rules)}")
        names = [field.name for field in fields(rules[code])]
        for name in values:
            if name not in names:
                raise ConfigError(
                    f"{code} has no setting {name!r}.{did_you_mean(name, names)} It has {names or 'none'}."
                )

    def wanted(code: str) -> bool:
        chosen = select is None or code.startswith("GK9") or any(code.startswith(pattern) for pattern in select)
        return chosen and not any(code.startswith(pattern) for pattern in ignore)

    return [rule(**(settings or {}).get(code, {})) for code, rule in rules.items() if wanted(code)]


class Engine:
    """Judges records as they come and holds the merged findings.

    Args:
        rules: Instances to run; those whose kind never arrives are never called.
        on_finding: Called with each finding that is new, not with its repeats.
    """

    def __init__(self, rules: Iterable[Rule[Any]], on_finding: Callable[[Finding], None] | None = None) -> None:
        self.rules = list(rules)
        self.dropped = 0
        self._on_finding = on_finding
        self._by_kind: dict[type, list[Rule[Any]]] = {}
        for rule in self.rules:
            self._by_kind.setdefault(rule.kind, []).append(rule)
        self._superseded = {rule.code: rule.supersedes for rule in self.rules if rule.supersedes}
        self._findings: dict[tuple[object, ...], Finding] = {}
        self._past: dict[tuple[type, object], deque[Any]] = {}

    @property
    def kinds(self) -> frozenset[type]:
        """The kinds of record some rule reads; observers of other kinds need not be attached."""
        return frozenset(self._by_kind)

    @property
    def needs_every_window(self) -> bool:
        """Whether a rule wants a record of every step."""
        return any(rule.every_window for rule in self.rules)

    def wants(self, kind: type) -> bool:
        """Whether any active rule reads records of `kind`."""
        return kind in self._by_kind

    def put(self, record: Record, source: object = None) -> list[Finding]:
        """Judge one record and return the findings it gave, merged ones included; a rule that raises becomes GK900.

        Args:
            record: The record.
            source: What it is about, such as an optimizer's number; `lookback` counts records of the same source.
        """
        given: list[Finding] = []
        rules = self._by_kind.get(type(record), ())
        if not rules:
            return given
        records = self._with_past(record, source, max(rule.lookback for rule in rules))
        for rule in rules:
            try:
                given.extend(rule.check(records[-rule.lookback - 1 :]))
            except Exception as error:  # a rule's own bug must never reach the training loop
                if comes_from_outside(error):
                    raise
                given.extend(self._crashed(f"Rule {rule.code} {rule.name}", error))
        return [self._merge(finding) for finding in given]

    def crashed(self, where: str, error: Exception) -> None:
        """Report an exception that was contained elsewhere in gradkit."""
        for finding in self._crashed(where, error):
            self._merge(finding)

    @property
    def count(self) -> int:
        """How many distinct findings there are."""
        return len(self._findings)

    def findings(self) -> tuple[Finding, ...]:
        """All findings without the consequences of others, worst first, then in the order they were first seen.

        What several optimizers of one class showed at one line is one finding: a function that trains every fold, or
        every layer's own optimizer, has one mistake.
        """
        found: dict[tuple[object, ...], Finding] = {}
        for finding in self._findings.values():
            if not self._is_consequence(finding):
                key = _mistake(finding)
                found[key] = found[key].joined(finding) if key in found else finding
        return tuple(sorted(found.values(), key=lambda finding: -finding.severity.rank))

    def _is_consequence(self, finding: Finding) -> bool:
        """Whether a finding of the same optimizer that takes precedence (docs/contract.md) explains it."""
        for other in self._findings.values():
            if finding.rule in self._superseded.get(other.rule, ()) and finding.optimizer == other.optimizer:
                began = (other.first_step or 0) - int(other.evidence.get("steps", 1))
                if (finding.first_step or 0) >= began:
                    return True
        return False

    def enrich(self, finding: Finding) -> None:
        """Replace the stored finding of the same key, in its place; for evidence that arrives after the report."""
        if finding.key in self._findings:
            self._findings[finding.key] = finding

    def _with_past(self, record: Record, source: object, lookback: int) -> list[Any]:
        if lookback == 0:
            return [record]
        key = (type(record), source)
        past = self._past.get(key)
        if past is None:
            if len(self._past) >= MAX_SOURCES:
                self._past.pop(next(iter(self._past)))
            past = self._past[key] = deque(maxlen=lookback + 1)
        past.append(record)
        return list(past)

    def _crashed(self, where: str, error: Exception) -> list[Finding]:
        told = traceback.TracebackException.from_exception(error)  # also where the exception's own `__str__` raises
        record = Crash(where=where, error=f"{type(error).__name__}: {told}", traceback="".join(told.format()))
        reporter = next((rule for rule in self.rules if rule.code == "GK900"), None)
        given: list[Finding] = []
        if reporter is not None and not where.startswith("Rule GK900"):
            try:
                return list(reporter.check([record]))
            except Exception as second:  # the reporter of mistakes has one itself: that is said without it
                given = self._crashed(f"Rule GK900 {reporter.name}", second)
        # GK900 was deselected or is broken, not the duty to say that a judgement is missing.
        return [
            *given,
            Finding(
                rule="GK900", name="rule-crashed", severity=Severity.NOTE, message=f"{where} raised {record.error}."
            ),
        ]

    def _merge(self, finding: Finding) -> Finding:
        key: tuple[object, ...] = finding.key
        if finding.rule in ("GK900", "GK901"):
            key = (*key, finding.evidence.get("where", finding.message))
        known = self._findings.get(key)
        if known is not None:
            merged = known.merged(finding)
            if finding.rule == "GK900":  # the first traceback is kept: it is the one nearest to the cause
                merged = replace(merged, evidence=known.evidence, message=known.message)
            self._findings[key] = merged
            return merged
        if len(self._findings) >= MAX_FINDINGS:
            self.dropped += 1
            return finding
        is_told = any(_mistake(other) == _mistake(finding) for other in self._findings.values())
        self._findings[key] = finding
        if self._on_finding is not None and not is_told:
            self._on_finding(finding)
        return finding


def _mistake(finding: Finding) -> tuple[object, ...]:
    """What findings of several optimizers have in common that are one mistake; labels are `SGD`, `SGD#2` and so on."""
    place = finding.location
    if place is None:
        return (finding.rule, finding.optimizer, finding.message)
    return (finding.rule, (finding.optimizer or "").partition("#")[0], place.file, place.line)
