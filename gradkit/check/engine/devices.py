"""The same gradient on two devices: kernels differ, the function must not."""

from __future__ import annotations

from typing import Any

import torch

from gradkit.check.engine.methods import build, by_reverse
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import Line
from gradkit.check.engine.shares import of_bound
from gradkit.check.engine.subject import Function, Subject


def against_cpu(
    fn: Function,
    inputs: Any,
    *,
    dtype: torch.dtype,
    device: torch.device,
    cotangent: Any = None,
    seed: int = 0,
    replays: int = 16,
    false_alarm: float = 1e-6,
) -> Line:
    """Reverse mode on a device against reverse mode on the CPU, within the rounding of both.

    Args:
        fn: The function, as for `gradients`.
        inputs: The point.
        dtype: Of the gradients.
        device: The other device.
        cotangent: As for `gradients`.
        seed: Of cotangent and roundings.
        replays: Per bound.
        false_alarm: Probability that rounding alone makes them differ.

    Returns:
        One line; it fails when an element differs by more than both bounds, or is finite on one device only.
    """
    with random_state_kept():
        measured = []
        for place in (torch.device("cpu"), device):
            subject = Subject(fn, inputs, dtype=dtype, device=place, cotangent=cotangent, seed=seed)
            ways = (by_reverse,)
            engine = build(subject, None, seed=seed, replays=replays, false_alarm=false_alarm, methods=ways)
            measured.append(engine.measure(by_reverse, subject.size))
    here, there = measured
    value, other = here.value, there.value.cpu()
    bound = here.rounding + there.rounding.cpu()
    name = f"reverse on {device} and on the CPU"
    if value.numel() == 0:
        return Line(name, "pass", {"elements": 0}, "No elements.")
    apart = torch.where(value == other, 0.0, (value - other).abs())
    together = value.isfinite() == other.isfinite()
    wrong = ~together | (value.isfinite() & ~(apart <= bound))
    place_of_worst = int((apart / bound).nan_to_num(nan=0.0).argmax())
    numbers = {
        "elements": value.numel(),
        "max_abs": float(apart.nan_to_num(nan=0.0).max()),
        "max_rel": float((apart / value.abs().clamp_min(1e-300)).nan_to_num(nan=0.0).max()),
        "of_bound": of_bound(apart.nan_to_num(nan=0.0), bound),
        "bound": float(bound[place_of_worst]),
    }
    if bool(wrong.any()):
        reason = f"{int(wrong.sum())} element(s) differ by more than rounding explains on both devices."
        return Line(name, "fail", numbers, reason, "Look for a kernel of its own on one of the devices.")
    return Line(name, "pass", numbers)
