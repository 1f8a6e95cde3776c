"""The chain rule of logistic regression, in a general form and in a fused one that is several times faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, addmm, addmv, mm, mv, sigmoid
from torch.nn.functional import linear, softplus

from gradkit.train.gradients.derivation import ParameterGradient
from gradkit.train.gradients.method import accumulate
from gradkit.train.models.logistic import Logistic

_Buffers = tuple[tuple[Tensor, ...], tuple[Any, ...]]
"""What forward and backward use for one batch size."""

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
        return linear(self._x, self._linear.weight, self._linear.bias).squeeze(-1)

    def gradients(self, dl_dz: Tensor) -> Iterable[ParameterGradient]:
        """See `Derivation`."""
        if self._linear.weight.requires_grad:
            yield self._linear.weight, dl_dz.unsqueeze(0).mm(self._x)
        if self._linear.bias.requires_grad:
            yield self._linear.bias, dl_dz.sum(0, keepdim=True)


class FusedLogistic:
    """Logistic regression under the loss with logits: loss and gradient in eight small operations.

    For each sample, with p = sigmoid(z),

        l     = log(1 + exp(z)) - y z    (softplus minus the linear term; no exponential overflows)
        dl/dz = p - y

    and both have the form a - y b, with (a, b) = (softplus(z), z) and (p, 1). They are the two rows of one tensor, so
    one operation subtracts the targets from both. The arithmetic of the gradient is autograd's, operation for
    operation; the loss agrees with torch's to rounding.

    At small batches time goes into calling operations rather than into arithmetic (about a microsecond each on a CPU),
    so buffers are kept per batch size and parameters are read through views kept alive. A view is replaced when its
    parameter has moved to other memory; as the view holds on to the old memory, a changed address is a sure sign.
    The tensors handed out, loss and gradients, are always new.

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
        self._softplus = softplus_of(self._row.dtype)
        self._buffers: dict[int, _Buffers] = {}
        self._shape: torch.Size | None = None

    def _adapt(self, shape: torch.Size) -> None:
        """Take the buffers of a batch of another shape than the last."""
        n = shape[0]
        if n not in self._buffers:
            if len(self._buffers) >= _SIZES_KEPT:
                self._buffers.clear()
            self._buffers[n] = self._allocate(n)
        self._for_forward, self._for_backward = self._buffers[n]
        self._shape, self._flat = shape, len(shape) == 2

    def _allocate(self, n: int) -> _Buffers:
        subtracted = self._row.new_ones(2, n)  # rows z and 1
        rows = self._row.new_empty(2, n)  # rows l and dl/dz
        shares, sizes, ones = (self._row.new_full((n,), value) for value in (1 / n, n, 1))
        forward = (self._offset.expand(n), self._row, subtracted, subtracted[0], rows, rows[0], rows[1], shares)
        # Dividing by a power of two is exact, before the sums as after them: the products take it along.
        factor = 1 / n if n & (n - 1) == 0 else None
        return forward, (factor, rows[1], rows[1:], sizes, ones, shares, torch.zeros_like(self._weight))

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """See `GradientMethod`."""
        if self._weight.data_ptr() != self._weight_address or self._bias.data_ptr() != self._bias_address:
            self._bind()
        if features.shape != self._shape:
            self._adapt(features.shape)
        if not self._flat:
            features = features.flatten(1)
        offset, row, subtracted, z, rows, losses, dl_dz, shares = self._for_forward
        addmv(offset, features, row, out=z)
        self._softplus(z, out=losses)
        sigmoid(z, out=dl_dz)
        rows.addcmul_(targets, subtracted, value=-1)
        self._features = features
        return losses.dot(shares)

    def backward(self, loss: Tensor, share: float) -> None:
        """See `GradientMethod`."""
        factor, dl_dz, dl_dz_row, sizes, ones, shares, zeros = self._for_backward
        if factor is not None and share == 1.0:
            dl_dw = addmm(zeros, dl_dz_row, self._features, beta=0, alpha=factor)
            dl_db = mv(dl_dz_row, shares)
        else:
            if share != 1.0:
                dl_dz.mul_(share)
            dl_dz.div_(sizes)
            dl_dw, dl_db = mm(dl_dz_row, self._features), mv(dl_dz_row, ones)
        weight, bias = self._weight, self._bias
        if weight.grad is None and bias.grad is None:
            weight.grad, bias.grad = dl_dw, dl_db
        else:
            accumulate(weight, dl_dw)
            accumulate(bias, dl_db)

    def differences(self) -> dict[str, Tensor]:
        """Nothing is compared."""
        return {}


def softplus_of(dtype: torch.dtype) -> Callable[..., Tensor]:
    """log(1 + exp(z)), exact to rounding in the dtype.

    torch returns z itself above a threshold, 20 unless told otherwise. What that leaves out, exp(-20) = 2e-9, is below
    half a unit of rounding of 20 in float32 (1e-6) but not in float64 (2e-15); exp(-40) = 4e-18 is.
    """
    return partial(softplus, threshold=40.0) if dtype == torch.float64 else softplus
