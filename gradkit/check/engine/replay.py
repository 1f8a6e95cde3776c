"""Replays a computation with every rounding drawn at random, to see how far rounding alone can move its result."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from gradkit.check.engine.precision import CARRIER_BITS, FORMATS, Format, round_randomly

ACCUMULATOR_BITS = 24
"""Kernels for float32, bfloat16 and float16 add up in float32."""

TENSOR_FLOAT_BITS = 11
"""Significand of TensorFloat-32, which CUDA may use for the factors of float32 products."""

# Operators that only move, pick or create values. A tie among equal values must stay a tie, so their inputs are not
# disturbed; anything they return is a number that was there before.
# fmt: off
EXACT = frozenset({
    "abs", "clamp", "clamp_max", "clamp_min", "fmax", "fmin", "hardtanh", "maximum", "minimum", "neg", "positive",
    "relu", "threshold", "threshold_backward",
    "_adaptive_max_pool2d", "_to_copy", "_unique2", "_unsafe_view", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "all", "amax", "amin", "aminmax", "any", "arange", "argmax", "argmin", "argsort", "as_strided_scatter",
    "block_diag", "bucketize", "cat", "channel_shuffle", "clone", "col2im", "complex", "constant_pad_nd", "copy",
    "count_nonzero", "cummax", "cummin", "diag_embed", "diagonal_backward", "diagonal_scatter", "dropout",
    "embedding", "empty", "empty_like", "eq", "expand_copy", "eye", "fill", "flip", "fractional_max_pool2d",
    "fractional_max_pool3d", "full", "full_like", "gather", "hstack", "im2col", "index", "index_copy", "index_fill",
    "index_select", "kthvalue", "lift_fresh", "linspace", "logspace", "masked_fill", "masked_scatter",
    "masked_select", "max", "max_pool2d_with_indices", "max_pool3d_with_indices", "max_unpool2d", "max_unpool3d",
    "median", "min", "mode", "nanmedian", "nonzero", "ones", "ones_like", "pixel_shuffle", "pixel_unshuffle", "put",
    "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "repeat", "replication_pad1d", "replication_pad2d",
    "replication_pad3d", "roll", "rot90", "scalar_tensor", "scatter", "searchsorted", "select_backward",
    "select_scatter", "slice_backward", "slice_scatter", "sort", "stack", "take", "topk", "tril", "triu", "unfold",
    "unique_consecutive", "unique_dim", "unsafe_split", "unsafe_split_with_sizes", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "value_selecting_reduction_backward", "where", "zeros",
    "zeros_like",
})
# fmt: on

# Among those, the ones that write a number of their own into a tensor, which the coarser format has to round.
FACTORIES = frozenset(
    {"fill", "full", "full_like", "lift_fresh", "linspace", "logspace", "masked_fill", "scalar_tensor"}
)

# Take a floating tensor of zeros and ones as a flag and refuse anything else.
FLAGGED = frozenset({"multilabel_margin_loss_backward"})

# Added up pairwise or in cascades, so the error grows with the logarithm of the length instead of its root.
# Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, section 4.2.
CASCADED = ("sum", "mean", "nansum", "nanmean")

# Several roundings inside one elementwise kernel, where an intermediate result may cancel.
COMPOUND = ("addcmul", "addcdiv", "lerp")

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addbmm", "addmv", "mv", "convolution", "_convolution")


class RandomRounding(TorchDispatchMode):
    """Rounds what every operator returns up or down at random, and disturbs what sums and products take in.

    The derivation of the model, and why each choice does not understate the error of the real kernels, is in
    `docs/check/error-bounds.md`.

    Args:
        bits: Significand bits of the format to imitate; float64 itself is imitated with fewer and scaled.
        fmt: Exponent range of that format.
        generator: Draws the roundings; the generators of the computation are not touched.
    """

    def __init__(self, bits: int, fmt: Format, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bits = bits
        self.fmt = fmt
        self.generator = generator
        self.accumulator = 2.0 ** -max(bits, ACCUMULATOR_BITS)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        base = _base_name(func)
        if is_view(func):
            return func(*args, **kwargs)
        exact = moves_values(func, base, args, kwargs)
        if not exact:
            args = tuple(self._rounded_number(each) for each in args)
        disturbed = not exact and self._disturbs(func, base)
        mutates = func._schema.is_mutable
        length = _contracted(base, args, kwargs) if disturbed else 1.0
        if disturbed and not mutates:
            amplitude = self._amplitude(base) * _growth(base, length)
            args, kwargs = tree_map_only(Tensor, lambda each: self._disturb(each, amplitude), (args, kwargs))
        out = func(*args, **kwargs)
        if exact and base not in FACTORIES:
            return out
        computes = base not in FACTORIES and any(_floating(each) for each in tree_leaves((args, kwargs)))
        relative = self._amplitude(base) * _growth(base, length) / math.sqrt(3) if disturbed and length > 1 else 0.0
        return tree_map_only(Tensor, lambda each: self._round(each, relative, computes, mutates), out)

    def _rounded_number(self, value: Any) -> Any:
        """A Python number as the format holds it: up or down at random, unless it is exact."""
        if not isinstance(value, float) or not math.isfinite(value) or value == 0:
            return value
        mantissa, exponent = math.frexp(value)
        scaled = math.ldexp(mantissa, self.bits)
        if scaled == math.floor(scaled):
            return value
        up = int(torch.randint(0, 2, (), generator=self.generator, device=self.generator.device))
        return math.ldexp(math.floor(scaled) + up, exponent - self.bits)

    def _disturbs(self, func: Any, base: str) -> bool:
        if base in FLAGGED:
            return False
        if torch.Tag.pointwise in func.tags:
            return base.endswith("_backward") or base in COMPOUND
        return torch.Tag.nondeterministic_seeded not in func.tags

    def _amplitude(self, base: str) -> float:
        if self.fmt.dtype is torch.float32 and base in PRODUCTS and _tensor_float_used(base, self.generator.device):
            return 2.0**-TENSOR_FLOAT_BITS
        return self.accumulator

    def _disturb(self, values: Tensor, amplitude: float) -> Tensor:
        if not _floating(values) or values.numel() == 0:
            return values
        return values * (1 + amplitude * self._signs(values))

    def _signs(self, values: Tensor) -> Tensor:
        ones = torch.randint(0, 2, values.shape, generator=self.generator, device=values.device)
        return (2 * ones - 1).to(values.real.dtype if values.is_complex() else values.dtype)

    def _round(self, values: Tensor, relative: float, computes: bool, mutates: bool) -> Tensor:
        if not _floating(values) or values.numel() == 0:
            return values
        real = torch.view_as_real(values.detach()) if values.is_complex() else values.detach()
        moved = real * (1 + relative * self._signs(real)) if relative else real
        if real.dtype is torch.float64:
            rounded = round_randomly(moved, self.bits, self.fmt, self.generator)
        elif computes and real.dtype in FORMATS:
            # A computation that descends to a coarser format by itself: a step to either neighbour or none.
            steps = torch.randint(-1, 2, real.shape, generator=self.generator, device=real.device).to(real.dtype)
            rounded = moved * (1 + steps * 2 * FORMATS[real.dtype].unit_roundoff)
        else:
            return values
        if mutates:
            real.copy_(rounded)
            return values
        return torch.view_as_complex(rounded.contiguous()) if values.is_complex() else _with_strides_of(values, rounded)


class LowestPrecision(TorchDispatchMode):
    """Notes the fewest significand bits any operator computed with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bits = CARRIER_BITS

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        moved = is_view(func) or moves_values(func, _base_name(func), args, kwargs)
        if not moved and any(_floating(each) for each in tree_leaves(args)):
            for each in tree_leaves(out):
                if isinstance(each, Tensor) and each.dtype in FORMATS:
                    self.bits = min(self.bits, FORMATS[each.dtype].bits)
        return out


