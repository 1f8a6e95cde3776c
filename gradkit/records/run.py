"""The watched run as a whole, and what of it could not be observed."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.records.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Record):
    """Something that could not be observed, and the rules that are silent because of it."""

    what: str
    silenced: tuple[str, ...]
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Record):
    """An exception inside gradkit that was contained."""

    where: str
    error: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Totals of one watched run.

    Attributes:
        steps: Optimizer steps.
        backwards: Backward calls that accumulate into `.grad`.
        optimizers: Optimizers that stepped or were named.
        parameters: Distinct parameter tensors they hold.
        overhead_seconds: Measured time inside gradkit's reads of gradient data [s].
        reads: Times gradkit waited for gradient data.
        seconds: Time from start to stop [s].
    """

    steps: int = 0
    backwards: int = 0
    optimizers: int = 0
    parameters: int = 0
    overhead_seconds: float = 0.0
    reads: int = 0
    seconds: float = 0.0
