"""The gradient of binary cross-entropy in four forms, in one dtype, at one size of the logits, against float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradkit.config.fields import key
from gradkit.experiment.programs.settings import read_settings, write_run

if TYPE_CHECKING:
    from torch import Tensor

FORMS = ("textbook", "fused", "autograd_on_probabilities", "autograd_with_logits")


@dataclass
class SaturationSettings:
    """One form of the gradient of the mean loss of one batch."""

    form: str = key(
        "textbook",
        "textbook: dL/dp * dp/dz * dz/dw by hand; fused: (sigma(z) - y) x by hand; the others by autograd",
        choices=FORMS,
    )
    dtype: str = key("float32", "arithmetic", choices=("float64", "float32", "bfloat16", "float16"))
    scale: float = key(1.0, "standard deviation of the logits", above=0)
    batch: int = key(256, "samples", low=1, high=1_000_000)
    dimensions: int = key(30, "features", low=1, high=100_000)
    seed: int = key(0, "of the batch", low=0)


def resolved(overrides: Sequence[str]) -> dict[str, Any]:
    """See `Program`."""
    return asdict(read_settings(SaturationSettings, overrides, 0))


def run(overrides: Sequence[str], seed: int, folder: Path) -> None:
    """See `Program`."""
    settings = read_settings(SaturationSettings, overrides, seed)
    write_run(folder, overrides, settings, lambda store: measured(settings))


def measured(settings: SaturationSettings) -> dict[str, float]:
    """How far one form is from the exact gradient.

    The exact gradient is sigma(z) - y in float64 at the inputs as the dtype rounds them, so the error is that of the
    computation and not of the inputs.

    Returns:
        `relative_error`: |gradient - exact| / |exact|, 2-norms; infinite when the gradient is not finite.
        `non_finite`: share of the samples whose own factor dL/dz is not finite. `lost`: share of the samples whose
        factor is exactly zero although the exact one is above the dtype's smallest normal number.
    """
    import torch

    dtype = getattr(torch, settings.dtype)
    draw = torch.Generator().manual_seed(settings.seed)
    x = torch.randn(settings.batch, settings.dimensions, generator=draw, dtype=torch.float64).to(dtype)
    direction = torch.randn(settings.dimensions, generator=draw, dtype=torch.float64)
    weights = (direction / direction.norm() * settings.scale).to(dtype)
    # Labels of a model that is often right and sure: each wrong sample has a large gradient, each right one a tiny one.
    y = (torch.rand(settings.batch, generator=draw, dtype=torch.float64) < 0.5).to(dtype)
    exact_logits = x.double() @ weights.double()
    exact_factor = torch.sigmoid(exact_logits) - y.double()
    exact = x.double().T @ exact_factor / settings.batch
    gradient, factor = _gradient(settings.form, x, weights, y)
    error = float((gradient.double() - exact).norm() / exact.norm())
    above = exact_factor.abs() > torch.finfo(dtype).tiny
    return {
        "relative_error": error if error == error else float("inf"),
        "non_finite": float((~torch.isfinite(factor)).double().mean()),
        "lost": float(((factor == 0) & above).double().mean()),
    }


def _gradient(form: str, x: Tensor, weights: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the mean loss with respect to the weights, and each sample's dL/dz times the batch size."""
    import torch
    from torch.nn import functional

    if form in ("textbook", "fused"):
        p = torch.sigmoid(x @ weights)
        factor = p - y if form == "fused" else (-(y / p) + (1 - y) / (1 - p)) * (p * (1 - p))
        return x.T @ (factor / len(y)), factor
    leaf = weights.clone().requires_grad_()
    z = x @ leaf
    z.retain_grad()
    if form == "autograd_with_logits":
        loss = functional.binary_cross_entropy_with_logits(z, y)
    else:
        p = torch.sigmoid(z)
        # Written out: torch's binary_cross_entropy clamps its logarithms at -100 and so hides what happens here.
        loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    loss.backward()
    assert leaf.grad is not None
    assert z.grad is not None
    return leaf.grad, z.grad * len(y)
