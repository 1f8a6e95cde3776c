"""The one optimizer whose windows are followed the short way, and the counts it began with."""

from __future__ import annotations

import operator
import weakref
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from gradkit.observe.taps.short_way import DEPOSITED, READY, RUNNING, STEPPING, Consumed, WindowWriter, by_kind

if TYPE_CHECKING:
    from gradkit.observe.books.ledger import Ledger


class Counts(Protocol):
    """Who counts what is followed, and goes on where the short way ends."""

    backwards_seen: int
    backwards_unseen: int
    steps_seen: int

    def resume_step(self, ledger: Ledger) -> None:
        """An optimizer is stepping, on what its backward left."""


class Followed:
    """Whose loop it is, and their counts when the short way began."""

    def __init__(self, counts: Counts, ledger: Ledger) -> None:
        self.counts = counts
        self.ledger = ledger
        self.parameters = ledger.parameters
        self.probe = ledger.parameters[ledger.probe]
        self._backwards = counts.backwards_seen
        self._steps_of_all = counts.steps_seen
        self._steps = ledger.steps
        self._deposits = ledger.deposits_total

    def count(self, windows: int, phase: int) -> None:
        """Bring the counters up to date."""
        self.counts.backwards_seen = self._backwards + windows + (phase in (RUNNING, DEPOSITED, STEPPING))
        self.counts.steps_seen = self._steps_of_all + windows
        self.ledger.steps = self._steps + windows
        self.ledger.deposits_total = self._deposits + windows + (phase in (DEPOSITED, STEPPING))
        self.ledger.in_step = phase == STEPPING

    def has_parameters(self, parameters: list[Tensor]) -> bool:
        """Whether the last step was on the parameters that the ledger lists, if there was a step."""
        known = self.ledger.parameters
        return not parameters or (len(parameters) == len(known) and all(map(operator.is_, parameters, known)))

    def write_unread(self, writer: WindowWriter, window: int) -> None:
        """Write the record of a step that is not over, without what was to be read after it."""
        optimizer = self.ledger.reference()
        if optimizer is not None:
            writer.after_step(optimizer, window, None)

    def resume(
        self,
        phase: int,
        windows: int,
        consumed: Consumed,
        weight_version: int,
        left: weakref.ref[Tensor] | None,
        left_version: int,
    ) -> None:
        """The ledger and the steps go on where the short way ends."""
        ledger = self.ledger
        if windows:
            stepped, held, versions = by_kind(consumed)
            known = self.has_parameters(stepped)
            optimizer = ledger.reference()
            if not known and optimizer is not None:
                ledger.adopt(optimizer)
                ledger.uncertain = False
                known = self.has_parameters(stepped)
            if known:
                ledger.held, ledger.held_versions = held, versions
                ledger.weight_version = weight_version
            else:  # its groups have changed twice
                ledger.forget()
            ledger.backwards_before = self._backwards + windows + self.counts.backwards_unseen
        if phase != READY:
            ledger.entered_empty()
        if phase in (DEPOSITED, STEPPING):
            ledger.deposits = ledger.live_deposits = 1
            ledger.deposit, ledger.deposit_version = left, left_version
        if phase == STEPPING:
            self.counts.resume_step(ledger)
