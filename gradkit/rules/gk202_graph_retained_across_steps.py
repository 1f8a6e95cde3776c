"""The graphs of earlier steps stayed alive, and their number grew step after step.

Reports:    back-propagated graphs of earlier steps that something still holds while their number grows and never
            falls, with the line that computed what is kept and, where Python tells, the variable that holds it.
Why:        every step leaves its graph behind, so memory grows until the process is killed; when the graphs are
            retained for later backward calls, each step also takes longer than the last.
Quiet when: the number stops growing or falls (a loss that lives until the next one, states of a truncated window);
            values were detached or turned into numbers before they were kept; the graphs belong to one window; a
            backward creates a graph on purpose (higher-order optimisation).
Remedy:     Keep `loss.item()` or `loss.detach()` instead of the tensor, and detach a state before carrying it on.
Source:     PyTorch FAQ, "My model reports cuda runtime error(2): out of memory": do not accumulate history across the
            training loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import GraphCensus
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class GraphRetainedAcrossSteps(Rule[GraphCensus], code="GK202", severity=Severity.WARNING, since="0.1"):
    """Settings and check.

    Attributes:
        growths: Growths in a row without a fall before kept graphs are reported (docs/contract.md).
        growths_revisited: The same where every backward retains its graph and goes through earlier ones again, but not
            through their losses: truncated back-propagation through time carries some tens of windows along on
            purpose and then stops growing.
    """

    growths: int = 10
    growths_revisited: int = 50

    def needed(self, retained: bool, revisited: bool, total: bool) -> int:
        """How many growths it takes, from what `GraphCensus` says of the graphs."""
        return self.growths_revisited if retained and revisited and not total else self.growths

    def check(self, records: Sequence[GraphCensus]) -> Iterator[Finding]:
        """Yield a finding when the number of living graphs has grown often enough."""
        now = records[-1]
        if now.growths < self.needed(now.retained, now.revisited, now.total):
            return
        kept = f"`{now.container}`" if now.container else "something"
        size = f" ({now.length} entries)" if now.length is not None else ""
        result = f" the result of {now.operation.removesuffix('0')}" if now.operation else " a tensor with its graph"
        yield self.finding(
            step=now.step,
            where=now.location or now.backward_line,
            message=(
                f"The graphs of {now.alive} earlier steps were still alive at step {now.step}, after {now.growths}"
                f" growths in a row: {kept}{size} held{result}."
            ),
            cost=(
                "Each step back-propagates through all earlier ones, so time and memory per step grow."
                if now.revisited
                else "Memory grows with every step."
            ),
            evidence={
                "alive": now.alive,
                "growths": now.growths,
                "holder": now.holder,
                "container": now.container,
                "entries": now.length,
                "operation": now.operation,
                "retain_graph": now.retained,
            },
            labels=[(now.backward_line, "its backward ran here")] if now.backward_line else [],
        )
