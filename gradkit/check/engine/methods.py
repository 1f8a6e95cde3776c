"""Runs the methods and the differences on one subject, and collects the bounds the judgement needs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gradkit.check.engine.bounds import FALSE_ALARM, REPLAYS, Spread, spread
from gradkit.check.engine.differences import LEVELS, STARTS, Difference, derivative
from gradkit.check.engine.errors import CheckInputError, MethodError
from gradkit.check.engine.judge import Measured, Reference
from gradkit.check.engine.leaves import first_line
from gradkit.check.engine.precision import FORMATS, Format, format_of, short_name
from gradkit.check.engine.replay import FirstNonFinite, LowestPrecision
from gradkit.check.engine.subject import Function, Subject

GOAL = 1e-9
"""Error of a difference, relative to the largest derivative, that ends the search for a better step."""

FORWARD_REPLAYS = 8
"""Forward mode costs one evaluation per direction, so its bounds are drawn from fewer replays."""


@dataclass(frozen=True)
class Engine:
    """One subject with the precisions it is computed in.

    Attributes:
        subject: The function whose gradient is checked.
        reference: The function the differences are taken of, usually the same.
        fine: Dtype of the differences and of the formulas.
        bits: Significand bits the function really computes with in the dtype of the check.
        fine_bits: The same in the fine dtype.
        seed: Of the random roundings and directions.
        replays: How many per bound.
        false_alarm: Probability that rounding alone fails the check.
    """

    subject: Subject
    reference: Subject
    fine: torch.dtype
    bits: int
    fine_bits: int
    seed: int
    replays: int = REPLAYS
    false_alarm: float = FALSE_ALARM

    @property
    def fmt(self) -> Format:
        """Format of the dtype of the check."""
        return format_of(self.subject.dtype)

    @property
    def same(self) -> bool:
        """Whether the check and the reference use one dtype."""
        return self.fine is self.subject.dtype

    def measure(
        self,
        compute: Callable[[Subject, torch.dtype | None], Tensor],
        tests: int,
        *,
        replays: int | None = None,
        value: Tensor | None = None,
    ) -> Measured:
        """What a method gives in both dtypes, each with the bound of its rounding.

        Args:
            compute: The method; None stands for the dtype of the check.
            tests: How many numbers the whole check judges.
            replays: Instead of the engine's.
            value: The result in the dtype of the check, when it is known already.

        Raises:
            MethodError: It gives no gradient.
        """
        value = compute(self.subject, None) if value is None else value
        formula = value if self.same else compute(self.subject, self.fine)
        fine_fmt = FORMATS[self.fine]
        fine_spread = self.spread(lambda: compute(self.subject, self.fine), formula, self.fine_bits, fine_fmt, replays)
        formula_rounding = fine_spread.bound(fine_fmt, tests=tests, false_alarm=self.false_alarm)
        if self.same:
            return Measured(value, formula_rounding, formula, formula_rounding)
        coarse = self.spread(lambda: compute(self.subject, self.fine), formula, self.bits, self.fmt, replays)
        rounding = coarse.bound(self.fmt, tests=tests, false_alarm=self.false_alarm)
        return Measured(value, rounding, formula, formula_rounding)

    def spread(
        self, compute: Callable[[], Tensor], center: Tensor, bits: int, fmt: Format, replays: int | None = None
    ) -> Spread:
        """How far random rounding moves a result of the subject."""
        count = replays or self.replays
        return spread(self.subject, compute, center, bits, fmt, seed=self.seed, replays=count)

    def noise(self) -> tuple[Tensor, Tensor]:
        """The outputs of the reference function, and the bound of the rounding error of each; `(m,)` both."""
        subject = self.reference
        center = subject.values(self.fine)
        count = min(self.replays, FORWARD_REPLAYS)
        fmt = FORMATS[self.fine]
        found = spread(
            subject, lambda: subject.values(self.fine), center, self.fine_bits, fmt, seed=self.seed, replays=count
        )
        return center, found.bound(fmt, tests=center.numel(), false_alarm=self.false_alarm)

    def differences(
        self,
        directions: Iterable[tuple[Tensor, float]],
        goal: float,
        *,
        levels: int = LEVELS,
        starts: Sequence[float] = STARTS,
        noise: tuple[Tensor, Tensor] | None = None,
    ) -> Reference:
        """The reference along each direction, `(k,)`.

        Args:
            directions: Each with the length along it on which the function may change.
            goal: Error that is good enough.
            levels: Steps per table.
            starts: First steps to try.
            noise: Result of `noise()`, when it is known already.
        """
        subject = self.reference
        at_point, noises = noise or self.noise()
        found: list[Difference] = [
            derivative(
                lambda x: subject.values(self.fine, x),
                subject.point,
                at_point,
                direction,
                weights=subject.weights,
                noise=noises,
                unit=2.0**-self.fine_bits,
                size=size,
                goal=goal,
                levels=levels,
                starts=starts,
            )
            for direction, size in directions
        ]
        return Reference.of(found, subject.device)

    def trace(self, compute: Callable[[], Tensor]) -> str | None:
        """The first operator that turned finite numbers into an infinity or NaN, in words."""
        mode = FirstNonFinite()
        with self.subject.computing_under(mode):
            compute()
        return mode.found


def build(
    subject: Subject,
    reference: Subject | None,
    *,
    seed: int,
    replays: int = REPLAYS,
    false_alarm: float = FALSE_ALARM,
) -> Engine:
    """An engine for the subject, with the finest dtype its function runs in.

    Raises:
        CheckInputError: The reference function returns something else than the function.
    """
    differenced = reference or subject
    fine, fine_bits = _finest(subject, differenced)
    bits = subject.bits
    if fine_bits < FORMATS[fine].bits:
        subject.notes.append(
            f"the function computes with {fine_bits} significand bits inside, even on {short_name(fine)}"
            f" ({FORMATS[fine].bits}); the bounds allow for it."
        )
    if reference is not None and [tuple(each.shape) for each in reference.outputs_like] != [
        tuple(each.shape) for each in subject.outputs_like
    ]:
        raise CheckInputError("reference returns outputs of other shapes than the function.")
    return Engine(subject, differenced, fine, bits, fine_bits, seed, replays, false_alarm)


def _finest(subject: Subject, reference: Subject) -> tuple[torch.dtype, int]:
    """float64 when the function runs in it, else float32, else the dtype of the check; and the bits it works with."""
    for candidate in (torch.float64, torch.float32):
        if FORMATS[candidate].bits <= format_of(subject.dtype).bits:
            break
        probe = LowestPrecision()
        try:
            with subject.computing_under(probe), quiet():
                subject.values(candidate)
            if reference is not subject:
                reference.values(candidate)
        except CheckInputError:
            raise
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            # A weight or a kernel of a fixed dtype inside; the differences are then taken in a coarser one.
            subject.notes.append(f"the function does not run in {short_name(candidate)}: {first_line(error)}.")
            continue
        return candidate, min(probe.bits, FORMATS[candidate].bits)
    return subject.dtype, subject.bits


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of the function were shown at its first call; they are not repeated a hundred times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def unit_vectors(subject: Subject) -> Iterator[tuple[Tensor, float]]:
    """One direction per element, with its natural length: its own size, or the typical one of its tensor."""
    for slot in subject.slots:
        values = subject.point[slot.span].abs()
        typical = float(values.square().mean().sqrt()) if slot.numel else 0.0
        for place, size in enumerate(values.tolist()):
            direction = torch.zeros_like(subject.point)
            direction[slot.offset + place] = 1.0
            natural = max(size, 0.1 * typical)
            yield direction, natural if natural > 0 and math.isfinite(natural) else 1.0


def random_directions(subject: Subject, count: int, seed: int, spans: Sequence[slice] | None = None) -> Tensor:
    """Gaussian directions `(count, size)`, float64, each tensor scaled by its own typical size.

    Args:
        subject: Gives sizes and the point.
        count: How many.
        seed: Of the generator; the same whatever the device.
        spans: Where they are not zero; None for everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, subject.size, generator=generator, dtype=torch.float64)
    scaled = torch.zeros_like(drawn)
    for span in spans if spans is not None else [slot.span for slot in subject.slots]:
        scaled[:, span] = drawn[:, span]
    for slot in subject.slots:
        scaled[:, slot.span] *= typical_size(subject.point[slot.span])
    return scaled.to(subject.device)


