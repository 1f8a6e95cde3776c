"""The gradients of several mean losses were added in one window, and the losses were not scaled to make their mean.

Reports:    windows of several backward calls whose losses are means and were divided by nothing, or were divided by the
            number of calls although each was the mean of another number of items, as where padding is ignored.
Why:        the step follows a multiple of the mean gradient, so that a longer window acts like a larger learning rate;
            or an item of a small micro-batch counts more than one of a large one.
Quiet when: the losses are sums, are scaled by anything else than a number of Python's, or are of different
            kinds; gradients were divided, clipped or unscaled before the step; parameters carry hooks; the step
            takes a closure; several optimizers share the window; the window was not declared and no pass over a data
            loader shows that each backward belongs to one batch.
Remedy:     Divide each loss by the number of micro-batches of its window; where losses are means over different numbers
            of items, divide their sums by the number of items of the whole window.
Source:     torch documentation, "Automatic Mixed Precision examples", section on gradient accumulation: the loss is
            divided by the number of iterations to accumulate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Accumulation
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class UnscaledAccumulation(Rule[Accumulation], code="GK105", severity=Severity.WARNING, since="0.1"):
    """Settings and check.

    Attributes:
        windows: Windows in a row that must be alike.
        spread: How much more items the largest micro-batch of every window must hold than the smallest, as a share.
            A twentieth moves a gradient less than the noise between two batches does.
    """

    windows: int = 3
    spread: float = 0.05

    def check(self, records: Sequence[Accumulation]) -> Iterator[Finding]:
        """Yield a finding when the losses were divided by nothing, or by too simple a number."""
        now = records[-1]
        if now.micro_batches < 2 or now.windows < self.windows:
            return
        evidence = {
            "micro_batches": now.micro_batches,
            "windows": now.windows,
            "declared": now.declared,
            "reduction": now.reduction,
        }
        if not now.divided:
            message = (
                f"Each window of {now.optimizer} adds the gradients of {now.micro_batches} mean losses that are divided"
                " by nothing."
            )
            cost = (
                f"The step follows {now.micro_batches} times the mean gradient; with plain gradient descent that acts"
                f" like a learning rate {now.micro_batches} times as large."
            )
        elif now.items and all(
            window and max(window) > (1.0 + self.spread) * min(window) > 0.0 for window in now.items
        ):
            counts = [count for window in now.items for count in window]
            ratio = max(max(window) / min(window) for window in now.items)
            message = (
                f"The losses in each window of {now.optimizer} were divided by {now.micro_batches}, although they are"
                f" means over {min(counts):g} to {max(counts):g} items."
            )
            cost = (
                f"An item of the smallest micro-batch of a window counted up to {ratio:.3g} times one of the largest."
            )
            evidence |= {"items_least": min(counts), "items_most": max(counts)}
        else:
            return
        yield self.finding(
            severity=Severity.WARNING if now.declared else Severity.NOTE,
            step=now.step,
            where=now.backward_line,
            optimizer=now.optimizer,
            message=message,
            cost=cost,
            evidence=evidence,
        )
