"""A backward was told to keep its graph, step after step, and nothing went through that graph again.

Reports:    a line whose backward calls with `retain_graph=True` or `create_graph=True` left graphs that were freed
            without a second differentiation through them.
Why:        the saved tensors of the whole graph stay in memory until the loss is freed, and the option hides the error
            torch raises when a graph is kept over steps by mistake.
Quiet when: a later backward or `autograd.grad` of any kind goes through a graph of that line, or through the gradients
            made with it, even once.
Remedy:     Leave the option out; if torch then reports a second backward through a freed graph, detach what is carried
            over from the step before.
Source:     PyTorch API reference, `torch.Tensor.backward`: retain_graph "in nearly all cases setting this option to
            True is not needed".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Retention
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class NeedlessRetainedGraph(Rule[Retention], code="GK207", severity=Severity.WARNING, since="0.1"):
    """Settings and check.

    Attributes:
        repeats: Backward calls of one line in a row that kept their graph for nothing (docs/contract.md).
    """

    repeats: int = 20

    def check(self, records: Sequence[Retention]) -> Iterator[Finding]:
        """Yield a finding when the count reaches the threshold, and once more for each further graph."""
        now = records[-1]
        if now.count < self.repeats:
            return
        yield self.finding(
            step=now.step,
            where=now.location,
            message=(
                f"{now.count} backward calls in a row kept their graph ({now.option}=True, {now.nodes} nodes) and"
                " nothing went through it again."
            ),
            cost="The tensors saved for backward stay in memory until the loss is freed.",
            evidence={"option": now.option, "count": now.count, "nodes": now.nodes},
        )