def typical_size(values: Tensor) -> float:
    """Root mean square of the values; 1 when they are all zero or none."""
    size = float(values.square().mean().sqrt()) if values.numel() else 0.0
    return size if size > 0 and math.isfinite(size) else 1.0


def by_reverse(subject: Subject, dtype: torch.dtype | None) -> Tensor:
    """Reverse mode as a method of `Engine.measure`."""
    with quiet():
        return subject.reverse(dtype)[1]


def by_forward(directions: Tensor) -> Callable[[Subject, torch.dtype | None], Tensor]:
    """Forward mode along the directions `(k, n)` as a method of `Engine.measure`."""

    def compute(subject: Subject, dtype: torch.dtype | None) -> Tensor:
        with quiet():
            found = [subject.forward(dtype, direction) for direction in directions]
        return torch.tensor(found, dtype=torch.float64, device=subject.device)

    return compute


def by_hand(manual: Function, *, with_cotangent: bool) -> Callable[[Subject, torch.dtype | None], Tensor]:
    """The hand-written gradient as a method of `Engine.measure`."""

    def compute(subject: Subject, dtype: torch.dtype | None) -> Tensor:
        with quiet():
            return subject.by_hand(manual, dtype, with_cotangent=with_cotangent)

    return compute


__all__ = [
    "Engine",
    "MethodError",
    "build",
    "by_forward",
    "by_hand",
    "by_reverse",
    "quiet",
    "random_directions",
    "typical_size",
    "unit_vectors",
]
