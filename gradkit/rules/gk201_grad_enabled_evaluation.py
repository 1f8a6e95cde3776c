"""An evaluation recorded autograd graphs that nobody used.

Reports:    a pass of forwards of a trained model, between two training steps or after the last, in which every forward
            recorded a graph and none of the graphs was reached by a backward or `autograd.grad` before it was freed.
Why:        everything the backward would need is saved for nothing: memory for the largest batch twice over, and time.
Quiet when: any graph of the pass was used (attacks, saliency, penalties, derivatives taken within the forward, such as
            forces of an energy); the forwards recur in the training steps (a detached fake, a target); they are batches
            that training passes over, forwarded where it forwards the others; a single unused forward; the model is
            never stepped (a teacher, an average).
Remedy:     Evaluate inside `with torch.no_grad():` or `with torch.inference_mode():`; `model.eval()` alone does not
            switch gradients off.
Source:     PyTorch notes, "Autograd mechanics", locally disabling gradient computation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import EvaluationPass
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class GradEnabledEvaluation(Rule[EvaluationPass], code="GK201", severity=Severity.WARNING, since="0.1"):
    """Settings and check.

    Attributes:
        forwards: Forwards of one pass that must have recorded for nothing (docs/contract.md).
    """

    forwards: int = 2

    def check(self, records: Sequence[EvaluationPass]) -> Iterator[Finding]:
        """Yield a finding for a pass whose graphs were all recorded for nothing."""
        now = records[-1]
        if now.recorded < self.forwards or now.recorded < now.forwards:
            return
        size = f" and saved {_readable(now.saved_bytes)} for a backward that never came" if now.saved_bytes else ""
        mode = "train" if now.training else "eval"
        yield self.finding(
            step=now.step,
            where=now.location,
            modules=(now.model,),
            message=f"{now.recorded} forwards of {now.model} in {mode} mode recorded a graph nobody used{size}.",
            cost="Memory for activations and some time, in every evaluation.",
            evidence={
                "forwards": now.forwards,
                "recorded": now.recorded,
                "saved_bytes": now.saved_bytes,
                "seconds": round(now.seconds, 6),
                "mode": mode,
            },
        )


def _readable(count: int) -> str:
    """A number of bytes in the largest unit that keeps it above one.

    Example:
        >>> _readable(5_400)
        '5.4 kB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
