"""A trainable parameter took part in the loss and got no gradient in any step: its result was cut off from autograd.

Reports:    parameters an optimizer holds that never had a gradient while others had, or while the loss itself was cut
            off from all of them, and whose values reached the loss only through an operation that drops the graph
            (`detach`, `.data`, `no_grad`, `argmax`, a round trip through numbers or NumPy, a new leaf, a reentrant
            checkpoint without inputs that need gradients, a custom function whose own backward returns None for it),
            with its line. The cut is proven early, after `steps` steps; that no gradient came is known when no step
            can follow, so the finding comes when the run ends, and halts none.
Why:        this part of the model keeps its initial values while the loss goes down elsewhere.
Quiet when: a second, connected path reaches the loss (stop-gradient, straight-through); the parameter or its result is
            unused (idle heads, experts); it is frozen, tied, or called functionally; something else moves it (an
            average, a copied target, prototypes set by hand); a later step gives any of what is behind the cut a
            gradient, as where stages of training take turns; it is frozen in the end; the cut stands under a condition,
            such as a warm-up, or is chosen by one elsewhere; no optimizer holds it. A warning where the part ran whole
            in eval mode without gradients.
Remedy:     Remove the cut, or say that it is meant: `requires_grad_(False)` and leave the parameters out of the
            optimizer.
Source:     PyTorch notes, "Autograd mechanics"; API reference, `torch.Tensor.detach`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import CutPath
from gradkit.rules._base import Rule

_CAUSES = {
    "operation": "{0} {has} no gradient",
    "no_grad": "{0} ran while gradients were switched off",
    "inference_mode": "{0} ran in inference mode",
    "number": "their value left as a number or array and {0} made a new tensor of it",
    "constant": "their value left as a number that {0} took as a constant",
    "backward": "{0} returned None for them",
    "leaf": "{0} wrapped their value as a new leaf",
    "loss": "{0} began at a tensor of its own, to which nothing leads",
}
_WAYS = {"backward": "took part in the loss, but", "loss": "took part in a forward, but"}
_OPERATION = "the operation that lost the gradient"
_LABELS = {"backward": "the function was applied here"}


@dataclass(frozen=True, kw_only=True)
class SeveredGradientPath(Rule[CutPath], code="GK203", severity=Severity.ERROR, since="0.1"):
    """Settings and check.

    Attributes:
        steps: Steps in a row without a gradient, while others had one, before a cut is looked for (docs/contract.md).
    """

    steps: int = 5

    def check(self, records: Sequence[CutPath]) -> Iterator[Finding]:
        """Yield one finding per cut; a cut under a condition may be meant for now and stays silent."""
        now = records[-1]
        if now.conditional or now.steps < self.steps:
            return
        shown = ", ".join(now.parameters[:3]) + (", ..." if len(now.parameters) > 3 else "")
        names = [f"`{name}`" for name in (now.operation, *now.further)]
        reason = _CAUSES[now.cause].format(_listed(names), has="have" if now.further else "has")
        way = _WAYS.get(now.cause, "reached the loss only through a cut,")
        yield self.finding(
            step=now.step,
            where=now.location,
            severity=Severity.WARNING if now.whole_in_eval else None,
            optimizer=now.optimizer,
            parameters=now.parameters,
            modules=now.modules,
            message=(
                f"{len(now.parameters)} parameter(s) of {now.optimizer} ({shown}) had no gradient in {now.steps} steps:"
                f" they {way} {reason}."
            ),
            cost="They keep their initial values.",
            remedy=(
                "If they are meant to stay as they are, say so with `requires_grad_(False)` and leave them out of the"
                " optimizer."
                if now.whole_in_eval
                else None
            ),
            evidence={
                "operation": now.operation,
                **({"further_operations": list(now.further)} if now.further else {}),
                "cause": now.cause,
                "steps": now.steps,
                "parameters": len(now.parameters),
                "whole_in_eval": now.whole_in_eval,
            },
            labels=[(now.operation_line, _LABELS.get(now.cause, _OPERATION))] if now.operation_line else [],
        )


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence has them, those beyond the third counted."""
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} other operations"]
    return ", ".join(names[:-1]) + (" and " if names[:-1] else "") + names[-1]
