"""Sees whether passes over a data loader end inside an accumulation window; writes Pass.

A pass is known by the exhaustion of the loader's iterator; loaders whose batches are not back-propagated one by one are
none of training. Frameworks fetch a batch ahead, so the border is the first backward after as many as there were
batches. Lightning asks no loader for more batches than it has: there a pass has ended that had as many backward calls
as batches when the next one begins.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SequentialSampler

from gradkit.observe.attention import FREE_SIGNALS
from gradkit.observe.observer import Observer
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps import signals
from gradkit.observe.tensors.known import Known
from gradkit.observe.tensors.measure import plain
from gradkit.records import Pass

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching

PLAIN_WINDOWS = 8
"""Windows after which a program is taken not to accumulate over a loader, until its next passes begin: each of one
micro-batch, or none while a loader was at work."""


@dataclass(slots=True)
class _Border:
    """The end of a pass whose last micro-batches waited for a step."""

    step: int
    batches: int
    window: int
    full_windows: int
    left_over: int
    site: Site | None


class DataPasses(Observer):
    """Counts micro-batches between steps and, at a border, those that are left over."""

    kinds = (Pass,)
    hears = (signals.LOADER, signals.EXHAUSTED)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        self._started: Known[Any, int] = Known()
        self._ended: tuple[int, int] | None = None
        self._backwards = 0
        self._open = 0
        self._windows: list[int] = []
        self._awake_since = 0
        self._optimizer: weakref.ref[Optimizer] | None = None
        self._parameters: list[weakref.ref[Tensor]] = []
        self._label = ""
        self._steps = 0
        self._site: Site | None = None
        self._border: _Border | None = None
        self._borders = 0
        self._first_window: int | None = None
        self._established = (0, 0)
        self._signals = 0
        self._done = False

    def stop(self) -> None:
        """What waits for a step at the very end has no next pass, and counts as what was left over before."""
        if not self._done and self._ended is not None and self._backwards >= self._ended[0]:
            border = self._find_border()
            if border is not None:
                self._report(border, self._first_window if self._borders else None)
        self._parameters.clear()

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Another optimizer has windows of its own."""
        if optimizer is not None:
            self._optimizer = self._ended = self._border = self._first_window = None
            self._windows.clear()
            self._open = self._borders = self._signals = 0
            self._established = (0, 0)
            self._done = False
            self.monitor.resume(self)

    # --- loaders ------------------------------------------------------------------------------------------------------

    def loader_started(self, loader: Any) -> None:
        """A pass over some loader begins; the one before may have ended though the loader was not asked for more."""
        sampler = loader._index_sampler
        began = self._started.get(sampler)
        if began is not None and 2 <= self._backwards - began == _batches(loader):
            self._ended = (self._backwards, self._backwards - began)
        self._started[sampler] = self._backwards
        if self._optimizer is not None and not self._done and self._signals < FREE_SIGNALS:
            self._signals += 1
            self.monitor.resume(self)

    def pass_ended(self, iterator: Any) -> None:
        """A loader has no more batches; if each was or is about to be back-propagated, a pass of training ends."""
        began = self._started.pop(iterator._index_sampler, None)
        batches = int(iterator._num_yielded)
        if began is not None and batches >= 2 and self._backwards - began in (batches - 1, batches):
            self._ended = (began + batches, batches)

    # --- windows ------------------------------------------------------------------------------------------------------

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """The first backward of the next pass settles what the last one left over."""
        if self._ended is not None and self._backwards >= self._ended[0]:
            border = self._find_border()
            self._ended = None
            self._windows.clear()
            if border is None:
                self._borders = 0
            elif self._holds_gradients():
                self._border = border
            else:
                self._open = 0
                self._report(border, None)
        self._backwards += 1
        self._open += 1

    def after_step(self, optimizer: Optimizer) -> None:
        """A window ends."""
        if self._optimizer is None or self._optimizer() is not optimizer:
            if self._optimizer is not None:  # several optimizers share the micro-batches in ways of their own
                self._done = True
                self.monitor.pause(self)
                return
            self._optimizer = weakref.ref(optimizer)
            self._parameters = [weakref.ref(p) for group in optimizer.param_groups for p in group["params"]]
        self._label, self._steps = self.monitor.place_of(optimizer)
        window, self._open = self._open, 0
        border, self._border = self._border, None
        if border is not None:
            if window == border.window:
                self._borders = 0  # counted over all passes: every window is whole
            else:
                self._report(border, window)
            return  # a window that held leftovers says nothing of this pass
        self._windows.append(window)
        if window > 1:
            self._site = find_site()
        nothing_can_end = not self._started and self._ended is None  # no loader is at work
        if len(self._windows) >= PLAIN_WINDOWS and (nothing_can_end or max(self._windows) == 1):
            self._windows.clear()
            self._ended = None
            self.monitor.pause(self)

    def _holds_gradients(self) -> bool:
        """Whether any gradient is there and not zero; read at the border of a pass only."""
        parameters = [parameter for reference in self._parameters if (parameter := reference()) is not None]
        return any(p.grad is not None and bool(plain(p.grad).any()) for p in parameters)

    def _find_border(self) -> _Border | None:
        """What is left over at the end of a pass with at least two full windows of one size."""
        assert self._ended is not None
        sizes = set(self._windows)
        if not self._open or len(sizes) != 1:
            return None
        (window,) = sizes
        # The first window of a pass may hold leftovers, so a short pass shows fewer full ones than the first pass did.
        full = len(self._windows) if self._established[0] != window else max(len(self._windows), self._established[1])
        self._established = (window, full)
        if self._open >= window or (self.monitor.accumulate or window) != window:
            return None
        return _Border(self._steps, self._ended[1], window, full, self._open, self._site)

    def _report(self, border: _Border, first_window: int | None) -> None:
        self._borders += 1
        self._first_window = first_window
        self.monitor.put(
            Pass(
                optimizer=self._label,
                step=border.step,
                batches=border.batches,
                window=border.window,
                full_windows=border.full_windows,
                left_over=border.left_over,
                carried=first_window is not None,
                first_window=first_window,
                borders=self._borders,
                location=locate(border.site, self.monitor.models),
            ),
            source=self._label,
        )


def _batches(loader: Any) -> int | None:
    """The batches of a pass, where torch's own samplers choose them; a length the user computes is not asked for."""
    chosen = loader.batch_sampler if type(loader.batch_sampler) is BatchSampler else loader.sampler
    known = type(loader.sampler) in (SequentialSampler, RandomSampler, DistributedSampler)
    return len(loader) if known and chosen is loader._index_sampler else None
