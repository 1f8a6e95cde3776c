"""Measures what optimizer steps do to the weights: nothing, too much, or something to what was meant to stay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradkit.observe.attention import LONGEST_LOOK, UPDATES, Looks
from gradkit.observe.books.held_back import HeldBack
from gradkit.observe.books.motion import BLOCK, RATIOS, Frozen, Motion, judge_frozen, largest
from gradkit.observe.observer import Observer
from gradkit.observe.program.belonging import models
from gradkit.observe.program.sites import find_site
from gradkit.observe.source.places import locate
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.records import FrozenUpdate, Location, Stillness, UpdateSizes

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching

LARGE = 0.2
"""Ratio of update to weights from which on consecutive steps are measured."""
LARGE_AT_START = 3.0
"""Ratio of update to the very first weights from which on consecutive steps are measured."""
MAX_SIZES = 3
"""Sets of consecutive ratios of one optimizer that are handed to the rules, which may not agree at once."""
MEASURE_EVERY = 4
"""Only every so many looks at an optimizer known to move measure its updates; the others look for frozen parameters."""


class UpdatesObserver(Observer):
    """Writes `Stillness`, `UpdateSizes` and `FrozenUpdate`.

    At first every step is measured, by samples taken before and after it; later looks come ever more rarely. An
    optimizer whose weights stand still, or are thrown about, is measured step by step until that is settled. A learning
    rate of 0 may be raised, so what stood still at that is settled only when the optimizer or the watching ends.
    """

    kinds = (Stillness, UpdateSizes, FrozenUpdate)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        rules = [rule for rule in monitor.rules if rule.kind is Stillness]
        self._still_steps = min((int(getattr(rule, "steps", 20)) for rule in rules), default=20)
        self._held_back = HeldBack(monitor.reader)
        self._motions: Known[Optimizer, Motion] = Known()
        self._frozen: Known[Optimizer, list[Frozen]] = Known()
        self._earlier: Known[Optimizer, list[Frozen]] = Known()
        self._said: Known[Optimizer, set[str]] = Known()
        self._declared: Known[Optimizer, KnownSet[Tensor]] = Known()
        self._loss: Tensor | None = None
        self._begun: Known[Optimizer, bool] = (
            Known()
        )  # optimizers in their step, each with whether a closure runs in it
        self._looks = Looks(UPDATES)

    # --- events -------------------------------------------------------------------------------------------------

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Remember the first loss of the window, without its graph."""
        if self._loss is None and len(roots) == 1 and isinstance(roots[0], Tensor) and roots[0].numel() == 1:
            self._loss = roots[0].detach().reshape(())

    def before_step(self, optimizer: Optimizer, closure: bool) -> None:
        """Take samples, and look for parameters that should stay."""
        started = time.perf_counter()
        self._begun[optimizer] = closure
        motion = self._motions.get(optimizer)
        if motion is None or not motion.resume(optimizer):
            self._forget(optimizer)
            motion = self._motions[optimizer] = Motion.of(optimizer)
            self._said[optimizer] = set()
            self._declared[optimizer] = self._declared_frozen(motion)
        if self._measures(motion):
            motion.take()
        if "frozen" not in self._said[optimizer]:
            reader = self.monitor.reader
            looks = [
                Frozen.of(parameter, False, reader)
                for parameter in motion.parameters
                if not parameter.requires_grad and parameter.grad is not None
            ]
            known = KnownSet(look.parameter for look in looks)
            declared = [item for item in motion.parameters if item in self._declared[optimizer] and item not in known]
            looks += [Frozen.of(item, True, reader) for item in declared]
            if looks:
                self._frozen[optimizer] = looks
        self._looks.spend(started)

    def after_step(self, optimizer: Optimizer) -> None:
        """Compare, judge when there is enough, and sleep when nothing is open."""
        motion = self._motions.get(optimizer)
        closure = self._begun.pop(optimizer, None)
        if motion is None or closure is None:
            self._loss = None
            return  # the step had begun before anyone looked: the backward of its closure ended the sleep
        started = time.perf_counter()
        step = max(0, (self.monitor.steps_of(optimizer) or 0) - 1)
        self._judge_frozen(optimizer, step, closure)
        motion.measure(optimizer, step, self._loss, self.monitor.reader)
        self._loss = None
        if motion.rows and (not motion.waits or len(motion.rows) >= BLOCK):
            motion.read(self.monitor.reader)
            self._judge_motion(optimizer, motion, step)
        self._looks.count(optimizer)
        self._looks.spend(started)
        suspicious = any(map(self._is_open, list(self._motions.values())))
        if not self._earlier and self._looks.is_over(suspicious, LONGEST_LOOK):
            self._rest()

    def stop(self) -> None:
        """Say what never moved, and keep nothing of the run alive."""
        for record, source in self._held_back.release():
            self.monitor.put(record, source=source)
        self._motions.clear()
        self._frozen.clear()
        self._earlier.clear()
        self._loss = None

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Measure the first steps of all."""
        self._looks.begin()
        self.monitor.resume(self)

    def _forget(self, optimizer: Optimizer) -> None:
        """Let go of all that is known of an optimizer, and of its parameters."""
        known: tuple[Known[Optimizer, Any], ...]
        known = (self._motions, self._said, self._declared, self._frozen, self._earlier)
        for book in known:
            book.pop(optimizer, None)

    def _measures(self, motion: Motion) -> bool:
        return not motion.moves or bool(motion.ratios) or self._looks.number % MEASURE_EVERY == 0

    def _is_open(self, motion: Motion) -> bool:
        """Whether something about it is not settled yet."""
        if motion.rows or ((motion.still or motion.stopped) and not motion.moves):
            return True  # also when the weights are all 0 and have no ratio to their updates
        if not motion.ratios:
            return False
        if not motion.moves:
            return True
        sizes_open = motion.ratios[-1] >= LARGE or motion.against_start[-1:] > (LARGE_AT_START,)
        return sizes_open and motion.sizes_told < MAX_SIZES

    def _rest(self) -> None:
        self._loss = None
        self._begun.clear()
        self._frozen.clear()
        for motion in list(self._motions.values()):
            motion.release()
        self.monitor.pause(self, self._looks.rest(self.monitor.backwards))

    # --- judging ------------------------------------------------------------------------------------------------

    def _judge_motion(self, optimizer: Optimizer, motion: Motion, step: int) -> None:
        said = self._said[optimizer]
        rate = largest([group.get("lr") for group in optimizer.param_groups])
        steps = max(motion.still, motion.stopped)
        if steps >= self._still_steps and "still" not in said and motion.identical(self.monitor.reader):
            said.add("still")
            record = Stillness(
                optimizer=self.monitor.label_of(optimizer),
                step=step,
                steps=steps,
                parameter_count=len(motion.parameters),
                learning_rate=rate,
                gradient_norm=motion.gradient_norm,
                weight_norm=motion.weight_norm,
                step_line=self._step_line(),
                created_line=self.monitor.creation_line(optimizer),
            )
            if motion.still >= self._still_steps:
                self.monitor.put(record)
            else:
                pairs = zip(motion.parameters, motion.start, strict=True)
                self._held_back.keep(record, None, [(parameter, first, optimizer) for parameter, first in pairs])
            motion.moves = True  # said once; there is nothing more to find out
        ratios, against_start = tuple(motion.ratios), motion.against_start
        large = len(ratios) == RATIOS and (
            sorted(ratios)[RATIOS // 2] >= LARGE or min(against_start, default=0.0) >= LARGE_AT_START
        )
        if large and motion.sizes_told < MAX_SIZES and step - motion.sizes_told_at >= RATIOS:
            motion.sizes_told, motion.sizes_told_at = motion.sizes_told + 1, step
            self.monitor.put(
                UpdateSizes(
                    optimizer=self.monitor.label_of(optimizer),
                    step=step,
                    ratios=ratios,
                    against_start=against_start,
                    losses=tuple(motion.losses),
                    first_loss=motion.first_loss,
                    learning_rate=rate,
                    of_modules=self._of_modules(motion),
                    parameter_count=len(motion.parameters),
                    step_line=self._step_line(),
                    created_line=self.monitor.creation_line(optimizer),
                )
            )

    def _judge_frozen(self, optimizer: Optimizer, step: int, closure: bool) -> None:
        looks = self._frozen.pop(optimizer, None)
        if looks and closure:
            looks = [look for look in looks if look.declared or look.stayed(self.monitor.reader)]
        earlier = self._earlier.pop(optimizer, [])
        if not looks:
            return
        zero, stale, declared = judge_frozen(looks, earlier, self.monitor.reader)
        if zero or stale or declared:
            self._said[optimizer].add("frozen")
            describe = self.monitor.describe
            self.monitor.put(
                FrozenUpdate(
                    optimizer=self.monitor.label_of(optimizer),
                    step=step,
                    zero=tuple(describe(optimizer, zero)) if zero else (),
                    stale=tuple(describe(optimizer, stale)) if stale else (),
                    declared=tuple(describe(optimizer, declared)) if declared else (),
                    step_line=self._step_line(),
                    created_line=self.monitor.creation_line(optimizer),
                )
            )
        elif not earlier:  # whether a gradient is an old one shows at the next step
            undeclared = [look for look in looks if not look.declared]
            if undeclared:
                self._earlier[optimizer] = undeclared

    def _step_line(self) -> Location | None:
        return locate(find_site(), self.monitor.models)

    def _declared_frozen(self, motion: Motion) -> KnownSet[Tensor]:
        if not self.monitor.frozen:
            return KnownSet()
        names = Known(pair for home in models(self.monitor.models) for pair in home.names.items())
        return KnownSet(
            parameter
            for parameter in motion.parameters
            if any(fnmatchcase(names.get(parameter, ""), pattern) for pattern in self.monitor.frozen)
        )

    def _of_modules(self, motion: Motion) -> bool:
        homes = models(self.monitor.models)
        return any(parameter in home.names for home in homes for parameter in motion.parameters)
