"""The chain rule of logistic regression, in a general form and in a fused one that is several times faster."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from gradkit.train.gradients.derivation import ParameterGradient
from gradkit.train.gradients.loss_derivatives import softplus_threshold
from gradkit.train.models.logistic import Logistic

_SIZES_KEPT = 8
"""Batch sizes whose buffers are kept; a run has two, its batch size and the rest of an epoch."""


class LogisticDerivation:
    """z = X w + b, hence dL/dw = X^T dL/dz and dL/db = sum_i dL/dz_i.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.2.
    """

    draws = False

    def __init__(self, model: Logistic) -> None:
        self._linear = model.linear

    def forward(self, features: Tensor, *, update_statistics: bool) -> Tensor:
        """See `Derivation`."""
        self._x = features.flatten(1)
        return F.linear(self._x, self._linear.weight, self._linear.bias).squeeze(-1)

    def gradients(self, dl_dz: Tensor) -> Iterable[ParameterGradient]:
        """See `Derivation`."""
        if self._linear.weight.requires_grad:
            yield self._linear.weight, dl_dz.unsqueeze(0).mm(self._x)
        if self._linear.bias.requires_grad:
            yield self._linear.bias, dl_dz.sum(0, keepdim=True)


class FusedLogistic:
    """Logistic regression under the loss with logits: loss and gradient in nine small operations.

    For each sample, with p = sigmoid(z),

        l     = log(1 + exp(z)) - y z    (softplus minus the linear term; no exponential overflows)
        dl/dz = p - y

    and both have the form a - y b, with (a, b) = (softplus(z), z) and (p, 1). They are the two rows of one tensor, so
    one operation subtracts the targets from both. The arithmetic of the gradient is autograd's, operation for
    operation; the loss agrees with torch's to rounding.

    At small batches time goes into calling operations rather than into arithmetic (about a microsecond each on a CPU),
    so buffers are kept per batch size and parameters are read through views kept alive. A view is replaced when its
    parameter has moved to other memory; as the view holds on to the old memory, a changed address is a sure sign.

    Args:
        model: The model, both of its parameters trainable.
    """

    builds_graph = False

    def __init__(self, model: Logistic) -> None:
        self._weight = model.linear.weight
        self._bias = model.linear.bias
        self._bind()

    def _bind(self) -> None:
        """Take views of the parameters where they are now."""
        self._row = self._weight.detach()[0]
        self._offset = self._bias.detach()
        self._weight_address, self._bias_address = self._weight.data_ptr(), self._bias.data_ptr()
        self._threshold = softplus_threshold(self._row.dtype)
        self._buffers: dict[int, tuple[Tensor, ...]] = {}

    def _allocate(self, n: int) -> tuple[Tensor, ...]:
        if len(self._buffers) >= _SIZES_KEPT:
            self._buffers.clear()
        subtracted = self._row.new_ones(2, n)  # rows z and 1
        rows = self._row.new_empty(2, n)  # rows l and dl/dz
        buffers = (
            self._offset.expand(n),
            subtracted,
            subtracted[0],
            rows,
            rows[0],
            rows[1],
            rows[1:],
            self._row.new_full((n,), 1 / n),
            self._row.new_full((n,), n),
            self._row.new_ones(n),
        )
        self._buffers[n] = buffers
        return buffers

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """See `GradientMethod`; the gradient is worked out here as well, for a share of 1."""
        if self._weight.data_ptr() != self._weight_address or self._bias.data_ptr() != self._bias_address:
            self._bind()
        shape = features.shape
        if len(shape) != 2:
            features = features.flatten(1)
        buffers = self._buffers.get(shape[0]) or self._allocate(shape[0])
        offset, subtracted, z, rows, losses, dl_dz, dl_dz_row, shares, sizes, ones = buffers
        torch.addmv(offset, features, self._row, out=z)
        F.softplus(z, 1, self._threshold, out=losses)  # type: ignore[call-arg]
        torch.sigmoid(z, out=dl_dz)
        rows.addcmul_(targets, subtracted, value=-1)
        self._features, self._window = features, (dl_dz, dl_dz_row, sizes, ones)
        return losses.dot(shares)

    def backward(self, loss: Tensor, share: float) -> None:
        """See `GradientMethod`."""
        dl_dz, dl_dz_row, sizes, ones = self._window
        if share != 1.0:
            dl_dz.mul_(share)
        dl_dz.div_(sizes)
        gradient = dl_dz_row.mm(self._features)
        parameter = self._weight
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad.add_(gradient)
        gradient = dl_dz_row.mv(ones)
        parameter = self._bias
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad.add_(gradient)

    def differences(self) -> dict[str, Tensor]:
        """Nothing is compared."""
        return {}
