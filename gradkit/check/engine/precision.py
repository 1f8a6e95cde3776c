"""What each floating format can hold: unit round-off, spacing, and random rounding of float64 values to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradkit.check.engine.errors import CheckInputError

CARRIER_BITS = 53
"""Significand bits of float64, the format every replay is carried in."""


@dataclass(frozen=True)
class Format:
    """A binary floating format.

    Attributes:
        dtype: The torch dtype.
        bits: Significand bits, the hidden one included.
        smallest_normal: Smallest normal number.
        largest: Largest finite number.
    """

    dtype: torch.dtype
    bits: int
    smallest_normal: float
    largest: float

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding to nearest, 2 to the minus `bits`."""
        return 2.0**-self.bits

    @property
    def smallest_step(self) -> float:
        """Spacing of the subnormal numbers."""
        return self.smallest_normal * 2.0 ** (1 - self.bits)


def _format(dtype: torch.dtype, bits: int) -> Format:
    info = torch.finfo(dtype)
    return Format(dtype, bits, info.smallest_normal, info.max)


FORMATS = {
    torch.float64: _format(torch.float64, 53),
    torch.float32: _format(torch.float32, 24),
    torch.float16: _format(torch.float16, 11),
    torch.bfloat16: _format(torch.bfloat16, 8),
}
"""The dtypes gradkit can check. Source: IEEE 754-2019 table 3.5; bfloat16 has float32's exponents, 8 bits."""


def format_of(dtype: torch.dtype) -> Format:
    """The format of a dtype.

    Raises:
        CheckInputError: The dtype is complex, an integer or a format of 8 bits and fewer.
    """
    if dtype not in FORMATS:
        names = ", ".join(short_name(each) for each in FORMATS)
        raise CheckInputError(f"gradients of dtype {short_name(dtype)} cannot be checked; expected one of {names}.")
    return FORMATS[dtype]


def short_name(dtype: torch.dtype) -> str:
    """`float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def spacing(values: Tensor, fmt: Format) -> Tensor:
    """Distance between neighbouring numbers of the format at each of the values (one ULP).

    Args:
        values: float64, any shape.
        fmt: The format.

    Returns:
        float64, same shape; the subnormal spacing at and around zero, NaN where a value is not finite.
    """
    _, exponent = torch.frexp(values.abs().clamp_min(fmt.smallest_normal))
    ulp = torch.pow(torch.tensor(2.0, dtype=torch.float64, device=values.device), exponent.double() - fmt.bits)
    return torch.where(values.isfinite(), ulp, torch.nan)


def round_randomly(values: Tensor, bits: int, fmt: Format, generator: torch.Generator) -> Tensor:
    """Each value moved to one of its two neighbours in the format, up or down with equal probability.

    A value the format can hold stays as it is, so exact operations stay exact; no result leaves an interval whose
    ends the format can hold, so a probability never exceeds 1. Overflow gives infinity, as in the format.

    Args:
        values: float64, any shape.
        bits: Significand bits to keep, at most 52.
        fmt: Gives the exponent range.
        generator: Draws the directions; on the device of `values`.

    Returns:
        float64, a new tensor of the same shape.

    Source: Vignes, "A stochastic arithmetic for reliable scientific computation", 1993 (random rounding of CESTAC).
    """
    drop = CARRIER_BITS - bits
    pattern = values.contiguous().view(torch.int64)
    low = (1 << drop) - 1
    up = torch.randint(0, 2, values.shape, generator=generator, device=values.device, dtype=torch.int64)
    # The magnitude sits in the low 63 bits; carrying into the exponent is the right result at a power of two.
    step = ((pattern & low) != 0).long() * up * (low + 1)
    rounded = ((pattern & ~low) + step).view(torch.float64)
    if fmt.dtype is not torch.float64:
        # Below the smallest normal number the spacing no longer shrinks; in float16 ordinary gradients lie there.
        scaled = values / fmt.smallest_step
        below = scaled.floor()
        coarse = (below + ((below != scaled) & (up == 1)).double()) * fmt.smallest_step
        rounded = torch.where(values.abs() < fmt.smallest_normal, coarse, rounded)
    rounded = torch.where(
        rounded.abs() > fmt.largest, torch.copysign(torch.full_like(rounded, torch.inf), values), rounded
    )
    return torch.where(values.isfinite(), rounded, values)
