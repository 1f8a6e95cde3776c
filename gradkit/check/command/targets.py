"""The functions `python -m gradkit.check` knows, each with its gradient by hand as the notebook writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradkit.check.engine.errors import CheckInputError


@dataclass(frozen=True)
class Target:
    """A function, a point and a hand-written gradient.

    Attributes:
        fn: Takes the inputs, returns the scalar loss.
        inputs: The point; float64, differentiated where they require gradients (everywhere, if none does).
        manual: The gradient by hand.
        reference: The same function in a form that stays finite, for the differences.
        cotangent: What outputs that are no scalar are contracted with.
    """

    fn: Callable[..., Any]
    inputs: Any
    manual: Callable[..., Any] | None = None
    reference: Callable[..., Any] | None = None
    cotangent: Any = None


def square(scale: float) -> Target:
    """Y = x^2; dy/dx = 2 x."""
    return Target(lambda x: x**2, (_number(3.0 * scale),), lambda x: 2 * x)


def sine_of_square(scale: float) -> Target:
    """Z = sin(x^2); dz/dx = cos(x^2) 2 x."""
    return Target(lambda x: torch.sin(x**2), (_number(2.0 * scale),), lambda x: torch.cos(x**2) * 2 * x)


def vector_mean(scale: float) -> Target:
    """Mean of x^2 over a vector; 2 x / n."""
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) * scale
    return Target(lambda x: (x**2).mean(), (x,), lambda x: 2 * x / x.numel())


def worked_example(scale: float) -> Target:
    """The notebook's logistic regression of one sample: w = 1, b = 0, x = 6.7, y = 0."""

    def by_hand(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y_pred = torch.sigmoid(w * x + b)
        d_loss_d_y_pred = (y_pred - y) / (y_pred * (1 - y_pred))
        d_y_pred_d_z = y_pred * (1 - y_pred)
        return d_loss_d_y_pred * d_y_pred_d_z * x, d_loss_d_y_pred * d_y_pred_d_z

    inputs = (_leaf(1.0 * scale), _leaf(0.0), _number(6.7), _number(0.0))
    return Target(
        lambda w, b, x, y: _from_probability(torch.sigmoid(w * x + b), y),
        inputs,
        by_hand,
        lambda w, b, x, y: _from_logit(w * x + b, y),
    )


def logistic_textbook(scale: float) -> Target:
    """A batch through probabilities: (p - y) / (p (1 - p)) times p (1 - p) times x, averaged."""

    def by_hand(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.sigmoid(x @ w + b)
        d_z = (p - y) / (p * (1 - p)) * (p * (1 - p)) / len(y)
        return x.T @ d_z, d_z.sum()

    return Target(
        lambda w, b, x, y: _from_probability(torch.sigmoid(x @ w + b), y).mean(),
        _batch(scale),
        by_hand,
        lambda w, b, x, y: _from_logit(x @ w + b, y).mean(),
    )


def logistic_fused(scale: float) -> Target:
    """The same loss from logits, log(1 + exp(z)) - y z; the factors cancel to sigma(z) - y."""
    return Target(lambda w, b, x, y: _from_logit(x @ w + b, y).mean(), _batch(scale), _fused)


def logistic_with_logits(scale: float) -> Target:
    """Torch's own fused loss."""

    def loss(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(x @ w + b, y)

    return Target(loss, _batch(scale), _fused)


def softmax_cross_entropy(scale: float) -> Target:
    """Torch's cross entropy of 4 samples and 5 classes; (softmax(z) - one-hot) / 4."""
    z = _spread(4, 5) * scale
    labels = torch.tensor([0, 3, 2, 4])

    def by_hand(z: Tensor, labels: Tensor) -> Tensor:
        return (torch.softmax(z, -1) - F.one_hot(labels, z.shape[-1]).to(z)) / len(z)

    return Target(F.cross_entropy, (z, labels), by_hand)


def mlp(scale: float) -> Target:
    """Tanh layer, linear layer and the fused loss; backpropagation by hand."""
    w1 = (_spread(3, 4) * 0.5).requires_grad_()
    w2 = (_spread(4, 1)[:, 0] * scale).requires_grad_()
    _, _, x, y = _batch(1.0)

    def loss(w1: Tensor, w2: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return _from_logit(torch.tanh(x @ w1) @ w2, y).mean()

    def by_hand(w1: Tensor, w2: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(x @ w1)
        d_z = (torch.sigmoid(hidden @ w2) - y) / len(y)
        d_hidden = d_z[:, None] * w2 * (1 - hidden**2)
        return x.T @ d_hidden, hidden.T @ d_z

    return Target(loss, (w1, w2, x, y), by_hand)


BUILT_IN: Mapping[str, Callable[[float], Target]] = {
    each.__name__: each
    for each in (
        square,
        sine_of_square,
        vector_mean,
        worked_example,
        logistic_textbook,
        logistic_fused,
        logistic_with_logits,
        softmax_cross_entropy,
        mlp,
    )
}


def from_user(made: Any, name: str) -> Target:
    """What a user's own target function returned, checked.

    Raises:
        CheckInputError: It is neither a `Target` nor a mapping with `fn` and `inputs`.
    """
    if isinstance(made, Target):
        return made
    known = ("fn", "inputs", "manual", "reference", "cotangent")
    if not isinstance(made, Mapping) or not {"fn", "inputs"} <= set(made):
        raise CheckInputError(
            f"{name} returned a {type(made).__name__}; expected a dictionary with fn and inputs, and if you like"
            " manual, reference and cotangent."
        )
    if unknown := [each for each in made if each not in known]:
        raise CheckInputError(f"{name} returned the unknown key {unknown[0]!r}; expected {', '.join(known)}.")
    return Target(**made)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _leaf(value: float) -> Tensor:
    return _number(value).requires_grad_()


def _spread(*shape: int) -> Tensor:
    """Fixed values between -1 and 1 without a pattern: the fractional parts of multiples of the golden ratio."""
    count = torch.Size(shape).numel()
    fractions = torch.arange(1, count + 1, dtype=torch.float64) * 0.6180339887498949
    return (2 * (fractions - fractions.floor()) - 1).reshape(shape)


def _batch(scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, bias, 6 samples of 3 features and their targets; the largest logit is `scale` in size."""
    x, w = _spread(6, 3), _spread(5, 1)[2:, 0]
    y = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    w = w * (scale / (x @ w).abs().max())
    return w.requires_grad_(), _leaf(0.0), x, y


def _from_probability(p: Tensor, y: Tensor) -> Tensor:
    """The loss as textbooks write it; infinite where p rounds to 0 or 1."""
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p))


def _from_logit(z: Tensor, y: Tensor) -> Tensor:
    """log(1 + exp(z)) - y z without overflow.

    Not `softplus`, which jumps by 2e-9 at 20, where torch replaces it by its argument.
    """
    return torch.logaddexp(z, torch.zeros_like(z)) - y * z


def _fused(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    d_z = (torch.sigmoid(x @ w + b) - y) / len(y)
    return x.T @ d_z, d_z.sum()
