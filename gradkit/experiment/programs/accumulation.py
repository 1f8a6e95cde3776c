"""Gradients accumulated over micro-batches of sequences of unequal lengths, against the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gradkit.config.fields import key
from gradkit.experiment.programs.settings import read_settings, write_run
from gradkit.runs.store import RunStore

if TYPE_CHECKING:
    from torch import Tensor

REDUCTIONS = ("whole", "mean", "sum", "samples", "tokens")


@dataclass
class AccumulationSettings:
    """A logistic model of single tokens; the loss of a batch is the mean over all its tokens."""

    reduction: str = key(
        "whole",
        "whole: one backward; mean: mean of micro-batch means; sum: their sum; samples: weighted by samples;"
        " tokens: weighted by tokens",
        choices=REDUCTIONS,
    )
    micro_batch: int = key(16, "sequences in a micro-batch; the last of a batch may be shorter", low=1, high=100_000)
    batch: int = key(64, "sequences in a batch, after which the optimizer steps", low=1, high=100_000)
    sequences: int = key(512, "sequences to train on", low=2, high=1_000_000)
    longest: int = key(32, "tokens in the longest sequence; lengths are skewed towards short ones", low=1, high=10_000)
    dimensions: int = key(16, "features of a token", low=1, high=10_000)
    epochs: int = key(20, "passes over the sequences", low=1, high=10_000)
    lr: float = key(0.5, "learning rate of plain gradient descent", above=0)
    dtype: str = key("float32", "arithmetic", choices=("float32", "float64"))
    seed: int = key(0, "of data and order", low=0)


def resolved(overrides: Sequence[str]) -> dict[str, Any]:
    """See `Program`."""
    return asdict(read_settings(AccumulationSettings, overrides, 0))


def run(overrides: Sequence[str], seed: int, folder: Path) -> None:
    """See `Program`."""
    settings = read_settings(AccumulationSettings, overrides, seed)
    write_run(folder, overrides, settings, lambda store: trained(settings, store))


class _Tokens:
    """Sequences whose labels depend on their length, so that weighting short ones more has a price.

    Short sequences follow one rule and long ones a turned one: a loss that counts sequences instead of tokens learns
    more of the rule of the short ones.
    """

    def __init__(self, settings: AccumulationSettings, count: int, seed: int) -> None:
        import torch

        self.dtype = getattr(torch, settings.dtype)
        # The rules are those of the run's seed for training and test alike; only the samples differ.
        rules = torch.Generator().manual_seed(settings.seed)
        short, turned = torch.randn(2, settings.dimensions, generator=rules, dtype=torch.float64)
        draw = torch.Generator().manual_seed(seed)
        share = torch.rand(count, generator=draw, dtype=torch.float64) ** 3
        self.lengths = (1 + share * (settings.longest - 1)).round().long()
        total = int(self.lengths.sum())
        x = torch.randn(total, settings.dimensions, generator=draw, dtype=torch.float64)
        is_long = (self.lengths > settings.longest / 3).double().repeat_interleave(self.lengths)
        logits = 2 * (x @ short * (1 - is_long) + x @ turned * is_long) / settings.dimensions**0.5
        self.features = x.to(self.dtype)
        self.targets = (torch.rand(total, generator=draw, dtype=torch.float64) < torch.sigmoid(logits)).to(self.dtype)
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), self.lengths.cumsum(0)])

    def tokens(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        rows = torch.cat([torch.arange(int(self.starts[i]), int(self.starts[i + 1])) for i in chosen.tolist()])
        return self.features[rows], self.targets[rows]


def trained(settings: AccumulationSettings, store: RunStore) -> dict[str, float]:
    """Train, and at every step hold the accumulated gradient against that of the whole batch at the same parameters.

    Returns:
        `gradient_error`: mean over steps of |accumulated - whole| / |whole|. `worst_gradient_error`: the largest.
        `cosine`: mean cosine of the two. `length`: mean of |accumulated| / |whole|. `loss`: mean loss per token of
        fresh test sequences after the last step. `train_loss`: the same of the training sequences.
    """
    import torch
    from torch.nn import functional

    data = _Tokens(settings, settings.sequences, settings.seed * 2 + 1)
    test = _Tokens(settings, 2 * settings.sequences, settings.seed * 2 + 2)
    weights = torch.zeros(settings.dimensions, dtype=data.dtype, requires_grad=True)
    order = torch.Generator().manual_seed(settings.seed)
    errors: list[float] = []
    cosines: list[float] = []
    lengths: list[float] = []
    events: list[dict[str, float | str]] = []
    step = 0
    for epoch in range(settings.epochs):
        for batch in torch.randperm(settings.sequences, generator=order).split(settings.batch):
            x, y = data.tokens(batch)
            loss = functional.binary_cross_entropy_with_logits(x @ weights, y)
            (whole,) = torch.autograd.grad(loss, weights)
            weights.grad = None
            if settings.reduction == "whole":
                functional.binary_cross_entropy_with_logits(x @ weights, y).backward()
            else:
                _accumulate(weights, data, batch, settings)
            grad = cast("Tensor", weights.grad)  # the backward has filled it again
            error = float((grad - whole).norm() / whole.norm())
            errors.append(error)
            cosines.append(float(functional.cosine_similarity(grad, whole, dim=0)))
            lengths.append(float(grad.norm() / whole.norm()))
            events.append(
                {
                    "event": "step",
                    "attempt": 1,
                    "step": step,
                    "epoch": epoch,
                    "loss": loss.item(),
                    "grad_norm_l2": float(grad.norm()),
                    "gradient_error": error,
                    "cosine": cosines[-1],
                }
            )
            with torch.no_grad():
                weights -= settings.lr * grad
            step += 1
    store.append(events)
    with torch.no_grad():
        final = functional.binary_cross_entropy_with_logits(test.features @ weights, test.targets)
        own = functional.binary_cross_entropy_with_logits(data.features @ weights, data.targets)
    return {
        "gradient_error": sum(errors) / len(errors),
        "worst_gradient_error": max(errors),
        "cosine": sum(cosines) / len(cosines),
        "length": sum(lengths) / len(lengths),
        "loss": float(final),
        "train_loss": float(own),
    }


def _accumulate(weights: Tensor, data: _Tokens, batch: Tensor, settings: AccumulationSettings) -> None:
    """One backward per micro-batch, weighted as `reduction` says."""
    from torch.nn import functional

    parts = batch.split(settings.micro_batch)
    all_tokens = int(data.lengths[batch].sum())
    for part in parts:
        x, y = data.tokens(part)
        loss = functional.binary_cross_entropy_with_logits(x @ weights, y)
        share = {
            "mean": 1 / len(parts),
            "sum": 1.0,
            "samples": len(part) / len(batch),
            "tokens": len(y) / all_tokens,
        }[settings.reduction]
        (loss * share).backward()
