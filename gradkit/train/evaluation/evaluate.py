"""Metrics of a model on one split, by torchmetrics."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_average_precision,
    binary_calibration_error,
)

from gradkit.train.data import Split
from gradkit.train.evaluation.inference import inference

EVALUATION_BATCH = 8192
"""Samples in one evaluation forward; large enough that the cost per call vanishes, small enough for any memory."""

CALIBRATION_BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017, section 2)."""


@torch.no_grad()
def metrics(logits: Tensor, targets: Tensor) -> dict[str, float | None]:
    """Accuracy, AUROC, average precision, log-loss and expected calibration error.

    Args:
        logits: Shape `(n,)`, any floating dtype.
        targets: Shape `(n,)`, 0 or 1, any dtype.

    Returns:
        One number each; None for AUROC and average precision when only one class is present, where they are
        undefined. Accuracy is at probability 0.5; log-loss is the mean in nats. Waits for the device once per metric.
    """
    labels = targets.long()
    # A loss or a rank worked out in half precision would have its rounding, beside that of the model.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    probabilities = torch.sigmoid(logits)
    if not torch.isfinite(logits).all():
        undefined = float("nan")
        return dict.fromkeys(("accuracy", "auroc", "average_precision", "log_loss", "calibration_error"), undefined)
    both = 0 < int(labels.sum()) < len(labels)
    return {
        # From the logits: the sigmoid rounds tiny positive ones to exactly 0.5.
        "accuracy": float(binary_accuracy((logits > 0).long(), labels)),
        "auroc": float(binary_auroc(probabilities, labels)) if both else None,
        "average_precision": float(binary_average_precision(probabilities, labels)) if both else None,
        "log_loss": float(F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))),
        "calibration_error": float(binary_calibration_error(probabilities, labels, n_bins=CALIBRATION_BINS)),
    }


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    mode: str,
    device: torch.device,
    dtype: torch.dtype,
    autocast: AbstractContextManager[Any] | None = None,
    eval_mode: bool = True,
) -> dict[str, float | None]:
    """The metrics of `model` on `split` under one inference mode; the model's own modes are restored.

    Args:
        model: Maps features `(batch, ...)` to logits `(batch,)`.
        split: Features `(n, ...)` and targets `(n,)` on the CPU.
        mode: One of the five of `gradkit.train.evaluation.inference`.
        device: Where the model is.
        dtype: Floating dtype of the features the model takes.
        autocast: Entered around the forwards, for mixed precision.
        eval_mode: Whether dropout and batch-norm are in eval mode, as they should be.

    Returns:
        What `metrics` returns.
    """
    logits = []
    with inference(model, mode, eval_mode=eval_mode) as forward, autocast or nullcontext():
        for features in split.features.split(EVALUATION_BATCH):
            # detach: under `tracked` a kept output would keep its whole graph.
            logits.append(forward(features.to(device=device, dtype=dtype)).detach())
    return metrics(torch.cat(logits), split.targets.to(device))
