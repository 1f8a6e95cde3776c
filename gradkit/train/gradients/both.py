"""Steps by autograd, and measures how far the hand-derived gradient is from autograd's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from gradkit.train.gradients.autograd import AutogradGradient
from gradkit.train.gradients.manual import ManualGradient
from gradkit.train.gradients.ulp import largest_differences


class BothGradients:
    """Autograd's gradient goes into `.grad`; the hand-derived one into sums of its own, compared per window.

    Everything random or stateful happens once: the hand-derived forward sees the random numbers autograd's forward saw,
    leaves the generators where that left them, and does not move running statistics again. So a run is bit for bit
    the run that `gradient=autograd` makes.

    Args:
        model: The model without wrappers.
        automatic: The gradient that is used.
        manual: The gradient it is compared with.
        averaged: Whether processes average `.grad`; the hand-derived gradient is then averaged as well.
    """

    builds_graph = True

    def __init__(
        self, model: nn.Module, automatic: AutogradGradient, manual: ManualGradient, *, averaged: bool
    ) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._automatic, self._manual, self._averaged = automatic, manual, averaged
        self._sums: dict[Tensor, Tensor] = {}

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """See `GradientMethod`."""
        device = features.device
        before = _random_state(device) if self._manual.draws else None
        loss = self._automatic.forward(features, targets)
        with _replayed(before, device):
            self._manual.forward(features, targets, update_statistics=False)
        return loss

    def backward(self, loss: Tensor, share: float) -> None:
        """See `GradientMethod`."""
        # A window that was never compared, such as the later evaluations of an LBFGS step, ends where .grad is cleared.
        if all(parameter.grad is None for parameter in self._parameters):
            self._sums.clear()
        self._automatic.backward(loss, share)
        with torch.no_grad():
            for parameter, gradient in self._manual.gradients(share):
                if parameter in self._sums:
                    self._sums[parameter].add_(gradient)
                else:
                    self._sums[parameter] = gradient

    @torch.no_grad()
    def differences(self) -> dict[str, Tensor]:
        """Largest difference to `.grad` over all parameters, absolute and in units in the last place.

        Returns:
            `manual_abs_diff` and `manual_ulp_diff`, 0-dim, on the device; see `gradkit.train.gradients.ulp`.
        """
        if not self._sums:
            return {}
        pairs = []
        for parameter, total in self._sums.items():
            if self._averaged:
                distributed.all_reduce(total)
                total.div_(distributed.get_world_size())
            pairs.append((total, parameter.grad if parameter.grad is not None else torch.zeros_like(total)))
        self._sums = {}
        absolute, ulps = largest_differences(pairs)
        return {"manual_abs_diff": absolute, "manual_ulp_diff": ulps}


def _random_state(device: torch.device) -> Tensor:
    """The state of the generator dropout draws from; reading it does not wait for the device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@contextmanager
def _replayed(state: Tensor | None, device: torch.device) -> Iterator[None]:
    """Run the block from an earlier random state and leave the present one untouched."""
    if state is None:
        yield
        return
    present = _random_state(device)
    _set_random_state(state, device)
    try:
        yield
    finally:
        _set_random_state(present, device)
