"""How much of a run is looked at: one policy for all observers, the same for every model as for the first.

An observer looks at the first windows of something new, then sleeps, ever longer, and looks again. New is an optimizer,
a model, or a phase of training: a parameter group was added, `requires_grad` changed, weights were loaded. `Subjects`
says when something is, and the roster has every observer begin again; what an observer may do a few times "in a run"
it may do as often for each.

Programs that make ten thousand small models, or an optimizer in every step, must not be looked at all the time. The
first `FREE_SUBJECTS` have their looks whatever they cost; later ones have them while all looking since has taken no
more than the monitor's share of the time (`budget`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradkit.observe.tensors.known import Known

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Plan:
    """How one observer spreads its attention over the life of a subject.

    Attributes:
        first: Windows of each optimizer looked at when a subject is new.
        again: Windows looked at after each sleep.
        sleep: Backward calls of the first sleep.
        factor: How many times as long each later sleep is.
        longest: Backward calls slept at most.
        share: Largest share of wall time spent looking once the first looks are over; 0 where looking is so cheap that
            the sleeps alone bound it.
        least: Backward calls slept at least where a share is kept, after the first looks.
    """

    first: int
    again: int
    sleep: float = 64
    factor: float = 4
    longest: float = math.inf
    share: float = 0.0
    least: float = 0.0


# Sleeps of 64, 256 and 1024 backward calls leave 3 looks in the first thousand windows of a loop and one more in the
# next four thousand: of a run of 10,000 windows even the longest look is at less than 1 in 100.
RETAINED_GRAPHS = Plan(first=14, again=14)
"""Enough windows for the ten growths of a graph kept in every step (GK202), and what the first may miss."""
SEVERED_PATHS = Plan(first=5, again=5)
"""As many steps as GK203 asks for; a rule that asks for more has the observer look at more."""
TRAINING_MODES = Plan(first=3, again=3)
"""GK204 asks for two windows in a row; the first after waking up is not seen whole."""
HIDDEN_WRITES = Plan(first=6, again=3)
"""One window to suspect a write and one to prove it, twice."""
NEEDLESS_RETENTION = Plan(first=40, again=8)
"""Backward calls, not windows: 20 graphs of a line must die unused (GK207), with room for as many of other lines."""
EVALUATION_PASSES = Plan(first=3, again=1, sleep=8, factor=2, longest=4096)
"""What a training step of this program looks like; after each sleep the recording rate tells of the time slept."""
UPDATES = Plan(first=3, again=1, sleep=2, factor=2, longest=4096, share=0.001, least=64)
"""The first ratios of update to weights; whatever is open is measured on, up to `LONGEST_LOOK`."""
MEMBERSHIP = Plan(first=4, again=1, sleep=2, factor=2, longest=4096, share=0.001, least=64)
"""One window more than GK401 and GK402 ask for."""
ACCUMULATION = Plan(first=3, again=3, sleep=16, factor=2, longest=4096)
"""Windows of one kind that GK105 is certain of."""
PHASES = Plan(first=1, again=1, sleep=8, factor=2, longest=1024)
"""A change of phase that nothing announces is noticed before the run is twice as long."""

FREE_SUBJECTS = 100
"""Optimizers, models and phases that have their first looks whatever they cost: folds, seeds, the tests of a module.
The looks at one tiny model take 5 to 10 ms on one core, so these a second at most."""
LIMIT = 8
"""A look ends after as many times its windows even if some optimizer has hardly stepped or something is still open."""
FREE_SIGNALS = 16
"""Signals of one kind or line that are followed up for each subject; of later ones only the 32nd, 64th and so on."""
INSTRUMENTED = 5
"""Windows of each subject seen through torch's function mode, which makes one of tiny operations 1.4 times as long."""
TRIALS = 3
"""Instrumented windows spent on one set of suspects, each twice as far from the last."""
DROPOUT_LOOKS = 3
"""Forwards of each subject instrumented because something was drawn in them outside of training."""
SEARCHES = 8
"""Searches of all living objects for each subject; one takes 50 ms in a process with 300,000 objects."""
REPORTS = 3
"""Reports of kept graphs for each subject; the same leak found again only raises its count."""
PAUSE_AFTER_REPORT = 4096
"""Backward calls between such a report and the next search, which is one of all living objects."""
PURSUIT = 1000
"""Windows marked at most while graphs are kept that do not grow enough to be reported."""
WATCHES = 3
"""Times for each subject that forwards are watched for longer because more was recorded than back-propagated."""
LEAST_WATCH = 64
"""Windows of such a watch at least; it covers twice what was slept before."""
WALKS = 8
"""Backward calls walked in one window; more are micro-batches of the same loss."""
LONGEST_LOOK = 64
"""Steps of each optimizer after which an unfinished suspicion about its updates is given up until the next look."""
LONGEST_RECONCILING = 12
"""Windows of each optimizer after which an unfinished suspicion about its parameters waits for the next look."""
OTHERS = 4
"""Windows in a row of another kind after which a program is taken not to accumulate for a while."""


