"""Records the trajectory of whatever trains in this process: a plain loop, Lightning, Hugging Face, `gradkit.train`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradkit.errors import ConfigError
from gradkit.observe.monitor import Monitor
from gradkit.observe.program.living import living_roots
from gradkit.observe.program.names import plain_name
from gradkit.observe.windows.steps import Steps
from gradkit.trajectory.measure import dot, gradients_of, moments, norm, numbers, projection, wide
from gradkit.trajectory.samples import SampleHooks, samples_in
from gradkit.trajectory.values import ParameterPrint, Trajectory

_SETTINGS_LEFT_OUT = ("params", "param_names", "foreach", "fused", "capturable", "differentiable", "maximize")


class Recording:
    """A recording of every optimizer step between `with` and its end; nothing it does changes the training.

    Loss, gradient and update are measured at the steps of torch optimizers, the samples at the forward calls of
    modules that have parameters and run with gradients on. A loop without either hands them in: `step` around an update
    made by hand, `batch` for the samples. Values stay on their device until the end.

    Args:
        targets: Models and optimizers to record; with none, every optimizer that steps.

    Raises:
        ConfigError: A target is neither model nor optimizer.
    """

    def __init__(self, *targets: Any) -> None:
        self._tape = _Tape(self, targets)
        self._named = self._tape.models
        self._parameters: dict[int, _Parameter] = {}
        self._windows: dict[int, _Window] = {}
        self._rows: list[dict[str, Tensor | float | None]] = []
        self._settings: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._dtype: str | None = None
        self._pending = _Pending()
        self._last_loss: Tensor | None = None
        self._stepping = 0
        self._samples = SampleHooks(self._see_samples, self._tape)
        self._result: Trajectory | None = None

    @property
    def trajectory(self) -> Trajectory:
        """What was recorded; only after the end of the `with` block.

        Raises:
            ConfigError: The block has not ended, or has not begun.
        """
        if self._result is None:
            raise ConfigError("A recording can be read after its `with` block has ended.")
        return self._result

    def __enter__(self) -> Recording:
        for model in self._named:
            for name, parameter in model.named_parameters():
                self._names.setdefault(id(parameter), plain_name(name))
                self._know(parameter)
        self._tape.start()
        try:
            self._samples.start()
        except BaseException:
            self._tape.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._samples.stop()
        self._tape.stop()
        if error is None:
            if self._tape.problem is not None:
                raise self._tape.problem
            self._result = self._read()

    # --- for loops that do not use modules or optimizers --------------------------------------------------------------

    def batch(self, *tensors: Tensor) -> None:
        """Say which samples the present window uses, for a loop that calls no module with them.

        Args:
            tensors: (samples, ...) each, of any dtype.
        """
        self._see_samples(tensors)

    @contextmanager
    def step(self, parameters: Sequence[Tensor], loss: Tensor | float | None = None) -> Iterator[None]:
        """Record the update of `parameters` made by hand inside this block as one step.

        Args:
            parameters: Leaf tensors with their gradients in `.grad`.
            loss: The loss of the step, where no backward showed it.
        """
        key = -1
        if loss is not None:
            self._pending.loss = torch.as_tensor(loss).detach()
        before = self._measure_before(key, list(parameters), closure=False)
        yield
        self._measure_after(key, before, lr=None)

    # --- what the hooks call ------------------------------------------------------------------------------------------

    def _see_loss(self, roots: Sequence[Tensor]) -> None:
        if self._stepping and self._pending.loss_in_step:
            return  # LBFGS evaluates again and again; the first evaluation is that of the step's start
        values = [wide(root.detach()).sum() for root in roots if root.numel() == 1]
        if values:
            total = values[0] if len(values) == 1 else torch.stack(values).sum()
            self._pending.loss = total if self._pending.loss is None else self._pending.loss + total
            self._pending.loss_in_step = bool(self._stepping)

    def _see_samples(self, tensors: Sequence[Tensor]) -> None:
        if self._stepping and self._pending.loss_in_step:
            return
        count, signature = samples_in(tensors)
        if count is not None:
            self._pending.samples = (self._pending.samples or 0) + count
        if signature is not None:
            known = self._pending.signature
            self._pending.signature = signature if known is None else known + signature

    def before_step(self, optimizer: Optimizer, closure: bool) -> None:
        """An optimizer begins to step."""
        window = self._windows.get(id(optimizer))
        if window is not None and window.open is not None:
            return  # a step inside its own step
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self._named and not any(id(parameter) in self._names for parameter in parameters):
            return
        self._stepping += 1
        if not self._settings:
            self._settings = _settings(optimizer)
        before = self._measure_before(id(optimizer), parameters, closure=closure)
        self._windows[id(optimizer)].open = before

    def after_step(self, optimizer: Optimizer) -> None:
        """That step is over."""
        window = self._windows.get(id(optimizer))
        if window is None or window.open is None:
            return
        before, window.open = window.open, None
        self._stepping -= 1
        self._measure_after(id(optimizer), before, lr=float(optimizer.param_groups[0]["lr"]))

    # --- measuring ----------------------------------------------------------------------------------------------------

    def _measure_before(self, key: int, parameters: list[Tensor], *, closure: bool) -> _Before:
        for parameter in parameters:
            self._know(parameter)
        if self._dtype is None and parameters:
            self._dtype = str(parameters[0].dtype).removeprefix("torch.")
        self._windows.setdefault(key, _Window())
        weights = [parameter.detach().clone() for parameter in parameters]
        return _Before(parameters, weights, None if closure else gradients_of(parameters))

    def _measure_after(self, key: int, before: _Before, lr: float | None) -> None:
        window = self._windows[key]
        # With a closure the gradient exists only now; optimizers leave it in place.
        gradients = before.gradients if before.gradients is not None else gradients_of(before.parameters)
        if not self._rows:
            for parameter, gradient in zip(before.parameters, gradients, strict=True):
                if gradient is not None:
                    self._parameters[id(parameter)].first_gradient = moments(gradient)
        updates: list[Tensor | None] = [
            wide(parameter.detach()) - wide(weight)
            for parameter, weight in zip(before.parameters, before.weights, strict=True)
        ]
        weights: list[Tensor | None] = [*before.weights]
        loss = self._pending.loss if self._pending.loss is not None else self._last_loss
        row: dict[str, Tensor | float | None] = {
            "samples": self._pending.samples,
            "batch_signature": self._pending.signature,
            "lr": lr,
            "loss": loss,
            "weight_norm_l2": norm(weights),
            "weight_projection": projection(before.weights),
            "grad_norm_l2": norm(gradients),
            "update_norm_l2": norm(updates),
            "grad_weight_dot": dot(gradients, weights),
            "update_weight_dot": dot(updates, weights),
            "update_grad_dot": dot(updates, gradients),
        }
        if window.gradients is not None and len(window.gradients) == len(gradients):
            row["grad_previous_dot"] = dot(gradients, window.gradients)
            row["previous_grad_norm"] = norm(window.gradients)
        if window.updates is not None and len(window.updates) == len(updates):
            row["update_previous_dot"] = dot(updates, window.updates)
            row["previous_update_norm"] = norm(window.updates)
        self._rows.append(row)
        window.gradients, window.updates = gradients, updates
        self._last_loss = loss
        self._pending = _Pending()

    def _know(self, parameter: Tensor) -> None:
        if id(parameter) not in self._parameters:
            self._parameters[id(parameter)] = _Parameter(parameter, moments(parameter.detach()))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _read(self) -> Trajectory:
        """Read everything back and turn products into cosines."""
        rows = []
        for raw in self._rows:
            row = {name: float(value) for name, value in raw.items() if value is not None}
            for name, first, second in (
                ("grad_weight", "grad_norm_l2", "weight_norm_l2"),
                ("update_weight", "update_norm_l2", "weight_norm_l2"),
                ("update_grad", "update_norm_l2", "grad_norm_l2"),
                ("grad_previous", "grad_norm_l2", "previous_grad_norm"),
                ("update_previous", "update_norm_l2", "previous_update_norm"),
            ):
                if f"{name}_dot" in row:
                    size = row[first] * row[second]
                    dot = row.pop(f"{name}_dot")
                    if size > 0:
                        row[f"{name}_cosine"] = dot / size
            row.pop("previous_grad_norm", None)
            row.pop("previous_update_norm", None)
            rows.append(row)
        names = self._final_names()
        prints = {
            names[key]: ParameterPrint(
                shape=tuple(each.tensor.shape),
                initial=numbers(each.initial),
                final=numbers(moments(each.tensor.detach())),
                first_gradient=numbers(each.first_gradient),
            )
            for key, each in self._parameters.items()
        }
        return Trajectory(rows, prints, self._settings, self._dtype)

    def _final_names(self) -> dict[int, str]:
        """A name of its own for every parameter: its model's, else the shortest any living module gives it."""
        names = dict(self._names)
        if any(key not in names for key in self._parameters):
            found: dict[int, str] = {}
            for root in living_roots():
                for name, parameter in root.named_parameters():
                    key, name = id(parameter), plain_name(name)
                    if key not in found or (len(name), name) < (len(found[key]), found[key]):
                        found[key] = name
            names = {**found, **names}
        taken: dict[str, int] = {}
        unique = {}
        for place, key in enumerate(self._parameters):
            name = names.get(key, f"parameter {place}")
            taken[name] = taken.get(name, 0) + 1
            unique[key] = name if taken[name] == 1 else f"{name}#{taken[name]}"
        return unique