class FirstNonFinite(TorchDispatchMode):
    """Notes the first operator that turned finite inputs into an infinity or a NaN; waits for the device each time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        watching = self.found is None and not is_view(func)
        inputs = [each for each in tree_leaves((args, kwargs)) if _floating(each)] if watching else []
        finite_before = bool(inputs) and all(bool(each.isfinite().all()) for each in inputs)
        zeros = [bool((each == 0).any()) for each in inputs] if finite_before else []
        out = func(*args, **kwargs)
        if finite_before:
            for each in tree_leaves(out):
                if isinstance(each, Tensor) and _floating(each) and not bool(each.isfinite().all()):
                    kind = "nan" if bool(each.isnan().any()) else "inf"
                    name = func.__name__.partition(".")[0]
                    cause = _cause(name, zeros)
                    self.found = f"`{name}` gave {kind}{cause} from finite numbers"
                    break
        return out


def _cause(name: str, zeros: list[bool]) -> str:
    if name == "div" and len(zeros) == 2 and zeros[1]:
        return " (0/0)" if zeros[0] else " (division by 0)"
    if name in ("log", "reciprocal", "rsqrt") and zeros and zeros[0]:
        return f" ({name} of 0)"
    return ""


def moves_values(func: Any, base: str, args: Any, kwargs: Any) -> bool:
    """Whether an operator returns only numbers that were there before, or numbers that it was given."""
    if base == "_to_copy":
        before = args[0].dtype if isinstance(args[0], Tensor) else None
        after = kwargs.get("dtype")
        narrows = before in FORMATS and after in FORMATS and FORMATS[after].bits < FORMATS[before].bits
        return not narrows
    if base in ("index_reduce", "scatter_reduce"):
        return any(each in ("amax", "amin") for each in (*args, *kwargs.values()) if isinstance(each, str))
    if base == "linalg_vector_norm":
        return len(args) > 1 and isinstance(args[1], float) and math.isinf(args[1])
    return base in EXACT


def _base_name(func: Any) -> str:
    """`add` for `aten.add_.Tensor`."""
    name: str = func.__name__.partition(".")[0]
    return name if name.startswith("__") else name.removesuffix("_")


def is_view(func: Any) -> bool:
    """Whether an operator only returns another look at its input."""
    return any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)


def _floating(value: Any) -> bool:
    """Whether there are floating numbers to look at; forward mode's symbolic zeros have no memory behind them."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and (value.is_floating_point() or value.is_complex())
        and not value._is_zerotensor()
    )


