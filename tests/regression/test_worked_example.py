"""The notebook's worked example, x = 6.7, y = 0, w = 1, b = 0, by every way gradkit has to its gradient."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gradkit import check
from gradkit.trajectory import Recording, Trajectory
from tests.train.runs import train_into

X, Y, W, B = 6.7, 0.0, 1.0, 0.0
PROBABILITY = 1 / (1 + math.exp(-(W * X + B)))
GRADIENT = {"w": (PROBABILITY - Y) * X, "b": PROBABILITY - Y}
"""(sigma(z) - y) x and sigma(z) - y: the chain rule of the notebook, multiplied out."""


def test_the_closed_form_is_the_notebooks_number() -> None:
    assert {name: round(value, 4) for name, value in GRADIENT.items()} == {"w": 6.6918, "b": 0.9988}
    assert round(-math.log(1 - PROBABILITY), 4) == 6.7012


@pytest.mark.parametrize("gradient", ["autograd", "manual", "both"])
def test_a_training_run_starts_with_it(tmp_path: Path, gradient: str) -> None:
    overrides = ("preset=worked_example", "trainer.precision=64", "trainer.max_steps=1")
    found = train_into(tmp_path / "run", *overrides, f"gradient={gradient}")["worked_example"]
    # Data sets hold float32, so x is 6.7 with a relative error of up to 6e-8; the arithmetic after it is float64.
    assert found == pytest.approx(GRADIENT, rel=2.0**-24)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradient_descent_from_there_follows_its_golden(hold: Callable[..., None], dtype: torch.dtype) -> None:
    w, b = (torch.tensor(value, dtype=dtype, requires_grad=True) for value in (W, B))
    x, y = torch.tensor([[X]], dtype=dtype), torch.tensor([[Y]], dtype=dtype)
    optimizer = torch.optim.SGD([w, b], lr=0.1)
    with Recording() as recording:
        for _ in range(8):
            recording.batch(x, y)
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(w * x + b, y).backward()
            optimizer.step()
    first = recording.trajectory.parameters
    # One float32 of relative accuracy 6e-8, through five operations.
    rel = 1e-6 if dtype is torch.float32 else 1e-14
    assert [first[f"parameter {place}"].first_gradient[0] for place in (0, 1)] == pytest.approx(
        list(GRADIENT.values()), rel=rel
    )
    hold(recording.trajectory, f"worked_example/{str(dtype).removeprefix('torch.')}")


def test_the_gradient_check_agrees(hold_text: Callable[[str, str], None]) -> None:
    def loss(w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(w * X + b, torch.tensor(Y, dtype=w.dtype))

    def by_hand(w: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        difference = torch.sigmoid(w * X + b) - Y
        return difference * X, difference

    point = [torch.tensor(value, dtype=torch.float64) for value in (W, B)]
    result = check.gradients(loss, point, manual=by_hand)
    result.assert_ok()
    lines = [(line.subject, line.verdict) for line in result]
    hold_text(json.dumps(lines, indent=0) + "\n", "worked_example/check.json")


def test_another_point_would_be_noticed(hold: Callable[..., None]) -> None:
    with pytest.raises(AssertionError, match="left its golden trajectory"):
        hold(
            Trajectory.of_records([{"loss": 6.7012 * (1 + 1e-3)}] * 8, dtype="float64"),
            "worked_example/float64",
            write=False,
        )
