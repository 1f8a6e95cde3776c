"""Notices what is new in a run without a new optimizer: a model, a parameter group, what is frozen, loaded weights.

What the program says by a call is heard at once. What it does by hand (`requires_grad = True` in a loop, another model
under the same optimizer) is looked for in single windows, each twice as far from the start as the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gradkit.observe.attention import PHASES, Looks
from gradkit.observe.books.outsiders import held_by
from gradkit.observe.observer import Observer
from gradkit.observe.taps import signals
from gradkit.observe.taps.loading import LOADING
from gradkit.observe.tensors.graph import leaves
from gradkit.observe.tensors.known import Known, KnownSet

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching


class Phases(Observer):
    """Has all observers begin again; writes nothing itself."""

    hears = (*signals.TO_ANOTHER_PHASE, LOADING)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        self._looks = Looks(PHASES)
        self._leaves: KnownSet[Tensor] = KnownSet()
        self._trainable: Known[Optimizer, list[bool]] = Known()

    def phase_changed(self, subject: Any) -> None:
        """A module or an optimizer that is watched was changed by a call."""
        if isinstance(subject, nn.Module):
            if self.monitor.trained_parameters().holds_any(subject.parameters()):
                self.monitor.begin_again()
        elif self.monitor.steps_of(subject):
            self.monitor.begin_again()

    def state_loaded(self, module: nn.Module, state: Mapping[str, Any], missing: frozenset[str]) -> None:
        """Weights were loaded into a module."""
        self.phase_changed(module)

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Parameters that no optimizer holds and that were not there before are those of another model."""
        held = held_by(self.monitor.optimizers())
        found = [leaf for leaf in leaves(roots) if isinstance(leaf, nn.Parameter) and leaf not in held]
        is_new = self._looks.number > 0 and not self._leaves.holds_all(found)
        self._leaves.update(found)
        if is_new:
            self.monitor.begin_again()

    def after_step(self, optimizer: Optimizer) -> None:
        """What an optimizer holds, and what of it is trained."""
        now = [parameter.requires_grad for group in optimizer.param_groups for parameter in group["params"]]
        is_new = self._trainable.get(optimizer, now) != now
        self._trainable[optimizer] = now
        self._looks.count(optimizer)
        if self._looks.is_over():
            self.monitor.pause(self, self._looks.rest())
        if is_new:
            self.monitor.begin_again()
