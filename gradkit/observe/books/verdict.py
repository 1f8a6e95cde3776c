"""What was found about the gradients a step took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Verdict:
    """What the ledger knows when a step consumes: plain values for a Window record, and the indices concerned."""

    stale: dict[int, int] = field(default_factory=dict)
    reused: bool = False
    empty: bool = False
    cleared: bool = False
    cleared_finite: bool | None = None
    concerned: Sequence[int] = ()

    @property
    def worth_a_record(self) -> bool:
        """Whether some rule may want to judge this step."""
        return bool(self.stale) or self.reused or self.empty or self.cleared
