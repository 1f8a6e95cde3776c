"""Records about parameters that nobody updates, held back until nobody can update them any more."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from gradkit.observe.checksums import changed, checksum
from gradkit.observe.measure import Reader
from gradkit.records import Membership


@dataclass(slots=True)
class _Held:
    """One record with the parameters it is about.

    Attributes:
        record: The record.
        source: What it is about, for the engine.
        living: Parameters whose module lives, by identity, each with its checksum when gradients were first seen on it.
        owners: Their modules; a parameter is let go of with its module.
        moved: One was updated after all.
    """

    record: Membership
    source: int
    living: dict[int, tuple[Tensor, Tensor | None]]
    owners: list[weakref.ref[nn.Module]] = field(default_factory=list)
    moved: bool = False


class HeldBack:
    """Keeps such records until watching ends and forgets those whose parameters were updated after all.

    Gradients that go unused for some steps may belong to a layer that is updated every tenth step by hand, or to one
    that a second stage will train. Nothing is looked at before the end: a parameter is compared when its module is
    freed or, at the latest, when watching stops. It is kept alive for that no longer than its module lives.

    Args:
        reader: Brings checksums to the host.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._held: list[_Held] = []

    def keep(self, record: Membership, source: int, outside: Sequence[tuple[Tensor, Tensor | None, nn.Module]]) -> None:
        """Hold a record back.

        Args:
            record: The record.
            source: What it is about, for the engine.
            outside: Its parameters, the checksum of each when gradients were first seen on it, and its module.
        """
        held = _Held(record, source, {id(leaf): (leaf, first) for leaf, first, _ in outside})
        modules: dict[int, tuple[nn.Module, list[int]]] = {}
        for leaf, _, module in outside:
            modules.setdefault(id(module), (module, []))[1].append(id(leaf))
        for module, keys in modules.values():
            held.owners.append(weakref.ref(module, partial(self._freed, held, keys)))
        self._held.append(held)

    def _freed(self, held: _Held, keys: Sequence[int], _: Any) -> None:
        """A module is freed: its parameters have the values they will ever have."""
        self._compare(held, keys)

    def _compare(self, held: _Held, keys: Sequence[int]) -> None:
        pairs = [held.living.pop(key) for key in keys if key in held.living]
        if pairs and not held.moved:
            moved = changed([first for _, first in pairs], [checksum(leaf) for leaf, _ in pairs], self._reader)
            held.moved = any(item is not False for item in moved)

    def release(self, owned: set[int]) -> list[tuple[Membership, int]]:
        """Watching ends: the records whose parameters nobody updated, each with its source.

        Args:
            owned: Identities of all parameters that some optimizer alive holds.
        """
        proven = []
        for held in self._held:
            taken = any(key in owned for key in held.living)
            self._compare(held, list(held.living))
            held.owners.clear()
            if not (held.moved or taken):
                proven.append((held.record, held.source))
        self._held.clear()
        return proven

    def __bool__(self) -> bool:
        """Whether anything is held back."""
        return bool(self._held)
