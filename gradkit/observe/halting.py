"""Which findings end the program's training, by severity or rule code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradkit.engine import select_rules
from gradkit.errors import ConfigError
from gradkit.findings import Finding, Severity


def halting(halt_on: str | Sequence[str] | None) -> Callable[[Finding], bool]:
    """Whether a finding is one of those that `halt_on` names."""
    if halt_on is None:
        return lambda finding: False
    words = (halt_on,) if isinstance(halt_on, str) else tuple(halt_on)
    severities = {severity.value: severity for severity in Severity}
    codes = [word for word in words if word not in severities]
    if codes:
        try:
            select_rules(codes)
        except ConfigError as error:
            raise ConfigError(f"halt_on takes 'error', 'warning', 'note' or rule codes. {error}") from None
    least = min((severities[word].rank for word in words if word in severities), default=3)
    return lambda finding: finding.severity.rank >= least or any(finding.rule.startswith(code) for code in codes)