class Looks:
    """One observer's way through its plan.

    Args:
        plan: The plan.
        first: Windows of the first look, where a rule asks for more than the plan has.

    Attributes:
        number: Looks that are over since the subject was new.
        slept: Backward calls of the last sleep.
        wanted: Windows of each optimizer in this look.
    """

    def __init__(self, plan: Plan, first: int = 0) -> None:
        self._plan = plan
        self._first = max(plan.first, first)
        self._windows: Known[Optimizer, int] = Known()
        self._since = (time.perf_counter(), 0)
        self.slept = 0.0
        self.begin()

    def begin(self) -> None:
        """Something is new: look as at first."""
        self.number = 0
        self.wanted = self._first
        self._sleep = self._plan.sleep
        self._spent = 0.0
        self.extend()

    def extend(self) -> None:
        """Look at as many windows again as a look has, from now on."""
        self._total = 0
        self._windows.clear()

    def count(self, optimizer: Optimizer) -> None:
        """A window of this optimizer was looked at."""
        self._total += 1
        self._windows[optimizer] = self._windows.get(optimizer, 0) + 1

    def spend(self, started: float) -> None:
        """Time was spent looking, from `started` until now [s]."""
        self._spent += time.perf_counter() - started

    @property
    def optimizers(self) -> Iterator[Optimizer]:
        """Those that have stepped in this look."""
        return iter(self._windows)

    def is_over(self, is_open: bool = False, limit: int | None = None) -> bool:
        """Whether every optimizer that steps has had its windows and nothing is open, or it has lasted long enough.

        Args:
            is_open: Something about them is not settled yet.
            limit: Windows of each optimizer after which it is over in any case.
        """
        windows = list(self._windows.values())
        optimizers = max(1, len(windows))
        if self._total >= (limit or LIMIT * self.wanted) * optimizers:
            return True
        had_theirs = min(windows, default=0) >= self.wanted or sum(windows) < self._total  # some lived no longer
        return not is_open and had_theirs and self._total >= self.wanted * optimizers

    def rest(self, backwards: int = 0) -> float:
        """End the look: backward calls to sleep, longer each time.

        Args:
            backwards: Backward calls of the run so far, where the plan keeps to a share of the time.
        """
        pause = min(self._sleep, self._plan.longest)
        if self._plan.share:
            now = time.perf_counter()
            seconds = (now - self._since[0]) / max(1, backwards - self._since[1])
            self._since = (now, backwards)
            affordable = self._spent / max(self._plan.share * seconds, 1e-9)
            pause = min(pause, max(self._plan.least, affordable))
        self._sleep *= self._plan.factor
        self._spent = 0.0
        self.extend()
        self.number += 1
        self.wanted = self._plan.again
        self.slept = pause
        return pause


class Subjects:
    """Whether something new may have its first looks.

    Args:
        budget: Largest share of wall time spent looking at what comes after `FREE_SUBJECTS`.

    Attributes:
        spent: Time spent by observers that were awake [s].
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._count = 0
        self._steps = 0
        self._since = (time.perf_counter(), 0.0)
        self.spent = 0.0

    def is_new(self, steps: int) -> bool:
        """Whether all are to begin again; they have just begun where nothing has stepped since.

        Args:
            steps: Optimizer steps of the run so far.
        """
        if steps == self._steps:
            return False
        if self._count < FREE_SUBJECTS:
            self._count += 1
            self._since = (time.perf_counter(), self.spent)
        elif self.spent - self._since[1] > self._budget * (time.perf_counter() - self._since[0]):
            return False
        self._steps = steps
        return True
