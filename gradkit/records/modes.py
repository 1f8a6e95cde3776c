"""Train and eval mode, in steps and in passes of evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradkit.records.places import Location
from gradkit.records.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeStep(Record):
    """A step on gradients of forwards that all ran with the whole trained model in eval mode.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of its step.
        count: Such steps in a row, this one included.
        model: Type name of the model.
        layers: Dropout and batch-norm layers that ran in eval mode and that gradients flowed through, by type name.
        trained_before: Steps in train mode were seen before.
        step_line: The user's line that stepped.
        eval_line: The user's line that put the model in eval mode, where that was seen.
    """

    optimizer: str
    step: int
    count: int
    model: str
    layers: Mapping[str, int] = field(default_factory=dict)
    trained_before: bool = False
    step_line: Location | None = None
    eval_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPass(Record):
    """A stretch of forwards of a trained model between two backward calls, none of which was back-propagated.

    Attributes:
        step: Optimizer steps so far.
        model: Type name of the model.
        training: Its mode.
        forwards: Forwards of the stretch.
        recorded: Those that recorded a graph, each proven unused.
        active_layers: Dropout and batch-norm layers that ran in train mode, by type name.
        ungoverned: Dropout that ran and that the model's mode does not govern, by type or function name: layers that
            are no part of the model, and functional calls (those of one forward).
        saved_bytes: Bytes saved for backward in all of them together, without parameters; None when not measured.
        seconds: Time from the first to the last forward [s].
        location: The user's line that called the model.
        dropout_line: The user's line of the first of `ungoverned`.
    """

    step: int
    model: str
    training: bool
    forwards: int
    recorded: int
    active_layers: Mapping[str, int] = field(default_factory=dict)
    ungoverned: Mapping[str, int] = field(default_factory=dict)
    saved_bytes: int | None = None
    seconds: float = 0.0
    location: Location | None = None
    dropout_line: Location | None = None
