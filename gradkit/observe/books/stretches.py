"""What is known of a stretch of forwards between two backward calls: recorded, used, in which mode and how noisy."""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Sequence

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from gradkit.observe.program.sites import Site
from gradkit.observe.taps.events import Forward
from gradkit.observe.tensors import graph
from gradkit.observe.tensors.known import KnownSet, Numbers
from gradkit.observe.tensors.transforms import has_own_memory

MAX_KNOWN = 1024
"""Inputs of one stretch that are remembered."""


class Stretch:
    """Forwards of one module in one mode since the last backward."""

    def __init__(self, forward: Forward, window: int) -> None:
        self.module: weakref.ref[nn.Module] = weakref.ref(forward.module)
        self.model = type(forward.module).__name__
        self.training = forward.training
        self.site: Site = forward.site
        self.window = window
        self.plain = 0
        self.recorded = 0
        self.used = 0
        self.unused = 0
        self.open: list[tuple[weakref.ref[graph.Mark], int]] = []
        self.used_ways: set[int] = set()
        self.unused_ways: set[int] = set()
        self.active: Counter[str] = Counter()
        self.ungoverned: Counter[str] = Counter()
        self.ungoverned_site: Site | None = None
        self.drew = False
        self.excused = False
        self.inputs: tuple[weakref.ref[Tensor], ...] = ()
        self._came_by: dict[tuple[int, int], _Life | int] = {}
        self.began = self.ended = time.perf_counter()
        self.bytes_of_one: int | None = None
        self.calm = 0
        self.trained = False

    @property
    def idle(self) -> int:
        """Forwards that nothing was computed from, as far as that is known."""
        return self.plain + self.unused

    def settle(self, reached: KnownSet[graph.Mark]) -> None:
        """Count the marks that a differentiation reached as used, those that died as unused."""
        still: list[tuple[weakref.ref[graph.Mark], int]] = []
        for reference, way in self.open:
            mark = reference()
            if mark is None:
                self.unused += 1
                self.unused_ways.add(way)
            elif mark in reached:
                self.used += 1
                self.used_ways.add(way)
            else:
                still.append((reference, way))
        self.open = still

    def close(self) -> None:
        """The run is over: nothing will be computed from what is open."""
        self.unused += len(self.open)
        self.unused_ways.update(way for _, way in self.open)
        self.open.clear()

    def add_plain(self, forward: Forward, way: int, data: tuple[int, int] | None) -> None:
        """A forward without gradients, with the layers that ran in train mode.

        Args:
            forward: The forward.
            way: Where the program stands; see `way_here`.
            data: The data a loader is passing over, by identity, and the number of the pass; None without a loader.
        """
        if forward.dropped and any("Norm" in name for name in forward.active):
            return  # nothing is evaluated by it: it is made for the statistics it leaves behind
        self.plain += 1
        self.active.update(forward.active)
        self.add_calls(Counter(forward.stray), forward.stray_site)
        repeated = _same_inputs(self.inputs, forward.inputs) or self._came_by_before(forward, way, data)
        self.excused = self.excused or forward.calibrating or repeated

    def _came_by_before(self, forward: Forward, way: int, data: tuple[int, int] | None) -> bool:
        """Whether the same place of the program forwards the same data again, in another pass over it.

        Without training in between that can only differ by what is drawn at random: it is sampled on purpose. Two
        evaluations of one model on one set, such as for two metrics, come from two places.
        """
        if data is not None and self._came_by.setdefault((data[0], way), data[1]) != data[1]:
            return True
        for reference in forward.inputs:
            tensor = reference()
            if tensor is None:
                continue
            key, life = _values_of(tensor)
            known = self._came_by.get((key, way))
            if known is not None and not isinstance(known, int) and _lives(known):
                return True
            if len(self._came_by) < MAX_KNOWN:
                self._came_by[key, way] = life
        return False

    def add_calls(self, calls: Counter[str], site: Site | None) -> None:
        """Dropout in such a forward that the mode of the model does not govern."""
        if calls:
            self.ungoverned.update(calls)
            self.ungoverned_site = self.ungoverned_site or site

    @property
    def noisy(self) -> bool:
        """Whether it may be an evaluation without gradients with noise, or in train mode."""
        if self.plain < 2 or self.excused:
            return False
        return bool(self.ungoverned or (self.training and self.active))

    @property
    def suspicious(self) -> bool:
        """Whether it is noisy, or may be an evaluation that recorded graphs."""
        if self.noisy:
            return not self.recorded or self.training
        if self.training and self.plain >= 2:
            return False
        return (
            self.recorded >= 2 and self.unused + len(self.open) >= 2 and (self.training or not self.used + self.plain)
        )


_NUMBERS = Numbers()
_Life = StorageWeakRef | weakref.ref[Tensor]
"""Tells whether the values of a tensor still exist."""


def _values_of(tensor: Tensor) -> tuple[int, _Life]:
    """The identity of a tensor's values, the same for batches that are cut out of one tensor anew in every pass."""
    if not has_own_memory(tensor):
        return _NUMBERS.of(tensor), weakref.ref(tensor)
    storage = tensor.untyped_storage()
    version = None if tensor.is_inference() else tensor._version
    key = hash((storage._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, version))
    return key, StorageWeakRef(storage)


def _lives(values: _Life) -> bool:
    return not values.expired() if isinstance(values, StorageWeakRef) else values() is not None


def _same_inputs(before: Sequence[weakref.ref[Tensor]], now: Sequence[weakref.ref[Tensor]]) -> bool:
    """Whether a forward got the very tensors the one before it got, as sampling one input several times does."""
    return bool(now) and len(before) == len(now) and all(a() is b() for a, b in zip(before, now, strict=True))
