"""Errors as shares of the bounds they have to keep."""

from __future__ import annotations

import torch
from torch import Tensor


def shares(error: Tensor, bound: Tensor) -> Tensor:
    """Each error as a share of its own bound, 0 where there is no error, infinite where either is not a number.

    Args:
        error: Absolute errors, (k,).
        bound: What each may be at most, (k,).
    """
    return torch.where(error == 0, 0.0, error / bound).nan_to_num(nan=torch.inf, posinf=torch.inf)


def of_bound(error: Tensor, bound: Tensor) -> float:
    """The largest error as a share of its own bound: up to 1 all are kept. 0 for no elements."""
    return float(shares(error, bound).max()) if error.numel() else 0.0
