"""Sees in which mode the forwards ran whose gradients a step consumes; writes ModeStep for whole models in eval mode.

Forwards are watched in the first windows of a run, for some windows after a model changed its mode, and in rare short
samples, since a flag can also be set by hand.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gradkit.observe.attention import FREE_SIGNALS, TRAINING_MODES, Looks
from gradkit.observe.observer import Observer
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps import signals
from gradkit.observe.taps.events import Forward
from gradkit.observe.taps.forwards import FORWARDS
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.records import ModeStep

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching

MAJORITY = 0.5
"""Share of a model's numbers a step must update for its mode to count as the mode of training: a probe, an adapter or a
prompt on a frozen model in eval mode is normal."""


class TrainingModes(Observer):
    """Counts windows in a row whose forwards all ran in eval mode."""

    kinds = (ModeStep,)
    hears = (signals.MODE,)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        self._forwards: list[tuple[nn.Module, Forward]] = []
        self._whole = False
        self._looks = Looks(TRAINING_MODES)
        self._signals = 0
        self._signal = (-1, True)
        self._eval_site: Site | None = None
        self._counts: Known[Optimizer, int] = Known()
        self._trained: KnownSet[Optimizer] = KnownSet()

    @property
    def attached(self) -> tuple[str, ...]:
        """The hooks while forwards are watched."""
        return ("torch.nn global module hooks",) if self in FORWARDS.listeners else ()

    def start(self) -> None:
        """Watch the first windows."""
        self._whole = FORWARDS.listen(self)

    def stop(self) -> None:
        """Detach."""
        FORWARDS.leave(self)
        self._forwards.clear()

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Watch the windows that follow, and follow up signals as at first."""
        self._looks.begin()
        self._signals = 0
        self.monitor.resume(self)
        if self not in FORWARDS.listeners:
            self._whole = False
            FORWARDS.listen(self)

    def mode_changed(self, module: nn.Module, mode: bool) -> None:
        """A model changes its mode: watch the windows that follow."""
        if self._signal == (self.monitor.backwards, mode):
            if not mode:  # a child of a module that was heard of, or a later call that is the one that lasts
                self._eval_site = find_site()
            return
        self._signal = (self.monitor.backwards, mode)
        if not mode:
            self._eval_site = find_site()
        self._signals += 1
        if self._signals <= FREE_SIGNALS or self._signals & (self._signals - 1) == 0:
            self._looks.extend()
            self.monitor.resume(self)
            FORWARDS.listen(self)

    def forward_ended(self, forward: Forward) -> None:
        """Keep what may be back-propagated in this window."""
        if forward.outputs and len(self._forwards) < 1000:
            # Only that there was a graph matters here; it must not be kept.
            self._forwards.append((forward.module, dataclasses.replace(forward, outputs=[])))

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """A sample begins when this observer wakes up: the window is whole from the next step on."""
        if self not in FORWARDS.listeners:
            FORWARDS.listen(self)
            self._whole = False

    def after_step(self, optimizer: Optimizer) -> None:
        """Judge the window that ends here."""
        forwards, self._forwards = self._forwards, []
        whole, self._whole = self._whole, self in FORWARDS.listeners
        if whole and forwards:
            self._judge(optimizer, forwards)
        self._looks.count(optimizer)
        in_eval = any(self._counts.get(other) for other in self._looks.optimizers)
        if not in_eval and self._looks.is_over():
            FORWARDS.leave(self)
            self.monitor.pause(self, self._looks.rest())

    def _judge(self, optimizer: Optimizer, forwards: Sequence[tuple[nn.Module, Forward]]) -> None:
        stepped = KnownSet(p for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        mine = [(module, forward) for module, forward in forwards if _share(module, stepped) > MAJORITY]
        if not mine:
            return
        layers: Counter[str] = Counter()
        for module, forward in mine:
            if forward.training or module.training or forward.active:
                self._counts[optimizer] = 0
                self._trained.add(optimizer)
                return
            layers.update(type(layer).__name__ for layer in _over_stepped(forward, module, stepped))
        if not layers:
            return
        count = self._counts[optimizer] = self._counts.get(optimizer, 0) + 1
        label, step = self.monitor.place_of(optimizer)
        site = self._eval_site
        self.monitor.put(
            ModeStep(
                optimizer=label,
                step=step,
                count=count,
                model=type(mine[-1][0]).__name__,
                layers=dict(layers),
                trained_before=optimizer in self._trained,
                step_line=locate(find_site(), self.monitor.models),
                eval_line=site.location() if site is not None and site.framework is None else None,
            ),
            source=label,
        )


def _over_stepped(forward: Forward, root: nn.Module, stepped: KnownSet[Tensor]) -> list[nn.Module]:
    """The layers switched off by eval mode that stand in a part of the model that is stepped.

    A part left out of the optimizer is meant to stay as it is, in eval mode too, whether or not its parameters say so.
    """
    if not forward.inactive_over_gradients:
        return []
    parents = Known((child, module) for module in root.modules() for child in module.children())
    found = []
    for layer in forward.inactive_over_gradients:
        part = layer
        while not any(parameter.requires_grad for parameter in part.parameters()) and part in parents:
            part = parents[part]  # a layer with nothing to train belongs to what is around it
        if stepped.holds_any(part.parameters()):
            found.append(layer)
    return found


def _share(module: nn.Module, stepped: KnownSet[Tensor]) -> float:
    """Share of a module's numbers that a step has updated."""
    total = mine = 0
    for parameter in module.parameters():
        total += parameter.numel()
        mine += parameter.numel() if parameter in stepped else 0
    return mine / total if total else 0.0
