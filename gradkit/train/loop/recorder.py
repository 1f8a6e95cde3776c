"""Keeps the values of each step on the device and writes them to the events every so many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradkit.runs.store import RunStore

SMALL_MODEL_TENSORS = 8
"""Up to this many gradients their norms are kept apart and combined at the flush: two calls fewer per step."""

Mirror = Callable[[Mapping[str, float], int], None]
"""Takes the values of one step and its number."""


class Recorder:
    """Records loss and gradient norm of every step without waiting for the device.

    Values stay 0-dim tensors until `flush`, which stacks them and reads them back once. `flush` runs by itself every
    `every` steps and has to be called at the end and before a checkpoint.

    Args:
        store: Where events go.
        attempt: Number of this attempt at the run, from 1.
        every: Steps between two reads.
        enabled: False keeps nothing but the last loss.
        learning_rate: Returns the learning rate in force.
        mirrors: Further readers of the same values.
    """

    def __init__(
        self,
        store: RunStore | None,
        *,
        attempt: int,
        every: int,
        enabled: bool,
        learning_rate: Callable[[], float],
        mirrors: Sequence[Mirror] = (),
    ) -> None:
        self._store = store
        self._attempt = attempt
        self._every = every
        self._enabled = enabled
        self._learning_rate = learning_rate
        self._mirrors = tuple(mirrors)
        self._rows: list[tuple[int, int, float]] = []
        self._losses: list[Tensor] = []
        self._norms: list[tuple[Tensor, ...]] = []
        self._extras: list[Mapping[str, Tensor]] = []
        self.last: dict[str, float] = {}
        """The values of the last step that was read back."""
        self.maxima: dict[str, float] = {}
        """The largest value so far of each extra."""

    def record(
        self, step: int, epoch: int, loss: Tensor, parameters: Sequence[nn.Parameter], extras: Mapping[str, Tensor]
    ) -> None:
        """Keep one step's loss (0-dim), the 2-norm of all gradients before clipping, and `extras` (0-dim each)."""
        if not self._enabled:
            return
        self._rows.append((step, epoch, self._learning_rate()))
        self._losses.append(loss)
        self._norms.append(gradient_norms(parameters))
        self._extras.append(extras)
        if len(self._rows) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Read the kept values back, one wait for the device, and write them out."""
        if not self._rows:
            return
        rows, losses, norms, extras = self._rows, self._losses, self._norms, self._extras
        self._rows, self._losses, self._norms, self._extras = [], [], [], []
        columns: dict[str, list[float]] = {
            "loss": read(losses),
            "grad_norm_l2": _combine(norms),
        }
        for name in extras[0]:
            columns[name] = read([extra[name] for extra in extras])
            self.maxima[name] = max(self.maxima.get(name, 0.0), *columns[name])
        names = ("event", "attempt", "step", "epoch", "lr", *columns)
        events: list[dict[str, Any]] = [
            dict(zip(names, ("step", self._attempt, *row, *values), strict=True))
            for row, values in zip(rows, zip(*columns.values(), strict=True), strict=True)
        ]
        for mirror in self._mirrors:
            for event in events:
                mirror({name: event[name] for name in ("lr", *columns)}, event["step"])
        self.last = {name: column[-1] for name, column in columns.items()}
        if self._store is not None:
            self._store.append(events)


def gradient_norms(parameters: Sequence[nn.Parameter]) -> tuple[Tensor, ...]:
    """2-norms whose own 2-norm is that of all gradients together: one each for few parameters, otherwise one."""
    try:
        norms = torch._foreach_norm([parameter.grad for parameter in parameters])  # type: ignore[misc]
    except (TypeError, NotImplementedError):  # a parameter without gradient, or a sparse one
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return ()
        norms = torch._foreach_norm([grad.coalesce().values() if grad.is_sparse else grad for grad in gradients])
    return tuple(norms) if len(norms) <= SMALL_MODEL_TENSORS else (_total(norms),)


def _total(norms: Sequence[Tensor]) -> Tensor:
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(tuple(norms)))


def _combine(norms: Sequence[tuple[Tensor, ...]]) -> list[float]:
    """The total 2-norm of each step; a step without any gradient has 0."""
    width = len(norms[0])
    if width == 0 or any(len(step) != width for step in norms):
        return read([_total(step) if step else torch.zeros(()) for step in norms])
    table = torch.stack([norm for step in norms for norm in step]).view(-1, width)
    totals: list[float] = torch.linalg.vector_norm(table.double(), dim=1).tolist()
    return totals


def read(values: Sequence[Tensor]) -> list[float]:
    """The numbers of 0-dim tensors, read with one wait for the device."""
    with torch.no_grad():
        numbers: list[float] = torch.stack(tuple(values)).double().tolist()
    return numbers
