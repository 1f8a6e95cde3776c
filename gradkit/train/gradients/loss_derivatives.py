"""Derivatives of the three losses with respect to the logits, by hand.

Throughout, z is the logit of one sample, p = sigmoid(z), y its target after smoothing, c the weight of positive samples
(`pos_weight`, else 1), n the number of samples. The loss is the mean of

    l = -(c y log p + (1 - y) log(1 - p)),

and dp/dz = p (1 - p). The operations are ordered as in ATen's own backward formulas, so that the result equals
autograd's bit for bit wherever both run the same kernels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gradkit.errors import ConfigError
from gradkit.train.loop.losses import smooth
from gradkit.train.schema.models import LossConfig

_SMALLEST_SLOPE = 9.999999960041972e-13
"""Floor of p (1 - p): 1e-12 rounded to float32, which is what ATen uses in float64 as well.

Source: EPSILON, a float, in aten/src/ATen/native/Loss.cpp. Written as 1e-12 the gradients of saturated samples differ
from autograd's in the ninth digit, and LBFGS ends somewhere else altogether."""

LogitDerivative = Callable[[Tensor, Tensor, float], Tensor]
"""Logits (n,), targets (n,) and share to share * d(mean loss)/dz, (n,), a new tensor."""


def logit_derivative(config: LossConfig) -> LogitDerivative:
    """The derivative of the configured loss, penalties apart.

    Raises:
        ConfigError: There is none by hand.
    """
    if config.name not in _FORMS:
        raise ConfigError(
            f"gradient=manual and gradient=both have no derivative of loss={config.name}; use gradient=autograd."
        )
    form, smoothing, positive = _FORMS[config.name], config.label_smoothing, config.pos_weight

    def derivative(logits: Tensor, targets: Tensor, share: float) -> Tensor:
        return form(logits, smooth(targets, smoothing), positive, share)

    return derivative


def _with_logits(z: Tensor, y: Tensor, c: float | None, share: float) -> Tensor:
    """dl/dz = p - y; with c, (c y + 1 - y) p - c y.

    The fractions of the chain rule are cancelled on paper: -c y (1 - p) + (1 - y) p. Nothing is divided, so nothing
    can break, however large z is.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.91, for c = 1.
    """
    p = z.sigmoid()
    if c is None:
        result = p.sub_(y)
    else:
        positive = c * y
        result = positive.add(1).sub_(y).mul_(p).sub_(positive)
    return _mean(result, share)


def _on_probabilities(z: Tensor, y: Tensor, c: float | None, share: float) -> Tensor:
    """dl/dp * dp/dz with dl/dp = (p - y) / max(p (1 - p), 1e-12).

    Where p is exactly 0 or 1 the floor keeps the first factor finite while the second is 0: the gradient is 0 even for
    a sample that is wrong with full confidence, and learning stops there. With c the two terms of l are differentiated
    one by one, with targets 1 and 0 and the weights c y and 1 - y.

    Source: the chain rule of the notebook, with the clamp torch.nn.functional.binary_cross_entropy documents.
    """
    p = z.sigmoid()
    slope = (1 - p).mul_(p)
    floored = slope.clamp(min=_SMALLEST_SLOPE)
    if c is None:
        dl_dp = _mean(p.sub(y).div_(floored), share)
    else:
        positive = _mean((p - 1).div_(floored).mul_(c * y), share)
        dl_dp = positive.add_(_mean(p.div(floored).mul_(1 - y), share))
    return dl_dp.mul_(1 - p).mul_(p)


def _textbook(z: Tensor, y: Tensor, c: float | None, share: float) -> Tensor:
    """The notebook's chain rule, unclamped: dL/dp * dp/dz, two of its three factors; the third, dz/dw, is the model's.

    Each term of l has its own fraction, dl/dp = -c y / p + (1 - y) / (1 - p); with c = 1 and brought to one denominator
    it is the notebook's (p - y) / (p (1 - p)). Kept apart, as autograd keeps them. dp/dz = p (1 - p).

    At saturation dp/dz is 0, and one of the fractions is 0/0 for a right prediction and 1/0 for a wrong one: either way
    the product is NaN, as autograd's is.

    Source: the notebook's "Aam Zindagi" cell, `d_loss_dy_pred * dy_pred_d_z * dz_d_w`.
    """
    p = z.sigmoid()
    each = z.new_full((), share) / z.numel()  # what the mean passes back to every sample
    positive = each if c is None else each * c
    dl_dp = (-positive * y).div_(p).add_((each * (1 - y)).div_(1 - p))
    return dl_dp.mul_(1 - p).mul_(p)


def _mean(derivatives: Tensor, share: float) -> Tensor:
    """The derivative of the mean, times share; in place, in autograd's order: the incoming gradient, then 1 / n."""
    if share != 1.0:
        derivatives.mul_(share)
    return derivatives.div_(derivatives.numel())


_FORMS: dict[str, Callable[[Tensor, Tensor, float | None, float], Tensor]] = {
    "bce_with_logits": _with_logits,
    "bce_on_probabilities": _on_probabilities,
    "textbook": _textbook,
}
