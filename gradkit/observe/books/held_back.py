"""Records about parameters that nobody updates, held back until nobody can update them any more."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from gradkit.observe.taps.containment import contained
from gradkit.observe.taps.tap import TAP
from gradkit.observe.tensors.checksums import changed, checksum
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.observe.tensors.measure import Reader
from gradkit.records import Record

_Pair = tuple[Tensor, Tensor | None]


@dataclass(slots=True)
class _Held:
    """One record with the parameters it is about.

    Attributes:
        record: The record.
        source: What it is about, for the engine.
        living: Parameters whose owner lives, those of one owner together, each with its first checksum.
        owners: Their owners; a parameter is let go of with its owner.
        moved: One was updated after all.
    """

    record: Record
    source: object
    living: list[list[_Pair]] = field(default_factory=list)
    owners: list[weakref.ref[Any]] = field(default_factory=list)
    moved: bool = False


class HeldBack:
    """Keeps such records until watching ends and forgets those whose parameters were updated after all.

    Gradients that go unused for some steps may belong to a layer that is updated every tenth step by hand, or to one
    that a second stage will train; a learning rate of 0 may be raised. Nothing is looked at before the end: a parameter
    is compared when its owner is freed or, at the latest, when watching stops. It is kept alive for that no longer than
    its owner lives.

    Args:
        reader: Brings checksums to the host.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._held: list[_Held] = []

    def keep(self, record: Record, source: object, parameters: Sequence[tuple[Tensor, Tensor | None, object]]) -> None:
        """Hold a record back.

        Args:
            record: The record.
            source: What it is about, for the engine.
            parameters: Its parameters, the first checksum of each, and its owner, a module or an optimizer, without
                which nothing can update it.
        """
        held = _Held(record, source)
        owners: Known[object, list[_Pair]] = Known()
        for parameter, first, owner in parameters:
            owners.setdefault(owner, []).append((parameter, first))
        for owner, pairs in owners.items():
            held.living.append(pairs)
            held.owners.append(weakref.ref(owner, partial(self._freed, held, pairs)))
        self._held.append(held)

    @contained
    def _freed(self, held: _Held, pairs: list[_Pair], _: Any) -> None:
        """An owner is freed: its parameters have the values they will ever have."""
        try:
            self._compare(held, pairs)
        except BaseException:
            held.moved = True  # nobody knows
            raise

    def _compare(self, held: _Held, living: list[_Pair]) -> None:
        pairs = living.copy()
        living.clear()
        if TAP.thread.over:  # another thread may be at work on them, and nothing is judged any more
            held.moved = True
        if pairs and not held.moved:
            moved = changed([first for _, first in pairs], [checksum(leaf) for leaf, _ in pairs], self._reader)
            held.moved = any(item is not False for item in moved)

    def release(self, owned: Iterable[Tensor] = ()) -> list[tuple[Record, object]]:
        """Watching ends: the records whose parameters nobody updated, each with its source.

        Args:
            owned: Parameters that may be updated yet.
        """
        may_move = KnownSet(owned)
        proven = []
        for held in self._held:
            taken = any(parameter in may_move for pairs in held.living for parameter, _ in pairs)
            for pairs in held.living:
                self._compare(held, pairs)
            held.owners.clear()
            if not (held.moved or taken):
                proven.append((held.record, held.source))
        self._held.clear()
        return proven

    def __bool__(self) -> bool:
        """Whether anything is held back."""
        return bool(self._held)
