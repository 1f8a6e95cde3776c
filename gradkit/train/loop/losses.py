"""Mean binary cross-entropy in its three forms, a user's own loss, and the L1 and L2 penalties on the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradkit.errors import ConfigError, did_you_mean
from gradkit.train.models.notebook import Notebook
from gradkit.train.schema.models import CustomLoss, LossConfig

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Logits (batch,) and targets (batch,) in [0, 1] to a 0-dim mean loss, without penalties."""


def build_loss(config: LossConfig, *, trust: Sequence[str] = ()) -> LossFunction:
    """The loss a configuration names; label smoothing and `pos_weight` are inside it, penalties are not.

    Args:
        config: The `loss` group.
        trust: Module prefixes a custom loss may come from.

    Raises:
        ConfigError: The name is unknown, a custom loss cannot be imported, or `pos_weight` is given with one.
    """
    if config.name == "custom":
        return _custom(config, trust)
    if config.name not in _FORMS:
        raise ConfigError(f"loss={config.name!r} is unknown.{did_you_mean(config.name, [*_FORMS, 'custom'])}")
    return _FORMS[config.name](config)


class _Loss:
    """What the three forms share: smoothing, and the weight of positive samples."""

    def __init__(self, config: LossConfig) -> None:
        self._smoothing = config.label_smoothing
        self._pos_weight = config.pos_weight


class BceWithLogits(_Loss):
    """Cross-entropy straight from the logits; exact wherever the logits are finite.

    Source: `torch.nn.functional.binary_cross_entropy_with_logits`.
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, 0-dim."""
        targets = smooth(targets, self._smoothing)
        if self._pos_weight is None:
            return F.binary_cross_entropy_with_logits(logits, targets)
        weight = torch.full((), self._pos_weight, dtype=logits.dtype, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)


class BceOnProbabilities(_Loss):
    """Cross-entropy of sigmoid(z), which torch clamps at 100 nats a sample; its gradient dies where sigmoid saturates.

    Source: `torch.nn.functional.binary_cross_entropy`. It knows no `pos_weight`; its `weight` acts on whole samples,
    which is something else for targets between 0 and 1, so the two terms are weighted one by one.
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, 0-dim."""
        targets = smooth(targets, self._smoothing)
        probabilities = torch.sigmoid(logits)
        if self._pos_weight is None:
            return F.binary_cross_entropy(probabilities, targets)
        positive = F.binary_cross_entropy(probabilities, torch.ones_like(targets), weight=self._pos_weight * targets)
        return positive + F.binary_cross_entropy(probabilities, torch.zeros_like(targets), weight=1 - targets)


class Textbook(_Loss):
    """-(y log p + (1 - y) log(1 - p)) as written in the notebook: NaN as soon as p is exactly 0 or 1.

    In float32 that happens from logits of about 17 upwards and -104 downwards, in float64 from 37 and -745; the term
    that should vanish is 0 * log 0. Kept because it shows why the form with logits exists.
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, 0-dim."""
        targets = smooth(targets, self._smoothing)
        probabilities = torch.sigmoid(logits)
        positive = targets * torch.log(probabilities)
        if self._pos_weight is not None:
            positive = self._pos_weight * positive
        return -(positive + (1 - targets) * torch.log(1 - probabilities)).mean()


_FORMS: dict[str, type[BceWithLogits] | type[BceOnProbabilities] | type[Textbook]] = {
    "bce_with_logits": BceWithLogits,
    "bce_on_probabilities": BceOnProbabilities,
    "textbook": Textbook,
}


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """Targets moved towards one half, y (1 - s) + s / 2; the tensor itself when s is 0."""
    return targets if smoothing == 0 else targets * (1 - smoothing) + smoothing / 2


def _custom(config: LossConfig, trust: Sequence[str]) -> LossFunction:
    from gradkit.config.trust import import_trusted  # only a user's own code needs it

    if not isinstance(config, CustomLoss):
        raise ConfigError("loss=custom needs loss.target, the dotted path of a function.")
    if config.pos_weight is not None:
        raise ConfigError("loss.pos_weight is part of gradkit's own losses; loss=custom has to weight by itself.")
    target, smoothing = config.target, config.label_smoothing
    function = import_trusted(target, trust, "loss.target")

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        value = function(logits, smooth(targets, smoothing))
        if not isinstance(value, Tensor) or value.ndim != 0:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"loss.target={target} has to return a tensor without axes, such as a mean; got {got}.")
        return value

    return loss


class Penalty:
    """l1 * sum |w| + l2 / 2 * sum w^2 over the weights of a model, and its derivative.

    Weights are the parameters with two or more axes; of the notebook's two scalars, w. Biases and the scales of
    normalisation layers are left alone, as is usual.

    Args:
        config: The `loss` group.
        model: The model without wrappers.
    """

    def __init__(self, config: LossConfig, model: nn.Module) -> None:
        self._l1, self._l2 = config.l1, config.l2
        self.active = config.l1 > 0 or config.l2 > 0
        self._weights = [model.w] if isinstance(model, Notebook) else [p for p in model.parameters() if p.ndim >= 2]

    def add_to(self, loss: Tensor) -> Tensor:
        """The loss with the penalties added, 0-dim; the same tensor when there are none."""
        for weight in self._weights if self.active else ():
            if self._l1 > 0:
                loss = loss + self._l1 * weight.abs().sum()
            if self._l2 > 0:
                loss = loss + self._l2 / 2 * weight.square().sum()
        return loss

    def derivatives(self) -> list[tuple[Tensor, Tensor]]:
        """Each weight with l1 sign(w) + l2 w; sign(0) is 0, the subgradient autograd takes as well."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for weight in self._weights if self.active else ():
            total = self._l2 * weight.detach()
            if self._l1 > 0:
                total = total + self._l1 * weight.detach().sign()
            pairs.append((weight, total))
        return pairs
