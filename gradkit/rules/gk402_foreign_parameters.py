"""The optimizer holds parameters that are not part of the model whose loss is back-propagated.

Reports:    an optimizer none of whose parameters took part in any loss for several steps, while every parameter that
            did take part got gradients, stayed bit-identical and is held by no optimizer: a model re-created,
            deep-copied, re-cast, moved or sharded after the optimizer was built, or the optimizer of another model.
Why:        the steps do nothing for the model that computes the loss; it never learns, and no error is raised.
Quiet when: gradients are written by hand (averaged from workers, from `torch.func`); another optimizer holds what takes
            part; the model is moved by hand (copies of master weights, hand-written descent, clones of meta-learning).
Remedy:     Build the optimizer from the parameters of the model that is trained, after the last replacement of it.
Source:     PyTorch API reference, `torch.optim` ("Constructing it"); pytorch-lightning#14467.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Membership
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class ForeignParameters(Rule[Membership], code="GK402", severity=Severity.ERROR, since="0.1"):
    """Settings and check.

    Attributes:
        steps: Optimizer steps in a row without any gradient on its own parameters.
    """

    supersedes = ("GK103", "GK403")

    steps: int = 3

    def check(self, records: Sequence[Membership]) -> Iterator[Finding]:
        """Yield at most one finding for the last record."""
        now = records[-1]
        if not now.foreign or now.windows < self.steps:
            return
        shapes = sorted(item.shape for item in now.outside)
        twin = shapes == sorted(item.shape for item in now.idle)
        where = now.created_line or now.step_line
        arrived = now.backward_line if now.backward_line != where else None
        labels = [(arrived, f"{now.model} got its gradients here")] if arrived else []
        yield self.finding(
            step=now.step,
            where=where,
            optimizer=now.optimizer,
            parameters=[item.name for item in now.outside],
            message=(
                f"{now.optimizer} stepped {now.windows} times while none of its {now.owned} parameter(s) took part"
                f" in the loss; the {len(now.outside)} parameter(s) of {now.model} that did are held by no optimizer"
                + (
                    ", and are sharded: it was built before the model was."
                    if now.sharded_since
                    else ", and have the same shapes: it was built from another instance of the model."
                    if twin
                    else "."
                )
            ),
            cost="The model that computes the loss did not change.",
            evidence={
                "model": now.model,
                "steps": now.windows,
                "held_but_not_of_the_model": [f"{item.name} {tuple(item.shape)}" for item in now.idle[:20]],
                "same_shapes": twin,
            },
            labels=labels,
        )
