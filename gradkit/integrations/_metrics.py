"""Findings as numbers that any experiment logger takes."""

from __future__ import annotations

from gradkit.findings import Finding


def metrics_of(findings: tuple[Finding, ...]) -> dict[str, int]:
    """The metrics the framework callbacks log for these findings; empty without any.

    Example:
        >>> from gradkit.findings import Finding, Severity
        >>> found = Finding(rule="GK101", name="stale-gradients", severity=Severity.ERROR, message="...", count=3)
        >>> metrics_of((found,))
        {'gradkit/errors': 1, 'gradkit/warnings': 0, 'gradkit/notes': 0, 'gradkit/GK101': 3}
    """
    if not findings:
        return {}
    metrics = {
        f"gradkit/{severity}s": sum(finding.severity.value == severity for finding in findings)
        for severity in ("error", "warning", "note")
    }
    for finding in findings:
        key = f"gradkit/{finding.rule}"
        metrics[key] = metrics.get(key, 0) + finding.count
    return metrics
