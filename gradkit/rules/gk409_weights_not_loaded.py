"""Weights were loaded with `strict=False`, none of them fitted, and the model was trained from its initial values.

Reports:    a `load_state_dict(strict=False)` whose dictionary held every shape of the model's trainable parameters and
            matched none of their names, followed by an optimizer step on them.
Why:        with `strict=False` a name that does not fit is passed over without a word: the run that was to be
            fine-tuned starts from random weights.
Quiet when: one trainable parameter was matched (a new head, an adapter); the dictionary lacks shapes of the model (a
            part, a shard, statistics alone); a later call loaded the weights after all; they were copied by hand;
            the model was never trained.
Remedy:     Look at the missing and unexpected keys that the call returns, and rename the keys of the dictionary.
Source:     PyTorch API reference, `torch.nn.Module.load_state_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records.loading import NothingLoaded
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class WeightsNotLoaded(Rule[NothingLoaded], code="GK409", severity=Severity.ERROR, since="0.2"):
    """Settings and check; one load that matched nothing is enough to report (docs/contract.md)."""

    def check(self, records: Sequence[NothingLoaded]) -> Iterator[Finding]:
        """Yield one finding for each such load."""
        now = records[-1]
        reason = f"it holds `{now.key}` where the model has `{now.wanted}`"
        remedy = None
        if now.extra:
            reason = f"its keys begin with `{now.extra}`, those of the model do not"
            remedy = f"Take `{now.extra}` off the keys of the dictionary before they are loaded."
        elif now.lacking:
            reason = f"the model's keys begin with `{now.lacking}`, those of the dictionary do not"
            remedy = f"Put `{now.lacking}` before the keys of the dictionary, or load into the model inside."
        yield self.finding(
            step=now.step,
            where=now.location,
            optimizer=now.optimizer,
            parameters=now.parameters,
            modules=(now.model,),
            message=(
                f"`load_state_dict(strict=False)` matched none of the {len(now.parameters)} trainable parameters of"
                f" {now.model}: {reason}. {now.optimizer} then trained it from its initial values."
            ),
            cost="The model was trained from random weights instead of those that were to be loaded.",
            remedy=remedy,
            evidence={
                "tensors_in_dictionary": now.given,
                "key": now.key,
                "wanted": now.wanted,
                **({"extra_prefix": now.extra} if now.extra else {}),
                **({"lacking_prefix": now.lacking} if now.lacking else {}),
            },
            labels=[(now.step_line, "the model was first trained here")] if now.step_line else [],
        )
