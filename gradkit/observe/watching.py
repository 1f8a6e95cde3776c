"""What observers, witnesses and books may ask of whoever watches a run; all of them are typed against this alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from gradkit.engine import Engine
    from gradkit.findings import Finding
    from gradkit.observe.tensors.known import KnownSet
    from gradkit.observe.tensors.measure import Reader
    from gradkit.records import Location, ParameterInfo, Record, RunInfo
    from gradkit.rules import Rule


class Account(Protocol):
    """What is known of one optimizer; keeps its parameters alive.

    Attributes:
        steps: Steps it has made so far.
        parameters: What it steps on.
    """

    steps: int
    parameters: list[Tensor]


class Hearers(Protocol):
    """Who hears of the events of a run, each only while awake.

    Attributes:
        calls: Those awake, by event, with the method to call.
        wakes_at: Backward call at which the next sleeper wakes up.
    """

    calls: dict[str, list[tuple[Any, Callable[..., None]]]]
    wakes_at: float

    def tell(self, event: str, *args: Any) -> None:
        """Tell everyone awake of an event."""

    def begin_again(self, optimizer: Optimizer | None, steps: int) -> None:
        """An optimizer, or else a phase or a model, is new after so many steps of the run."""

    def wake(self, backwards: int) -> None:
        """End the pauses that are over after so many backward calls."""


class Watching(Protocol):
    """One watched run.

    Attributes:
        models: The models that were named.
        accumulate: Declared micro-batches per window.
        frozen: Name patterns of parameters declared frozen.
        deep: Every window is measured.
        rules: Those that judge.
        engine: Where records go.
        reader: Brings numbers to the host on a budget.
    """

    models: list[nn.Module]
    accumulate: int | None
    frozen: tuple[str, ...]
    deep: bool
    rules: list[Rule[Any]]
    engine: Engine
    reader: Reader

    @property
    def info(self) -> RunInfo:
        """Totals so far."""

    @property
    def backwards(self) -> int:
        """Backward calls so far."""

    @property
    def backwards_unseen(self) -> int:
        """Backward calls of other threads, of which nothing else is known."""

    @property
    def optimizers_at_work(self) -> int:
        """How many optimizers are alive and part of the run."""

    def put(self, record: Record, source: object = None) -> None:
        """Judge a record."""

    def halt(self, finding: Finding) -> None:
        """Raise if the user has asked to be stopped by this finding."""

    def contain(self, where: str, error: Exception) -> None:
        """Turn an exception of gradkit's own into GK900."""

    def forget(self) -> None:
        """Drop what is known of gradients."""

    def gap(self, what: str, silenced: Sequence[str], remedy: str = "") -> None:
        """Say once that `what` could not be observed and which rules that silences."""

    def pause(self, observer: Any, backwards: float = math.inf) -> None:
        """Tell an observer no event until that many further backward calls have begun."""

    def resume(self, observer: Any) -> None:
        """End a pause at once."""

    def begin_again(self) -> None:
        """A phase of training or a model is new: have all observers look as at first."""

    def optimizers(self) -> list[Optimizer]:
        """The watched optimizers that are alive, in the order they became known."""

    def trained_parameters(self) -> KnownSet[Tensor]:
        """The parameters of all optimizers that have stepped."""

    def describe(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[ParameterInfo]:
        """Names of an optimizer's parameters, in order."""

    def label_of(self, optimizer: Optimizer) -> str:
        """What messages call an optimizer."""

    def place_of(self, optimizer: Optimizer) -> tuple[str, int]:
        """The label of an optimizer and the number of its present or last step, from 0."""

    def creation_line(self, optimizer: Optimizer) -> Location | None:
        """The user's line that made an optimizer, where that was seen."""

    def steps_of(self, optimizer: Optimizer) -> int | None:
        """Steps of an optimizer so far; None when it is not watched."""

    def deposits_of(self, optimizer: Optimizer) -> int:
        """Backward calls so far that deposited on an optimizer's parameters."""

    def ledger_of(self, optimizer: Optimizer) -> Account | None:
        """What is known of an optimizer; None when it is not watched."""
