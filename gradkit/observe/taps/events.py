"""Every event that a tap tells, declared once; whoever listens overrides those it needs and no others.

A listener's method that is no event would never be called, so `Observer` refuses it when the class is made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from gradkit.observe.program.sites import Site

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(slots=True)
class Forward:
    """One call of a module that no other module called.

    Attributes:
        module: The module; not to be kept beyond the event.
        training: Its mode when the call began.
        recording: Autograd was on when the call began.
        site: The user's line of the call.
        inputs: The input tensors, by weak reference, to tell a repeated input.
        active: Dropout and batch-norm layers that ran in train mode, by type name.
        inactive: Those that ran in eval mode.
        inactive_over_gradients: Those of `inactive` that gradients flow through, or whose own parameters are trainable.
        stray: Those of `active` that drop something out and are no part of the module, by type name.
        stray_site: The line that called the first of these.
        calibrating: A batch-norm layer in train mode was collecting its statistics anew (no momentum, or just reset).
        dropped: The program drops the result of a call in train mode without gradients: it can only be after what the
            call does to the statistics of batch-norm.
        outputs: Nodes of the output's graph; empty when none was recorded.
        differentiated: A differentiation ran within the call, as where forces are the derivative of an energy.
        failed: The call raised.
    """

    module: nn.Module
    training: bool
    recording: bool
    site: Site
    inputs: tuple[weakref.ref[Tensor], ...] = ()
    active: list[str] = field(default_factory=list)
    inactive: list[str] = field(default_factory=list)
    inactive_over_gradients: list[nn.Module] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    stray_site: Site | None = None
    calibrating: bool = False
    dropped: bool = False
    outputs: list[Any] = field(default_factory=list)
    differentiated: bool = False
    failed: bool = False


class Listener:
    """What can be heard of a training program; nothing that is handed over may be kept beyond the call.

    Attributes:
        monitor: Who is told of a mistake of the listener's.
    """

    monitor: Any

    # --- told by a monitor, to those awake -----------------------------------------------------------------------

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """A backward that accumulates into `.grad` begins."""

    def leave_backward(self, failed: bool) -> None:
        """That backward is over, or raised when `failed`."""

    def enter_grad(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """A call such as `torch.autograd.grad`, which returns gradients instead of accumulating them, begins."""

    def optimizer_created(self, optimizer: Optimizer) -> None:
        """An optimizer this monitor watches became known, by its construction or its first step."""

    def before_step(self, optimizer: Optimizer, closure: bool) -> None:
        """An optimizer this monitor watches begins to step; nested calls of one optimizer count once."""

    def after_step(self, optimizer: Optimizer) -> None:
        """That step is over."""

    # --- told by a patch, asleep or awake ------------------------------------------------------------------------

    def mode_changed(self, module: nn.Module, mode: bool) -> None:
        """A module's training flag is about to change."""

    def gradients_disabled(self) -> None:
        """`no_grad` or `inference_mode` is entered."""

    def loader_started(self, loader: Any) -> None:
        """A pass over a data loader begins."""

    def pass_ended(self, iterator: Any) -> None:
        """An iterator of a data loader has no more batches."""

    def state_loaded(self, module: nn.Module, state: Mapping[str, Any], missing: frozenset[str]) -> None:
        """Weights were loaded into a module.

        Args:
            module: The module.
            state: What was to be loaded, by name.
            missing: Names of the module that it had nothing for.
        """

    def scheduler_steps(self, scheduler: Any, explicit: bool) -> None:
        """A learning-rate scheduler steps, or is constructed.

        Args:
            scheduler: The scheduler that the program calls; those it is composed of are not told.
            explicit: An epoch was given, so that the schedule does not depend on how often it stepped.
        """

    def phase_changed(self, subject: Any) -> None:
        """A module was frozen or unfrozen, or an optimizer was given a group, by a call."""

    # --- told by the global module hooks, while they are on ------------------------------------------------------

    def forward_begins(self, forward: Forward) -> None:
        """A module is called that no other module called."""

    def forward_ended(self, forward: Forward) -> None:
        """That call is over."""


EVENTS = frozenset(name for name in vars(Listener) if not name.startswith("_"))
"""The names of all events."""
TOLD_BY_MONITOR = (
    "enter_backward",
    "leave_backward",
    "enter_grad",
    "optimizer_created",
    "before_step",
    "after_step",
)
"""Those a sleeping observer does not hear."""


class Hearer(Protocol):
    """Who is told by the tap of every backward and every optimizer step of the process.

    Attributes:
        backwards_unseen: Backward calls of other threads; the tap counts them.
    """

    backwards_unseen: int

    @property
    def is_stepping(self) -> bool:
        """Whether an optimizer is in its step."""

    @property
    def sees_grad(self) -> bool:
        """Whether anyone hears of gradients that are returned."""

    def optimizer_created(self, optimizer: Optimizer) -> None:
        """An optimizer's constructor has just ended."""

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """A backward that accumulates into `.grad` begins."""

    def leave_backward(self, replaces: bool, failed: bool) -> None:
        """That backward is over, or raised; it `replaces` gradients where it created their graph."""

    def enter_grad(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Gradients are computed and returned, not accumulated."""

    def before_clipping(self) -> list[Callable[[], None]]:
        """Gradients are about to be scaled by one factor; what is returned is called afterwards."""

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An optimizer begins to step."""

    def after_step(self, optimizer: Optimizer) -> None:
        """That step is over."""

    def contain(self, where: str, error: Exception) -> None:
        """A mistake of gradkit's own."""

    def forget(self) -> None:
        """Something else was raised while gradkit looked: nothing may follow from what was seen."""

    def ends_for_good(self) -> None:
        """Several threads train at the same time: nothing more is told."""