def _contracted(base: str, args: Any, kwargs: Any) -> float:
    """About how many terms one result of the operator adds up; for `(m, k) @ (k, n)` it is k."""
    floating = [each for each in tree_leaves((args, kwargs)) if _floating(each)]
    if not floating or any(each.numel() == 0 for each in floating):
        return 1.0
    if base in PRODUCTS and "conv" not in base:
        left = floating[1] if base.startswith(("addm", "addb", "badd")) and len(floating) > 2 else floating[0]
        return float(left.shape[-1])
    if base in ("convolution", "_convolution"):
        return float(floating[1][0].numel())
    if base == "convolution_backward":
        grad, _, weight = floating[:3]
        return float(max(grad.numel() // max(1, grad.shape[1]), weight.numel() // max(1, weight.shape[1])))
    return float(max(each.numel() for each in floating))


def _growth(base: str, length: float) -> float:
    """How the error of adding up `length` terms grows: the root of the number of roundings met on the way."""
    roundings = math.log2(length) if base.rstrip("_") in CASCADED else length
    return math.sqrt(max(1.0, roundings))


def _tensor_float_used(base: str, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    return bool(torch.backends.cudnn.allow_tf32 if "convolution" in base else torch.backends.cuda.matmul.allow_tf32)


def _with_strides_of(model: Tensor, values: Tensor) -> Tensor:
    """The values laid out in memory as the operator laid out its own result."""
    if values.stride() == model.stride():
        return values
    return torch.empty_like(model).copy_(values)
