"""The chain rule of the notebook's model, dL/dp * dp/dz * dz/dw, as worked out in its "Aam Zindagi" cell."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from gradkit.train.gradients.derivation import ParameterGradient
from gradkit.train.models.notebook import Notebook


class NotebookDerivation:
    """z = w x + b, hence dz/dw = x and dz/db = 1.

    The first two factors, dL/dp * dp/dz, come from the loss (`loss_derivatives`). Over a batch, w and b are used once
    per sample, so their gradients are sums: dL/dw = sum_i dL/dz_i x_i, dL/db = sum_i dL/dz_i.

    Worked example: x = 6.7, y = 0, w = 1, b = 0 give p = sigmoid(6.7) = 0.9988, dL/dz = p - y = 0.9988,
    dL/dw = 0.9988 * 6.7 = 6.6918, dL/db = 0.9988.
    """

    draws = False

    def __init__(self, model: Notebook) -> None:
        self._model = model

    def forward(self, features: Tensor, *, update_statistics: bool) -> Tensor:
        """See `Derivation`."""
        model = self._model
        self._x = model.column(features)
        return model.w * self._x + model.b

    def gradients(self, dl_dz: Tensor) -> Iterable[ParameterGradient]:
        """See `Derivation`."""
        model = self._model
        if model.w.requires_grad:
            yield model.w, (dl_dz * self._x).sum()
        if model.b.requires_grad:
            yield model.b, dl_dz.sum()
