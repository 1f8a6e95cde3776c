"""A parameter was overwritten between a forward that used it and that forward's backward, unseen by autograd.

Reports:    a write through `.data`, `set_` or an alias made by `.data`, after an operation used the parameter and
            before the backward that differentiates this operation, which changed its values.
Why:        the gradient is computed with weights the forward did not use and applied to weights it was not computed
            for; an ordinary in-place write would have made torch refuse the backward.
Quiet when: the write comes before the forward or after the backward (clipped weights, averages swapped in, quantized
            copies); it changes no value; the operation itself writes (`nn.Embedding(max_norm=...)`); a library moves
            the memory (sharding, offloading).
Remedy:     Write to parameters after the backward, inside `torch.no_grad()` and without `.data`.
Source:     PyTorch notes, "Autograd mechanics", in-place correctness checks: `.data` is not tracked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import HiddenWrite
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class ParameterChangedUnderGraph(Rule[HiddenWrite], code="GK208", severity=Severity.ERROR, since="0.1"):
    """One proven write is enough to report."""

    def check(self, records: Sequence[HiddenWrite]) -> Iterator[Finding]:
        """Yield one finding per write."""
        now = records[-1]
        shown = ", ".join(now.parameters[:3]) + (", ..." if len(now.parameters) > 3 else "")
        labels = [
            (place, note)
            for place, note in (
                (now.forward_line, "the forward used the old values here"),
                (now.backward_line, "the backward ran here"),
            )
            if place is not None
        ]
        yield self.finding(
            step=now.step,
            where=now.location,
            optimizer=now.optimizer,
            parameters=now.parameters,
            message=(
                f"{len(now.parameters)} parameter(s) of {now.optimizer} ({shown}) were overwritten by"
                f" `{now.operation}` between their forward and its backward."
            ),
            cost="The gradients of these steps belong to other weights than the forward used.",
            evidence={"operation": now.operation, "parameters": len(now.parameters)},
            labels=labels,
        )
