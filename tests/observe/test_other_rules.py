"""Observers serve whichever rule reads their records, not only the one they were written for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import gradkit
from gradkit.engine import Engine
from gradkit.findings import Severity
from gradkit.observe.roster import all_observers
from gradkit.rules import all_rules

KINDS = {kind.__name__: kind for observer in all_observers() for kind in observer.kinds}


@pytest.fixture
def other_rule() -> Any:
    """Makes a rule over one kind of record that is no rule of gradkit's."""
    from gradkit.rules._base import Rule

    def make(kind: type) -> Any:
        @dataclass(frozen=True, kw_only=True)
        class Other(Rule[kind], code="GK999", severity=Severity.NOTE, since="0.1"):
            """Another rule over the same records."""

            def check(self, records: Any) -> Any:
                yield from ()

        return Other()

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_an_observer_starts_for_another_rule_over_its_records(kind: str, other_rule: Any) -> None:
    own = [code for code, rule in all_rules().items() if rule.kind.__name__ == kind]
    monitor = gradkit.watch(report="never", ignore=own)
    monitor.rules.append(other_rule(KINDS[kind]))
    monitor.engine = Engine(monitor.rules)
    with monitor:
        pass
    assert monitor.findings == ()
