"""Runs the methods and the differences on one subject, and collects the bounds the judgement needs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from gradkit.check.engine.bounds import FALSE_ALARM, REPLAYS, SIMULATED_BITS, Spread, spread
from gradkit.check.engine.differences import LEVELS, STARTS, Difference, derivative
from gradkit.check.engine.errors import CheckInputError, MethodError, own_computation
from gradkit.check.engine.judge import Measured, Reference
from gradkit.check.engine.leaves import first_line
from gradkit.check.engine.precision import FORMATS, Format, format_of, short_name
from gradkit.check.engine.replay import FirstNonFinite, LowestPrecision, RandomRounding
from gradkit.check.engine.subject import Function, Subject

Method = Callable[[Subject, "torch.dtype | None"], Tensor]
"""A way to the gradient in a dtype; None stands for that of the check."""

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
        fine: Dtype of the formulas: the finest in which forward and backward run.
        bits: Significand bits the function really computes with in the dtype of the check.
        fine_bits: The same in the fine dtype.
        reference_fine: Dtype of the differences.
        reference_bits: Significand bits the reference function really computes with in it.
        seed: Of the random roundings and directions.
        replays: How many per bound.
        false_alarm: Probability that rounding alone fails the check.
    """

    subject: Subject
    reference: Subject
    fine: torch.dtype
    bits: int
    fine_bits: int
    reference_fine: torch.dtype
    reference_bits: int
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
        with own_computation(f"computing it in {short_name(self.fine)}"):
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
        fine, fmt = self.reference_fine, FORMATS[self.reference_fine]
        center = subject.values(fine)
        count = min(self.replays, FORWARD_REPLAYS)
        found = spread(
            subject, lambda: subject.values(fine), center, self.reference_bits, fmt, seed=self.seed, replays=count
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
        raised: list[str] = []

        def evaluate(x: Tensor) -> Tensor:
            try:
                return subject.values(self.reference_fine, x)
            except Exception as error:  # outside of its domain, say: there is no value at that point
                raised.append(f"{type(error).__name__}: {first_line(error)}")
                return torch.full_like(at_point, torch.nan)

        found: list[Difference] = [
            derivative(
                evaluate,
                subject.point,
                at_point,
                direction,
                weights=subject.weights,
                noise=noises,
                unit=2.0**-self.reference_bits,
                size=size,
                goal=goal,
                levels=levels,
                starts=starts,
            )
            for direction, size in directions
        ]
        return Reference.of(found, subject.device, raised[0] if raised else None)

    def trace(self, compute: Callable[[], Tensor]) -> str | None:
        """The first operator that turned finite numbers into an infinity or NaN, in words; None if it was not seen."""
        mode = FirstNonFinite()
        with self.subject.computing_under(mode), suppress(Exception):
            compute()
        return mode.found


def build(
    subject: Subject,
    reference: Subject | None,
    *,
    seed: int,
    replays: int = REPLAYS,
    false_alarm: float = FALSE_ALARM,
    methods: Sequence[Method] = (),
) -> Engine:
    """An engine for the subject, with the finest dtype its function and all of the methods run in.

    Args:
        subject: What is checked.
        reference: What the differences are taken of; None for the subject itself.
        seed: Of the random roundings and directions.
        replays: Computations with random rounding per bound.
        false_alarm: Probability that rounding alone fails the check.
        methods: Ways to the gradient that run in the dtype of the check; none for forward evaluations alone.

    Raises:
        CheckInputError: The reference function returns something else than the function.
    """
    fine, fine_bits = finest(subject, methods, seed)
    if reference is None:
        reference_fine, reference_bits = fine, fine_bits
    else:
        reference_fine, reference_bits = finest(reference, (), seed)
    if fine_bits < FORMATS[fine].bits:
        subject.notes.append(
            f"the function computes with {fine_bits} significand bits inside, even on {short_name(fine)}"
            f" ({FORMATS[fine].bits}); the bounds allow for it."
        )
    if reference is not None and [tuple(each.shape) for each in reference.outputs_like] != [
        tuple(each.shape) for each in subject.outputs_like
    ]:
        raise CheckInputError("reference returns outputs of other shapes than the function.")
    return Engine(
        subject,
        reference or subject,
        fine,
        subject.bits,
        fine_bits,
        reference_fine,
        reference_bits,
        seed,
        replays,
        false_alarm,
    )


def finest(subject: Subject, methods: Sequence[Method], seed: int) -> tuple[torch.dtype, int]:
    """The finest dtype in which the function, the methods and a replay with random rounding run; and its real bits.

    float64, else float32, else the dtype of the check. Why a finer one was passed over becomes a note.
    """
    for candidate in (torch.float64, torch.float32):
        if FORMATS[candidate].bits <= format_of(subject.dtype).bits:
            break
        probe = LowestPrecision()
        name = short_name(candidate)
        what = f"the function does not run in {name}"
        try:
            with subject.computing_under(probe), quiet():
                subject.values(candidate)
            what = f"the backward pass does not run in {name}"
            with quiet():
                for compute in methods:
                    compute(subject, candidate)
            what = f"a replay with random rounding does not run in {name}"
            rounding = RandomRounding(
                SIMULATED_BITS, FORMATS[torch.float64], torch.Generator(device=subject.device).manual_seed(seed)
            )
            with subject.computing_under(rounding), quiet():
                methods[0](subject, candidate) if methods else subject.values(candidate)
        except Exception as error:
            # A weight or a kernel of a fixed dtype inside; what is compared is then computed in a coarser one.
            subject.notes.append(f"{what}: {first_line(error)}; a coarser dtype is used.")
            continue
        return candidate, min(probe.bits, FORMATS[candidate].bits)
    return subject.dtype, subject.bits


def backward_runs(subject: Subject) -> Tensor | MethodError:
    """The gradient by reverse mode in the dtype of the check, or why there is none.

    Raises:
        CheckInputError: It runs in the dtype that was given and not in the one that was asked for.
    """
    try:
        return by_reverse(subject, None)
    except MethodError as error:
        given = subject.as_given()
        if given is not None and _runs(given):
            raise CheckInputError(
                f"the backward pass runs in {short_name(given.dtype)} and not in {short_name(subject.dtype)}, which was"
                f" asked for: {first_line(error)}."
            ) from error
        return error


def _runs(subject: Subject) -> bool:
    try:
        by_reverse(subject, None)
    except MethodError:
        return False
    return True


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