@dataclass
class _Pending:
    """What the present window has shown so far."""

    loss: Tensor | None = None
    loss_in_step: bool = False
    samples: float | None = None
    signature: Tensor | None = None


@dataclass
class _Parameter:
    tensor: Tensor
    initial: tuple[Tensor, Tensor]
    first_gradient: tuple[Tensor, Tensor] | None = None


@dataclass
class _Before:
    parameters: list[Tensor]
    weights: list[Tensor]
    gradients: list[Tensor | None] | None


@dataclass
class _Window:
    gradients: list[Tensor | None] | None = None
    updates: list[Tensor | None] | None = None
    open: _Before | None = field(default=None)


class _Tape(Monitor):
    """The observer's events, handed to a recording; no rule runs."""

    def __init__(self, recording: Recording, targets: Sequence[Any]) -> None:
        super().__init__(*targets, select=(), report="never")
        self._steps = _Heard(recording, self, self, self._roster, self._windows)
        self.problem: Exception | None = None

    def contain(self, where: str, error: Exception) -> None:
        self.problem = self.problem or error  # a recording with a hole is worth nothing: told at its end


class _Heard(Steps):
    """The steps of a run, told to a recording as well."""

    def __init__(self, recording: Recording, *run: Any) -> None:
        super().__init__(*run)
        self._recording = recording

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool = False, create_graph: bool = False) -> None:
        super().enter_backward(roots, retain_graph, create_graph)
        self._recording._see_loss(roots)

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().before_step(optimizer, args, kwargs)
        if self._book.ledger_of(optimizer) is not None:
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            self._recording.before_step(optimizer, callable(closure))

    def after_step(self, optimizer: Optimizer) -> None:
        super().after_step(optimizer)
        self._recording.after_step(optimizer)

    def _leaves_only_the_ledger(self) -> bool:
        return False  # a recording hears every event of every window


def _settings(optimizer: Optimizer) -> dict[str, Any]:
    """Class and settings of an optimizer as plain data; those of further groups where they differ from the first."""
    settings: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    first = optimizer.param_groups[0]
    for number, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if name in _SETTINGS_LEFT_OUT or (number and value == first.get(name)):
                continue
            plain = _plain(value)
            if plain is not None:
                settings[name if number == 0 else f"{name}[{number}]"] = plain
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (bool, int, float, str)) else None
