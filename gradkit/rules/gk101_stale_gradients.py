"""A step consumed new gradients added to gradients an earlier step had already consumed.

Reports:    buffers that were consumed, not cleared, added to by a backward, and consumed again by the same optimizer.
Why:        the step then follows the sum of several windows instead of one; its direction and length are not those of
            the loss just computed, and the sum grows with every window.
Quiet when: the buffer was cleared by any means before this optimizer stepped again (None, zero_, a new tensor), also
            when another loss deposited on it in between; its values were changed on purpose (averaged, decayed,
            overwritten); nothing new arrived (GK103).
Remedy:     Clear the gradients once per optimizer step, before the first backward of its window.
Source:     PyTorch API reference, `torch.optim.Optimizer.zero_grad`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gradkit.findings import Finding, Severity
from gradkit.records import Window
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class StaleGradients(Rule[Window], code="GK101", severity=Severity.ERROR, since="0.1"):
    """Settings and check; one proven mixture is enough to report (docs/contract.md).

    Attributes:
        allow: Name patterns of parameters that may keep a gradient over steps.
    """

    allow: tuple[str, ...] = ()

    def check(self, records: Sequence[Window]) -> Iterator[Finding]:
        """Yield at most one finding for the last window."""
        now = records[-1]
        mixed = {name: n for name, n in now.windows_mixed.items() if n > 1 and not self._allowed(name)}
        if not mixed:
            return
        share = len(mixed) / now.parameter_count if now.parameter_count else 1.0
        evidence: dict[str, object] = {
            "windows_mixed": max(mixed.values()),
            "parameters_mixed": len(mixed),
            "parameters_held": now.parameter_count,
            "share": round(share, 4),
            "backwards": now.backwards,
        }
        if now.deep:
            fresh = now.deep.fresh_norm_l2
            evidence["stale_over_fresh"] = now.deep.stale_norm_l2 / fresh if fresh else None
            evidence["cosine"] = now.deep.cosine
        if now.clearing:
            evidence["clearing"] = [f"line {item.location.line}: {item.text}: {item.note}" for item in now.clearing]
        labels = [(now.backward_line, "new gradients were added to old ones here")] if now.backward_line else []
        labels += [(item.location, item.note) for item in now.clearing]
        yield self.finding(
            step=now.step,
            where=now.step_line,
            optimizer=now.optimizer,
            parameters=sorted(mixed),
            message=(
                f"Step {now.step} of {now.optimizer} consumed {len(mixed)} of {now.parameter_count} gradient(s) that"
                f" still held what an earlier step had consumed: {max(mixed.values())} windows mixed."
            ),
            cost=(
                "The update followed the sum of several windows; with plain gradient descent that acts like momentum 1."
                if share == 1.0
                else "Part of the parameters moved along the sum of several windows, the others along the last one."
            ),
            evidence=evidence,
            labels=labels,
        )

    def _allowed(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.allow)
