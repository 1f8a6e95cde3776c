"""The chain rule of the multi-layer perceptron: linear layers, batch normalisation, activations, dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradkit.train.gradients.derivation import ParameterGradient
from gradkit.train.models.mlp import ACTIVATIONS, HiddenLayer, Mlp, refuse_one_sample

ACTIVATION_DERIVATIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda upstream, a: torch.where(a > 0, upstream, 0),
    "tanh": lambda upstream, a: upstream * torch.addcmul(torch.ones_like(a), a, a, value=-1),
    "sigmoid": lambda upstream, a: upstream * (1 - a) * a,
}
"""dL/dh from dL/da and a = f(h): 1 where a > 0 else 0; 1 - a^2; a (1 - a). ReLU takes 0 at its kink, as torch does."""


@dataclass
class _Kept:
    """What one hidden layer's backward needs of its forward.

    Attributes:
        x: Input, (batch, inputs).
        h: Output of the linear layer, (batch, width); only with batch normalisation.
        mean: Mean used to normalise, (width,); only with batch normalisation.
        inverse_std: 1 / sqrt(variance + eps) used to normalise, (width,); only with batch normalisation.
        a: Output of the activation, (batch, width).
        mask: 0 where dropped, 1 / (1 - dropout) elsewhere, (batch, width); only with dropout.
    """

    x: Tensor
    h: Tensor
    mean: Tensor | None
    inverse_std: Tensor | None
    a: Tensor
    mask: Tensor | None


class MlpDerivation:
    """Backward through the layers, last first; L is the loss, D each layer's dL/d(output), (batch, width).

    linear, h = x W^T + b:     dL/dW = D^T x,  dL/db = column sums of D,  dL/dx = D W
    activation, a = f(u):      dL/du = D * f'(u), written with a
    dropout, o = a * m:        dL/da = D * m
    batch norm, see `_through_norm`

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323 (1986).
    """

    def __init__(self, model: Mlp) -> None:
        self._model = model
        self._layers = [layer for layer in model.hidden if isinstance(layer, HiddenLayer)]
        self._kept: list[_Kept] = []

    @property
    def draws(self) -> bool:
        """See `Derivation`."""
        return any(layer.dropout > 0 and layer.training for layer in self._layers)

    def forward(self, features: Tensor, *, update_statistics: bool) -> Tensor:
        """See `Derivation`."""
        x = features.flatten(1)
        self._kept = []
        for layer in self._layers:
            h = u = F.linear(x, layer.linear.weight, layer.linear.bias)
            mean = inverse_std = mask = None
            if layer.norm is not None:
                u, mean, inverse_std = _normalised(h, layer.norm, update_statistics)
            a = output = ACTIVATIONS[layer.activation](u)
            if layer.dropout > 0 and layer.training:
                # Dropping out a tensor of ones draws what dropping out `a` draws, on every device.
                mask = F.dropout(torch.ones_like(a), layer.dropout)
                output = a * mask
            self._kept.append(_Kept(x, h, mean, inverse_std, a, mask))
            x = output
        self._last = x
        return F.linear(x, self._model.output.weight, self._model.output.bias).squeeze(-1)

    def gradients(self, dl_dz: Tensor) -> Iterable[ParameterGradient]:
        """See `Derivation`."""
        upstream = dl_dz.unsqueeze(1)
        yield from _of_linear(self._model.output, upstream, self._last)
        upstream = upstream.mm(self._model.output.weight)
        for index in range(len(self._layers) - 1, -1, -1):
            layer, kept = self._layers[index], self._kept[index]
            if kept.mask is not None:
                upstream = upstream * kept.mask
            upstream = ACTIVATION_DERIVATIVES[layer.activation](upstream, kept.a)
            if layer.norm is not None:
                assert kept.mean is not None
                assert kept.inverse_std is not None
                x_hat = (kept.h - kept.mean) * kept.inverse_std
                yield from _of_norm(layer.norm, upstream, x_hat)
                upstream = _through_norm(layer.norm, upstream, x_hat, kept.inverse_std)
            yield from _of_linear(layer.linear, upstream, kept.x)
            if index > 0:
                upstream = upstream.mm(layer.linear.weight)


def _of_linear(linear: nn.Linear, upstream: Tensor, x: Tensor) -> Iterable[ParameterGradient]:
    """dL/dW = D^T x, (out, in), and dL/db, the column sums of D, (out,)."""
    if linear.weight.requires_grad:
        yield linear.weight, upstream.t().mm(x)
    if linear.bias is not None and linear.bias.requires_grad:
        yield linear.bias, upstream.sum(0)


def _normalised(h: Tensor, norm: nn.BatchNorm1d, update_statistics: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised and scaled values, and the mean and inverse standard deviation used.

    `native_batch_norm` is what the module itself ends in on a CPU; unlike it, it hands back the two statistics.
    """
    refuse_one_sample(h, norm)
    if not norm.training:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        inverse_std = (norm.running_var + norm.eps).rsqrt()
        return norm(h), norm.running_mean, inverse_std
    if update_statistics and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    running = (norm.running_mean, norm.running_var) if update_statistics else (None, None)
    momentum = norm.momentum if norm.momentum is not None else 0.0
    return torch.native_batch_norm(h, norm.weight, norm.bias, *running, True, momentum, norm.eps)


def _of_norm(norm: nn.BatchNorm1d, upstream: Tensor, x_hat: Tensor) -> Iterable[ParameterGradient]:
    """dL/dgamma, the column sums of D * x_hat, and dL/dbeta, the column sums of D; both (width,)."""
    if norm.weight.requires_grad:
        yield norm.weight, (upstream * x_hat).sum(0)
    if norm.bias.requires_grad:
        yield norm.bias, upstream.sum(0)


def _through_norm(norm: nn.BatchNorm1d, upstream: Tensor, x_hat: Tensor, inverse_std: Tensor) -> Tensor:
    """dL/dh for u = gamma x_hat + beta, x_hat = (h - mean) / std.

    In training, mean and variance depend on every h of the batch. Differentiating through both leaves

        dL/dh = gamma / std * (D - mean(D) - x_hat * mean(D * x_hat)),

    the means over the batch. In evaluation they are constants and dL/dh = gamma / std * D.

    Source: Ioffe and Szegedy, "Batch Normalization", 2015, section 3, the six chain-rule equations, put together.
    """
    if norm.training:
        upstream = upstream - upstream.mean(0) - x_hat * (upstream * x_hat).mean(0)
    return upstream * (norm.weight * inverse_std)
