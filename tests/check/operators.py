"""PyTorch's operator database as functions to check: one sample each, chosen the same way every time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

LARGEST = 60
"""Input elements of the sample taken, if there is one: gradcheck needs two evaluations for each."""


@dataclass(frozen=True)
class Operator:
    """One operator at one point.

    Attributes:
        name: Its name in the database, with its variant.
        fn: From the differentiable tensors to the operator's result.
        inputs: Those tensors, float64.
        gradcheck_kwargs: What the database says about it.
    """

    name: str
    fn: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    gradcheck_kwargs: dict[str, Any]


def differentiable_operators() -> Iterator[Any]:
    """Every entry of the database that is differentiable in float64 on the CPU."""
    from torch.testing._internal.common_methods_invocations import op_db

    for each in op_db:
        if each.supports_autograd and torch.float64 in each.supported_backward_dtypes("cpu"):
            yield each


def operator_of(entry: Any) -> Operator | None:
    """The first sample of an entry that is small, else its smallest, with something to differentiate."""
    torch.manual_seed(0)
    best: tuple[int, Any] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = list(entry.sample_inputs("cpu", torch.float64, requires_grad=True))
    for sample in samples:
        leaves, _ = tree_flatten((sample.input, sample.args, sample.kwargs))
        tracked = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
        size = sum(leaf.numel() for leaf in tracked)
        strided = all(leaf.layout is torch.strided for leaf in leaves if isinstance(leaf, Tensor))
        if not size or not strided or any(leaf.dtype is not torch.float64 for leaf in tracked):
            continue
        if best is None or size < best[0]:
            best = size, sample
        if size <= LARGEST:
            break
    if best is None:
        return None
    leaves, spec = tree_flatten((best[1].input, best[1].args, best[1].kwargs))
    places = [n for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
    return Operator(
        entry.formatted_name,
        _function(entry, best[1], leaves, spec, places),
        tuple(leaves[n].detach().clone().requires_grad_() for n in places),
        {"nondet_tol": entry.gradcheck_nondet_tol},
    )


def _function(entry: Any, sample: Any, leaves: list[Any], spec: Any, places: list[int]) -> Callable[..., Any]:
    def fn(*tensors: Tensor) -> Any:
        dtype = tensors[0].dtype
        # Other floating tensors and dtype arguments follow, so that the operator runs wholly in one dtype.
        now = [None if place in places else _follow(leaf, dtype) for place, leaf in enumerate(leaves)]
        for place, tensor in zip(places, tensors, strict=True):
            now[place] = tensor
        first, args, kwargs = tree_unflatten(now, spec)
        result = entry.gradcheck_wrapper(entry.op, first, *args, **kwargs)
        if sample.output_process_fn_grad is not None:
            result = sample.output_process_fn_grad(result)
        outputs = [each for each in tree_flatten(result)[0] if isinstance(each, Tensor)]
        real = [torch.view_as_real(each.resolve_conj()) if each.is_complex() else each for each in outputs]
        return tuple(each for each in real if each.is_floating_point())

    return fn


def _follow(leaf: Any, dtype: torch.dtype) -> Any:
    if isinstance(leaf, Tensor):
        moved = leaf.detach().to(dtype) if leaf.dtype is torch.float64 else leaf.detach()
        return moved.clone()
    return dtype if leaf is torch.float64 else leaf


def by_gradcheck(operator: Operator, *, fast: bool = False) -> bool | None:
    """Whether torch's own gradcheck passes in float64; None when it cannot run.

    Its fast mode compares one random projection instead of every element.
    """

    def fn(*tensors: Tensor) -> Any:
        torch.manual_seed(0)
        return tuple(each for each in operator.fn(*tensors) if each.requires_grad)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.autograd.gradcheck(
                fn,
                operator.inputs,
                raise_exception=False,
                check_undefined_grad=False,
                fast_mode=fast,
                **operator.gradcheck_kwargs,
            )
        except (RuntimeError, ValueError, TypeError):
            return None


# Operators whose float64 verdict is not gradcheck's, with the reason.
EXPLAINED = {
    "nn_functional_hardsigmoid": "torch computes 1/6 in float32 for float64 too: its gradient is off by 3e-8 of itself;"
    " gradcheck allows 1e-3",
    "digamma": "torch's float64 trigamma is off by up to 5e-10 of itself (against mpmath); gradcheck allows 1e-3",
    "float": "rounding to float32 inside is known and allowed for; gradcheck sees a staircase",
    "half": "as float, for float16",
    "cfloat": "as float",
    "normal": "the random numbers are the same in every evaluation here; gradcheck draws new ones",
    "normal_number_mean": "as normal",
}

# Where a gradient has no one value, or no digit, gradkit says inconclusive; gradcheck passes or fails by chance.
INCONCLUSIVE = {
    "round_decimals_3": "a staircase",
    "linalg_norm_subgradients_at_zero": "a corner",
    "nn_functional_cosine_embedding_loss": "differentiated by labels that are compared with 1 and -1",
    "nn_functional_hinge_embedding_loss": "differentiated by labels that are compared with 1 and -1",
    "linalg_pinv_singular": "the pseudo-inverse of a singular matrix: condition 1e28",
    "__rpow__": "0 to a power that is not positive",
    "bfloat16": "eight bits inside: too few for a difference",
}

# In float32 only: the formula holds in float64, the digits are lost.
LOST_IN_FLOAT32 = {"linalg_eig": "eigenvectors of nearly equal eigenvalues amplify rounding beyond their own size"}

__all__ = [
    "EXPLAINED",
    "INCONCLUSIVE",
    "LOST_IN_FLOAT32",
    "Operator",
    "by_gradcheck",
    "differentiable_operators",
    "operator_of",
]
