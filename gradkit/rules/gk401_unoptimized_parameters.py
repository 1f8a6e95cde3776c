"""Parameters of the trained model received gradients in step after step and no optimizer holds them.

Reports:    parameters of a model that is being optimized which got gradients for several steps, stayed bit-identical
            and are held by no optimizer alive: a head replaced, a layer added, unfrozen, re-parametrized or re-cast
            after the optimizer was built, modules in a plain Python list, parameters left out of the groups. A warning
            where the parameters left out are the first layers, which may be meant to stay as they are. It is said when
            watching ends, because a later stage may train them; at once where the optimizer still holds, of no module
            alive, what they replaced.
Why:        their gradients are computed and thrown away; this part of the model keeps its initial values while the
            loss goes down around it.
Quiet when: they are frozen (`requires_grad=False`) or declared so; some optimizer holds them; anything moves them,
            however late (a second stage, plain gradient descent every tenth step, averaging, copies of master
            weights); their part of the model is in eval mode;
            only a small part of the model is optimized (GK106); the optimizer holds nothing of the model (GK402).
Remedy:     Build the optimizer after the model is complete, or give it the new parameters with `add_param_group`; keep
            modules in `nn.ModuleList`; set `requires_grad_(False)` on what is meant to stay.
Source:     PyTorch API reference, `torch.optim.Optimizer.add_param_group`; pytorch#47175.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Membership
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class UnoptimizedParameters(Rule[Membership], code="GK401", severity=Severity.ERROR, since="0.1"):
    """Settings and check.

    Attributes:
        steps: Optimizer steps in a row in which the parameters got gradients and stayed as they were.
    """

    steps: int = 3

    def check(self, records: Sequence[Membership]) -> Iterator[Finding]:
        """Yield at most one finding for the last record."""
        now = records[-1]
        if now.windows < self.steps or not now.trained_without:
            return
        certain = now.displaced or not now.upstream
        evidence: dict[str, object] = {
            "model": now.model,
            "steps_with_gradients": now.windows,
            "outside": len(now.outside),
            "outside_numbers": now.outside_numbers,
            "held": now.held,
            "held_numbers": now.held_numbers,
        }
        where = now.created_line or now.step_line
        arrived = now.backward_line if now.backward_line != where else None
        labels = [(arrived, "gradients arrived on them here")] if arrived else []
        why = "."
        if now.idle:
            why = (
                f"; it still holds {len(now.idle)} parameter(s) that are no part of {now.model} and got no gradient"
                f" ({', '.join(f'{tuple(item.shape)}' for item in now.idle[:3])})."
            )
            evidence["held_but_not_of_the_model"] = [f"{item.name} {tuple(item.shape)}" for item in now.idle[:20]]
        elif now.late:
            why = "; they began to take part after the optimizer had stepped without them."
            evidence["began_late"] = True
        elif now.container:
            why = (
                f"; the model keeps their modules in the plain container `{now.container}`, which `parameters()` skips."
            )
            evidence["container"] = now.container
        yield self.finding(
            severity=Severity.ERROR if certain else Severity.WARNING,
            step=now.step,
            where=where,
            optimizer=now.optimizer,
            parameters=[item.name for item in now.outside],
            modules=sorted({item.module for item in now.outside if item.module}),
            message=(
                f"{len(now.outside)} of {len(now.outside) + now.held} parameter(s) of {now.model} that took part in the"
                f" loss received gradients in {now.windows} steps and no optimizer holds them{why}"
            ),
            cost="They keep the values they have; their gradients are computed and thrown away.",
            evidence=evidence,
            labels=labels,
        )
