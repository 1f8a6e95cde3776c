"""Sees a load that matches nothing, and whether the model is trained all the same; writes NothingLoaded.

A program may try one name after another, or copy the weights by hand when none fits. So nothing is said before an
optimizer steps on parameters that are still what they were when the load failed to reach them.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gradkit.observe.observer import Observer
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps.loading import LOADING
from gradkit.observe.tensors.checksums import changed, checksums
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.records.loading import NothingLoaded

if TYPE_CHECKING:
    from torch.optim import Optimizer

Shapes = dict[str, tuple[int, ...]]
"""Shapes of tensors by their keys."""


@dataclass(frozen=True, slots=True)
class _Missed:
    """A load that matched nothing: its line, its keys, and what the parameters were when it was over."""

    site: Site
    given: Shapes
    parameters: tuple[tuple[str, weakref.ref[Tensor]], ...]
    before: list[Tensor | None]


class Loading(Observer):
    """Waits for a load that misses, then for the first step on the model."""

    kinds = (NothingLoaded,)
    hears = (LOADING,)

    def __init__(self, monitor: Any) -> None:
        super().__init__(monitor)
        self._missed: Known[nn.Module, _Missed] = Known()

    def start(self) -> None:
        """Steps matter only once a load has missed."""
        self.monitor.pause(self)

    def state_loaded(self, module: nn.Module, state: Mapping[str, Any], missing: frozenset[str]) -> None:
        """Remember a load that reached no trainable parameter, and forget one that was made good."""
        trainable = {name: item for name, item in module.named_parameters() if item.requires_grad}
        if not missing.issuperset(trainable):
            reached = KnownSet(trainable.values())
            for other in [model for model in self._missed if reached.holds_any(model.parameters())]:
                del self._missed[other]
            return
        given = {name: tuple(item.shape) for name, item in state.items() if isinstance(item, Tensor)}
        if trainable and _covers(given.values(), trainable.values()):
            items: list[tuple[str, Tensor]] = list(trainable.items())
            names = tuple((name, weakref.ref(item)) for name, item in items)
            self._missed[module] = _Missed(find_site(), given, names, checksums([item for _, item in items]))
            self.monitor.resume(self)

    def before_step(self, optimizer: Optimizer, closure: bool) -> None:
        """The first step on such a model: has anything reached it since?"""
        held = KnownSet(item for group in optimizer.param_groups for item in group["params"])
        for module, missed in list(self._missed.items()):
            living = [item for _, reference in missed.parameters if (item := reference()) is not None]
            if held.holds_any(living):
                del self._missed[module]
                now = checksums(living)
                if len(living) == len(missed.before) and not any(changed(missed.before, now, self.monitor.reader)):
                    self._write(module, missed, optimizer)
        if not self._missed:
            self.monitor.pause(self)

    def _write(self, module: nn.Module, missed: _Missed, optimizer: Optimizer) -> None:
        wanted = {name: tuple(item.shape) for name, reference in missed.parameters if (item := reference()) is not None}
        own, shape = next(iter(wanted.items()))
        label, step = self.monitor.place_of(optimizer)
        self.monitor.put(
            NothingLoaded(
                model=type(module).__name__,
                parameters=tuple(wanted),
                given=len(missed.given),
                key=next(key for key, other in missed.given.items() if other == shape),
                wanted=own,
                extra=_prefix(missed.given, wanted),
                lacking=_prefix(wanted, missed.given),
                optimizer=label,
                step=step,
                location=locate(missed.site, self.monitor.models),
                step_line=locate(find_site(), self.monitor.models),
            ),
            source=label,
        )


def _covers(given: Iterable[tuple[int, ...]], parameters: Iterable[Tensor]) -> bool:
    """Whether a dictionary has as many tensors of every shape as the model has parameters of it."""
    there = Counter(given)
    return all(there[shape] >= count for shape, count in Counter(tuple(item.shape) for item in parameters).items())


def _prefix(longer: Shapes, shorter: Shapes) -> str:
    """What keys of one begin with, such that without it all keys of the smaller one are in the other; else nothing."""
    first = next(iter(longer), "")
    for end in (at + 1 for at, letter in enumerate(first) if letter == "."):
        rest = {key.removeprefix(first[:end]): shape for key, shape in longer.items() if key.startswith(first[:end])}
        if len(rest.items() & shorter.items()) == min(len(longer), len(shorter)):
            return first[:end]
    return ""
