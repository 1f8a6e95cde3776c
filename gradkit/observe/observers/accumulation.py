"""Sees what the losses of an accumulation window are divided by; writes Accumulation.

That several backward calls of one window are micro-batches of one task, and not several tasks, follows from the user's
declaration, or from a pass over a data loader in which every batch was back-propagated once.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradkit.observe.attention import ACCUMULATION, OTHERS, Looks
from gradkit.observe.observer import Observer
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps import signals
from gradkit.observe.taps.tap import TAP
from gradkit.observe.tensors.buffers import Look
from gradkit.observe.tensors.known import Known
from gradkit.observe.tensors.loss_scale import LossScale, MeanLoss, scale_of
from gradkit.records import Accumulation

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching


class AccumulationObserver(Observer):
    """Looks at the losses of a few windows, and sleeps."""

    kinds = (Accumulation,)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        if monitor.accumulate is None:  # what is declared needs no passes over the data to confirm it
            self.hears = (signals.LOADER, signals.EXHAUSTED)
        self._passes: Known[Any, int] = Known()
        self._optimizer: weakref.ref[Optimizer] | None = None
        self._begin_window()
        self._alike: list[tuple[MeanLoss, ...]] = []
        self._kind: tuple[int, bool, tuple[str, ...]] | None = None
        self._seeds: list[Tensor] = []
        self._others = 0
        self._looks = Looks(ACCUMULATION)
        self._found: tuple[Accumulation, int] | None = None
        self._confirmed = False

    def _begin_window(self) -> None:
        self._losses: list[LossScale] = []
        self._understood = True
        self._site: Site | None = None
        self._probe: weakref.ref[Tensor] | None = None
        self._deposit: Look | None = None

    def stop(self) -> None:
        """Say what the end of the last pass confirmed."""
        self._say()
        self._forget()

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Another optimizer may accumulate in a way of its own."""
        if optimizer is not None:
            self._say()
            self._found = self._optimizer = None
            self._others = 0
            self._forget()
            self._looks.begin()
            self.monitor.resume(self)

    # --- passes over the data ---------------------------------------------------------------------------------------

    def loader_started(self, loader: Any) -> None:
        """A pass over some loader begins."""
        self._passes[loader._index_sampler] = self.monitor.backwards

    def pass_ended(self, iterator: Any) -> None:
        """A loader has no more batches; frameworks fetch a batch ahead."""
        began = self._passes.pop(iterator._index_sampler, None)
        batches = int(iterator._num_yielded)
        if self._found is None or self._confirmed or began is None:
            return
        record, backwards = self._found
        whole = self.monitor.backwards - began in (batches - 1, batches)
        if whole and began <= backwards and batches > record.micro_batches:
            self._found = (replace(record, batches=batches), backwards)
            self._confirmed = True
            self.monitor.resume(self)

    # --- windows ----------------------------------------------------------------------------------------------------

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """How the loss was made."""
        self._say()
        if self._optimizer is None or not self._understood or self._found is not None:
            return
        seeds = TAP.seeds
        scale = scale_of(roots[0]) if len(roots) == len(seeds) == 1 and not roots[0].dim() else None
        if scale is None or seeds[0] is None or not self._same_buffer():
            self._understood = False
            return
        self._losses.append(scale)
        self._seeds.append(seeds[0].detach())
        self._site = find_site()

    def leave_backward(self, failed: bool) -> None:
        """Where the gradient arrived: each further one must be added to the same buffer."""
        if failed:
            self._understood = False
        if not self._understood or not self._losses:
            return
        probe = self._probe() if self._probe is not None else None
        if probe is None:
            probe = next((item for item in self._parameters() if item.grad is not None), None)
            if probe is None:
                self._understood = False
                return
            self._probe = weakref.ref(probe)
            self._deposit = Look(probe)
            return
        before, self._deposit = self._deposit, Look(probe)
        self._understood = before is not None and self._deposit.is_in(before) and self._deposit != before

    def before_step(self, optimizer: Optimizer, closure: bool) -> None:
        """Gradients that were divided, clipped or unscaled since the last backward say nothing."""
        if closure or (self._losses and not self._same_buffer()):
            self._understood = False

    def after_step(self, optimizer: Optimizer) -> None:
        """A window is over."""
        self._say()
        if self._found is not None:
            self.monitor.pause(self)
            return
        if self._optimizer is None or self._optimizer() is None:
            self._optimizer = weakref.ref(optimizer)
        elif self._optimizer() is not optimizer:  # several share the losses in ways of their own
            self._forget()
            self.monitor.pause(self)
            return
        elif self._understood and len(self._losses) > 1 and self._is_alike():
            self._others = 0
            if len(self._alike) == self._looks.wanted:
                self._conclude(optimizer)
        else:
            self._forget()
            self._others += 1
            if self._others >= OTHERS:
                self._rest()
        self._begin_window()

    def _is_alike(self) -> bool:
        """Count the window if it is of the kind of those before it."""
        number = len(self._losses)
        structures = {loss.structure for loss in self._losses}
        if len(structures) != 1 or (self.monitor.accumulate or number) != number:
            return False
        undivided = all(loss.undivided for loss in self._losses)
        means: list[MeanLoss | None] = [loss.divided_by(number) for loss in self._losses]
        if not undivided and any(mean is None or mean.items is None for mean in means):
            return False
        kind = (number, not undivided, structures.pop())
        if kind != self._kind:
            self._alike.clear()
            self._kind = kind
        first = (
            [next(mean for mean in loss.means if not mean.constants) for loss in self._losses] if undivided else means
        )
        self._alike.append(tuple(mean for mean in first if mean is not None))
        return not any(_is_hooked(parameter) for parameter in self._parameters())

    def _conclude(self, optimizer: Optimizer) -> None:
        reader = self.monitor.reader
        assert self._kind is not None
        number, divided, _ = self._kind
        items = [mean.items for window in self._alike for mean in window if mean.items is not None] if divided else []
        if not reader.allows():
            self._rest()
            return
        values = reader.read([*self._seeds, *items])
        if any(seed != 1.0 for seed in values[: len(self._seeds)]):
            self._rest()
            return
        counts = values[len(self._seeds) :]
        label, step = self.monitor.place_of(optimizer)
        record = Accumulation(
            optimizer=label,
            step=step,
            micro_batches=number,
            windows=len(self._alike),
            divided=divided,
            items=tuple(tuple(counts[start : start + number]) for start in range(0, len(counts), number)),
            declared=self.monitor.accumulate is not None,
            reduction=self._alike[-1][-1].reduction,
            backward_line=locate(self._site, self.monitor.models, self._parameters()),
        )
        self._forget()
        self._found = (record, self.monitor.backwards)
        self._confirmed = record.declared
        self._say()
        self.monitor.pause(self)

    def _say(self) -> None:
        if self._confirmed and self._found is not None:
            self._confirmed = False
            self.monitor.put(self._found[0], source=self._found[0].optimizer)

    def _rest(self) -> None:
        self._forget()
        self._others = 0
        self.monitor.pause(self, self._looks.rest())

    def _forget(self) -> None:
        self._alike.clear()
        self._seeds.clear()
        self._kind = None
        self._begin_window()

    def _same_buffer(self) -> bool:
        probe = self._probe() if self._probe is not None else None
        return probe is None or (self._deposit is not None and Look(probe).is_as_left(self._deposit))

    def _parameters(self) -> list[Tensor]:
        optimizer = self._optimizer() if self._optimizer is not None else None
        return [] if optimizer is None else [item for group in optimizer.param_groups for item in group["params"]]


def _is_hooked(parameter: Tensor) -> bool:
    """Whether the user's own hooks may change what arrives at a parameter."""
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))
