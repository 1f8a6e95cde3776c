"""The optimizers a monitor watches: a ledger for each, their names, and what messages and totals need of them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.optim import Optimizer

from gradkit.observe.books.ledger import Ledger
from gradkit.observe.program.living import living_optimizers
from gradkit.observe.program.names import Namer
from gradkit.observe.program.sites import find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps.containment import contained
from gradkit.observe.taps.tap import TAP
from gradkit.observe.tensors.known import Known, KnownSet, Numbers

if TYPE_CHECKING:
    from gradkit.observe.program.sites import Site
    from gradkit.observe.tensors.measure import Reader
    from gradkit.records import Location, ParameterInfo


class OptimizerBook:
    """What is known of the optimizers of one run.

    Attributes:
        models: The models named to the monitor.
        deep: Ledgers keep what deep mode measures.
        reader: Brings the ledgers' numbers to the host.
        ledgers: Of the optimizers that are alive, in the order they became known.
    """

    models: list[nn.Module]
    deep: bool
    reader: Reader
    _named: list[Optimizer]
    _constructed_at: Site | None = None

    def _open_book(self) -> None:
        self._ledgers: Known[Optimizer, Ledger] = Known()
        self.ledgers: list[Ledger] = []
        self._labels: dict[str, int] = {}
        self._registered = 0
        self._optimizers = 0
        self._numbers = Numbers()
        self._parameters: set[int] = set()  # by number: they may be gone when they are counted
        self._namer = Namer(self.models)

    def _close_book(self) -> None:
        for ledger in self.ledgers:
            self._count(ledger)
        self._ledgers.clear()
        self.ledgers.clear()

    def created(self, optimizer: Optimizer) -> None:
        """Know an optimizer from its construction on, so that its first window is complete."""
        # The constructor of a subclass goes on after torch's: groups may not be there yet.
        if not self._named and "param_groups" in optimizer.__dict__:
            self._constructed_at = find_site()
            self.known(optimizer)
            self._constructed_at = None

    def known(self, optimizer: Optimizer) -> Ledger | None:
        """The ledger of an optimizer, begun if there is none yet; None when this monitor does not watch it."""
        ledger = self._ledgers.get(optimizer)
        if ledger is None and (ledger := self.enter(optimizer)) is not None:
            self._entered(optimizer)
        return ledger

    def _know_living(self) -> None:
        for optimizer in living_optimizers():
            # One whose class never called torch's constructor takes no hooks: its steps are not seen.
            ledger = self.known(optimizer) if hasattr(optimizer, "_optimizer_step_pre_hooks") else None
            if ledger is not None:
                ledger.bystander = True

    def _entered(self, optimizer: Optimizer) -> None:
        """An optimizer became known."""

    def forget(self) -> None:
        """Drop all that is known about buffers."""
        for ledger in self.ledgers:
            ledger.forget()

    def enter(self, optimizer: Optimizer) -> Ledger | None:
        """Begin to keep a ledger of an optimizer that has none yet; None when it is not to be watched."""
        if self._named and not any(optimizer is named for named in self._named):
            return None
        if not self._named and self.models and not self._belongs(optimizer):
            return None
        TAP.fold()
        ledger = Ledger(optimizer, self._registered, self._next_label, self.reader, self.deep)
        self._registered += 1
        ledger.created_site = self._constructed_at
        self._ledgers[optimizer] = ledger
        self.ledgers.append(ledger)
        weakref.finalize(optimizer, _drop, weakref.ref(self), weakref.ref(ledger)).atexit = False
        return ledger

    def _next_label(self, kind: str) -> str:
        number = self._labels[kind] = self._labels.get(kind, 0) + 1
        return kind if number == 1 else f"{kind}#{number}"

    @property
    def optimizers_at_work(self) -> int:
        """How many are alive and part of the run: not those that lived before it and have not stepped in it."""
        return sum(not ledger.bystander or ledger.steps > 0 for ledger in self.ledgers)

    def _takes_part(self, ledger: Ledger) -> bool:
        return bool(self._named or ledger.steps)

    def _count(self, ledger: Ledger) -> None:
        """Keep of an optimizer that is given up what the totals need."""
        if self._takes_part(ledger):
            self._optimizers += 1
            self._parameters.update(map(self._numbers.of, ledger.parameters))

    def trained_parameters(self) -> KnownSet[Tensor]:
        """The parameters of all optimizers that have stepped."""
        return KnownSet(parameter for ledger in self.ledgers if ledger.steps for parameter in ledger.parameters)

    def describe(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[ParameterInfo]:
        """Names of an optimizer's parameters, in order."""
        return self._namer.describe(optimizer, parameters)

    def place_of(self, optimizer: Optimizer) -> tuple[str, int]:
        """The label of an optimizer and the number of its present or last step, from 0."""
        TAP.short.sync()
        ledger = self._ledgers.get(optimizer)
        if ledger is None:
            return type(optimizer).__name__, 0
        return ledger.label, ledger.steps if ledger.in_step else max(ledger.steps - 1, 0)

    def _belongs(self, optimizer: Optimizer) -> bool:
        wanted = KnownSet(parameter for model in self.models for parameter in model.parameters())
        return any(wanted.holds_any(group["params"]) for group in optimizer.param_groups)

    def drop(self, ledger: Ledger | None) -> None:
        """Forget an optimizer that was freed, and with it the parameters it held."""
        if ledger is not None and ledger in self.ledgers:
            with TAP.thread.exclusive():
                TAP.fold()
                self._count(ledger)
                self.ledgers.remove(ledger)

    def optimizers(self) -> list[Optimizer]:
        """The optimizers this monitor watches that are alive, in the order they became known."""
        found = [ledger.reference() for ledger in self.ledgers]
        return [optimizer for optimizer in found if optimizer is not None]

    def label_of(self, optimizer: Optimizer) -> str:
        """What messages call an optimizer."""
        ledger = self._ledgers.get(optimizer)
        return type(optimizer).__name__ if ledger is None else ledger.label

    def creation_line(self, optimizer: Optimizer) -> Location | None:
        """The user's line that made a watched optimizer, where that was seen."""
        ledger = self._ledgers.get(optimizer)
        return None if ledger is None else locate(ledger.created_site, self.models, ledger.parameters)

    def steps_of(self, optimizer: Optimizer) -> int | None:
        """Steps of an optimizer seen so far; None when this monitor does not watch it."""
        TAP.short.sync()
        ledger = self._ledgers.get(optimizer)
        return None if ledger is None else ledger.steps

    def ledger_of(self, optimizer: Optimizer) -> Ledger | None:
        """The ledger of an optimizer, which keeps its parameters alive; None when this monitor does not watch it."""
        return self._ledgers.get(optimizer)

    def deposits_of(self, optimizer: Optimizer) -> int:
        """Backward calls seen so far that deposited on an optimizer's parameters."""
        TAP.short.sync()
        ledger = self._ledgers.get(optimizer)
        return 0 if ledger is None else ledger.deposits_total

    def _totals(self) -> tuple[int, int]:
        """How many optimizers took part, and how many distinct parameters they held."""
        alive = [ledger for ledger in self.ledgers if self._takes_part(ledger)]
        parameters = self._parameters.union(*(map(self._numbers.of, ledger.parameters) for ledger in alive))
        return self._optimizers + len(alive), len(parameters)


@contained
def _drop(book: weakref.ref[OptimizerBook], ledger: weakref.ref[Ledger]) -> None:
    alive = book()
    if alive is not None:
        alive.drop(ledger())
