"""Finds stretches of forwards of a trained model that nothing was computed from; writes EvaluationPass.

Forwards are watched after a signal: a model changes its mode, gradients are disabled, a data loader starts. A recorded
graph is marked; a mark that dies before any differentiation reached it proves the graph unused. What a training step
itself forwards without using (a detached fake, a guessed label) recurs in every step, an evaluation does not: a stretch
is reported once enough windows without such forwards have followed it, or training has ended.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from gradkit.observe.attention import DROPOUT_LOOKS, EVALUATION_PASSES, FREE_SIGNALS, LEAST_WATCH, WATCHES, Looks
from gradkit.observe.books.recording_rate import RecordingRate
from gradkit.observe.books.stretches import Stretch
from gradkit.observe.observer import Observer
from gradkit.observe.program.sites import caller, is_user_code, way_here
from gradkit.observe.source.places import locate
from gradkit.observe.taps import signals
from gradkit.observe.taps.containment import aside, contained
from gradkit.observe.taps.events import Forward
from gradkit.observe.taps.forwards import FORWARDS
from gradkit.observe.tensors import graph
from gradkit.observe.tensors.known import KnownSet, Numbers
from gradkit.observe.tensors.memory import storage_of
from gradkit.observe.tensors.random_state import has_drawn, random_state
from gradkit.observe.witnesses.dropout import FunctionalDropout
from gradkit.records import EvaluationPass

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching

MAX_FORWARDS = 256
"""Forwards counted in one stretch; a longer one is reported with this number."""
MAX_WAIT = 100
"""Windows after which a candidate that is still open is let go."""
CALM_WINDOWS = 2
"""Ordinary training windows that must have been seen before a stretch at the very end of a run is reported."""

MAX_WAYS = 256
"""Ways through the program to forwards whose graphs were used, that are remembered."""

_Key = tuple[int, bool]
"""The number of a module (`Numbers`) and its mode."""


class EvaluationPasses(Observer):
    """Follows stretches until they are proven, refuted or over."""

    kinds = (EvaluationPass,)
    hears = signals.TO_EVALUATION

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        self._key = f"gradkit.forward.{graph.new_key()}"
        self._numbers = Numbers()
        self._stretches: dict[_Key, Stretch] = {}
        self._window_stretches: list[Stretch] = []
        self._candidates: dict[_Key, Stretch] = {}
        self._calm: Counter[int] = Counter()
        self._window = 0
        self._whole = True
        self._rate = RecordingRate()
        self._looks = Looks(EVALUATION_PASSES)
        self._training_ways: dict[int, None] = {}
        self._watches = 0
        self._watch_until = EVALUATION_PASSES.first
        self._optimizers: KnownSet[Optimizer] = KnownSet()
        self._seen: Counter[object] = Counter()
        self._passes: Counter[int] = Counter()
        self._data: tuple[int, int] | None = None
        self._counting: tuple[saved_tensors_hooks, dict[int, int]] | None = None
        self._random: Tensor | int | None = None
        self._dropout: FunctionalDropout | None = None
        self._dropout_looks = 0

    # --- life -----------------------------------------------------------------------------------------------------

    @property
    def attached(self) -> tuple[str, ...]:
        """The hooks while forwards are watched."""
        return ("torch.nn global module hooks",) if self in FORWARDS.listeners else ()

    def start(self) -> None:
        """Watch the first windows."""
        FORWARDS.listen(self)

    def stop(self) -> None:
        """Detach, and judge what came after the last backward."""
        FORWARDS.leave(self)
        inference = self.monitor.backwards == 0
        for key, stretch in self._stretches.items():
            stretch.close()
            calm = self._calm[key[0]] >= CALM_WINDOWS
            alone = inference and not stretch.training and not stretch.noisy
            if stretch.suspicious and ((calm and stretch.trained) or alone):
                self._report(stretch)
        self._stretches.clear()
        self._candidates.clear()

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Learn what a training step looks like, and follow up signals as at first."""
        self._looks.begin()
        self._seen.clear()
        self._watches = self._dropout_looks = 0
        self._watch_until = max(self._watch_until, self._window + EVALUATION_PASSES.first)
        self._optimizers.clear()
        self.monitor.resume(self)
        if self not in FORWARDS.listeners:
            self._whole = False
            FORWARDS.listen(self)

    # --- signals --------------------------------------------------------------------------------------------------

    def mode_changed(self, module: nn.Module, mode: bool) -> None:
        """A model turns to evaluation, or back."""
        if self not in FORWARDS.listeners:
            self._signal(("mode", mode))

    def gradients_disabled(self) -> None:
        """User code enters `no_grad` or `inference_mode`; torch's own code does so all the time."""
        if self in FORWARDS.listeners:
            return
        frame = caller()
        if frame.f_code.co_filename.endswith("_contextlib.py") and frame.f_back is not None:
            frame = frame.f_back  # the caller of a decorated function
        if is_user_code(frame.f_code.co_filename):
            self._signal((frame.f_code, frame.f_lasti))

    def loader_started(self, loader: object) -> None:
        """A pass over data begins."""
        data = self._numbers.of(getattr(loader, "dataset", loader))
        self._passes[data] += 1
        self._data = (data, self._passes[data])
        if self not in FORWARDS.listeners:
            self._signal(("loader", self._numbers.of(loader)))

    def _signal(self, kind: object) -> None:
        self._seen[kind] += 1
        count = self._seen[kind]
        if (count <= FREE_SIGNALS or count & (count - 1) == 0) and FORWARDS.listen(self):
            self._whole = False
            self.monitor.resume(self)

    # --- forwards -------------------------------------------------------------------------------------------------

    def forward_begins(self, forward: Forward) -> None:
        """Look closer at the second forward of a stretch: at its bytes when it records, at dropout when it does not."""
        stretch = self._stretches.get((self._numbers.of(forward.module), forward.training))
        if not forward.recording:
            self._look_for_dropout(forward, stretch)
        if stretch is None or not forward.recording or forward.training or stretch.recorded != 1:
            return
        own = {storage_of(parameter) for parameter in forward.module.parameters()}
        sizes: dict[int, int] = {}

        @contained
        def count(tensor: Tensor) -> None:
            storage = storage_of(tensor)
            if storage is not None and storage not in own:
                sizes[storage] = tensor.untyped_storage().nbytes()

        def pack(tensor: Tensor) -> Tensor:
            count(tensor)
            # Packing a saved output as it is makes the graph hold itself; autograd puts its node back on unpacking.
            with aside():
                return tensor.detach()

        hooks = saved_tensors_hooks(pack, _same)
        try:
            hooks.__enter__()
        except RuntimeError:  # the program forbids such hooks here: the finding goes without bytes
            return
        self._counting = (hooks, sizes)

    def _look_for_dropout(self, forward: Forward, stretch: Stretch | None) -> None:
        """Dropout calls without a layer are told by what the first forward drew, and found in the second."""
        if stretch is None:
            self._random = random_state(forward.module)
        elif (
            stretch.drew
            and stretch.plain == 1
            and self._dropout_looks < DROPOUT_LOOKS
            and self._is_trained(forward.module)
        ):
            self._dropout_looks += 1
            self._dropout = FunctionalDropout(self.monitor, forward.training)

    def forward_ended(self, forward: Forward) -> None:
        """Add the forward to its stretch and mark the graph it recorded."""
        counting, self._counting = self._counting, None
        dropout, self._dropout = self._dropout, None
        random, self._random = self._random, None
        if counting is not None:
            counting[0].__exit__(None, None, None)
        if dropout is not None:
            dropout.finish()
        if forward.failed:
            return
        key = (self._numbers.of(forward.module), forward.training)
        stretch = self._stretches.get(key)
        if stretch is None:
            stretch = self._stretches[key] = Stretch(forward, self._window)
            self._window_stretches.append(stretch)
        if forward.outputs:
            stretch.recorded += 1
            mark = graph.Mark()
            if forward.differentiated:  # without gradients it would not have run at all
                stretch.used += 1
                stretch.used_ways.add(way_here())
            elif graph.plant(graph.frontier(forward.outputs), self._key, mark):
                stretch.open.append((weakref.ref(mark), way_here()))
            if counting is not None:
                stretch.bytes_of_one = sum(counting[1].values())
        else:
            stretch.add_plain(forward, way_here(), self._data)
            if random is not None:
                stretch.drew = has_drawn(forward.module, random)
            if dropout is not None:
                stretch.add_calls(dropout.calls, dropout.site)
        if stretch.recorded + stretch.plain == 2:  # the optimizer may be gone when the stretch is judged
            stretch.trained = self._is_trained(forward.module)
        stretch.inputs = forward.inputs
        stretch.ended = time.perf_counter()
        if stretch.recorded + stretch.plain >= MAX_FORWARDS:
            FORWARDS.leave(self)

    def _is_trained(self, module: nn.Module) -> bool:
        return bool(self.monitor.trained_parameters().holds_any(module.parameters()))

    # --- training -------------------------------------------------------------------------------------------------

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """A stretch ends: what this backward reaches was used."""
        FORWARDS.note_differentiation()
        if self._rate.surplus(roots, self.monitor.backwards) and self._watches < WATCHES and FORWARDS.listen(self):
            self._watches += 1
            self._whole = False
            self._watch_until = self._window + max(LEAST_WATCH, 2 * int(self._looks.slept))
        self._settle(roots)
        for key, stretch in self._stretches.items():
            if stretch.suspicious and stretch.trained:
                self._candidates[key] = stretch  # an earlier one of this key was no single pass
            elif stretch.idle and key in self._candidates:
                del self._candidates[key]
        self._stretches.clear()
        self._data = None
        self._passes.clear()

    def enter_grad(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Gradients that are returned are a use like any other."""
        FORWARDS.note_differentiation()
        self._settle(roots)

    def _settle(self, roots: Sequence[Tensor]) -> None:
        pending = [*self._stretches.values(), *self._window_stretches, *self._candidates.values()]
        if any(stretch.open for stretch in pending):
            nodes = graph.walk(graph.roots_of(roots))
            reached = KnownSet(mark for node in nodes if (mark := node.metadata.get(self._key)) is not None)
            for stretch in pending:
                stretch.settle(reached)

    def after_step(self, optimizer: Optimizer) -> None:
        """A window ends: a training window without idle forwards speaks for every candidate before it."""
        self._optimizers.add(optimizer)
        whole, self._whole = self._whole, self in FORWARDS.listeners
        calm: set[int] = set()
        for stretch in self._window_stretches:
            stretch.settle(KnownSet())
            self._training_ways |= dict.fromkeys(stretch.used_ways)
            module = stretch.module()
            if whole and module is not None and stretch.used and not stretch.idle:
                calm.add(self._numbers.of(module))
        self._calm.update(calm)
        needed = 2 * len(self._optimizers) + 1
        for key, stretch in list(self._candidates.items()):
            if stretch.module() is None or not stretch.suspicious:
                del self._candidates[key]
                continue
            stretch.calm += self._window > stretch.window and key[0] in calm
            if stretch.calm >= needed and not stretch.open:
                del self._candidates[key]
                self._report(stretch)
            elif self._window - stretch.window >= MAX_WAIT:
                del self._candidates[key]  # something keeps its graphs: whether they are used stays open
        while len(self._training_ways) > MAX_WAYS:  # the oldest are those of models that came before
            del self._training_ways[next(iter(self._training_ways))]
        self._window_stretches.clear()
        self._window += 1
        if self._window >= self._watch_until and not self._candidates and not self._stretches:
            FORWARDS.leave(self)
            self._optimizers.clear()  # those that step from here on are at work
            self.monitor.pause(self, self._looks.rest())
        elif self._candidates and FORWARDS.listen(self) and not whole:
            self._whole = True

    def _report(self, stretch: Stretch) -> None:
        plain = stretch.noisy
        if not plain and stretch.training and stretch.unused_ways <= self._training_ways.keys():
            return  # batches that training passes over: not finite, too easy
        self.monitor.put(
            EvaluationPass(
                step=self.monitor.info.steps,
                model=stretch.model,
                training=stretch.training,
                forwards=stretch.plain if plain else stretch.unused,
                recorded=0 if plain else stretch.unused,
                active_layers=dict(stretch.active) if plain else {},
                ungoverned=dict(stretch.ungoverned) if plain else {},
                saved_bytes=None if plain or stretch.bytes_of_one is None else stretch.bytes_of_one * stretch.unused,
                seconds=stretch.ended - stretch.began,
                location=locate(stretch.site, self.monitor.models),
                dropout_line=locate(stretch.ungoverned_site, self.monitor.models) if plain else None,
            )
        )


def _same(tensor: Any) -> Any:
    return tensor
