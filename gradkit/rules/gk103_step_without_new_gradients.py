"""An optimizer stepped although nothing had been added to its gradients since its last step.

Reports:    a second step on the very gradients the last step consumed (error); steps with no gradient on any
            parameter while no backward ran at all (warning).
Why:        the same gradient is applied twice, or the step does nothing; the loss that was meant never reached it.
Quiet when: new gradients arrived by any means, also by assignment; the weights were put back in between (line search):
            in a program that may do so past the version counters (`.data`, NumPy) a second step after the first few of
            a run is said when it happens again; gradients were set by hand and never came from a backward; a single
            empty step after a pass over the data (flushing an accumulation that had no rest); another loss was back-
            propagated meanwhile (idle heads, experts); a framework steps on nothing where a batch is left out, once
            training goes on.
Remedy:     Call `backward()` once before each `step()`, and step each optimizer once per window.
Source:     PyTorch API reference, `torch.optim.Optimizer.step`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Window
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class StepWithoutNewGradients(Rule[Window], code="GK103", severity=Severity.ERROR, since="0.1"):
    """Settings and check.

    Attributes:
        empty_steps: Steps in a row without any gradient before the warning. A reused gradient is reported at once;
            one empty step changes no weight and is how an accumulation without a rest is flushed.
    """

    empty_steps: int = 2

    def check(self, records: Sequence[Window]) -> Iterator[Finding]:
        """Yield at most one finding for the last window."""
        now = records[-1]
        if now.windows_mixed or now.cleared:
            return
        if now.reused:
            yield self.finding(
                step=now.step,
                where=now.step_line,
                optimizer=now.optimizer,
                parameters=[parameter.name for parameter in now.parameters],
                message=(
                    f"Step {now.step} of {now.optimizer} consumed the same gradients as its last step: nothing had been"
                    " added to them in between."
                ),
                cost="One gradient was applied more than once.",
                evidence={"parameters_held": now.parameter_count, "backwards_elsewhere": now.backwards_anywhere},
            )
        elif (
            now.empty
            and not now.backwards_anywhere
            and now.consecutive_empty >= self.empty_steps
            and (now.forward_recorded or (now.trained_before and not _is_of_framework(now)))
        ):
            yield self.finding(
                severity=Severity.WARNING,
                step=now.step,
                where=now.step_line,
                optimizer=now.optimizer,
                message=(
                    f"Step {now.step} of {now.optimizer} was the {_ordinal(now.consecutive_empty)} in a row with no"
                    f" gradient on any of its {now.parameter_count} parameter(s); no backward ran in between."
                ),
                cost="These steps did nothing.",
                evidence={"parameters_held": now.parameter_count, "consecutive_empty_steps": now.consecutive_empty},
            )


def _is_of_framework(window: Window) -> bool:
    """Whether a framework steps by itself, as it does also for a batch that the user leaves out."""
    return window.step_line is not None and window.step_line.via is not None


def _ordinal(number: int) -> str:
    """`number` as 1st, 2nd, 3rd, 4th, ..."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
