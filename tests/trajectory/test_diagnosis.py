"""Every seeded change is caught and called what it is, whatever the optimizer and with few or many numbers known."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from gradkit.trajectory import Diagnosis, Difference, Trajectory, compare, diagnose
from gradkit.trajectory.tolerances import bounds_for
from tests.trajectory.loops import OPTIMIZERS, train

CHANGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "learning rate x 1.01": ({"rate": 1.01}, "learning-rate", "learning rate is multiplied by 1.01"),
    "learning rate / 10": ({"rate": 0.1}, "learning-rate", "learning rate is multiplied by 0.1"),
    "schedule changed at step 7": ({"frozen_rate_from": 7}, "learning-rate", "multiplied by 0.5 from step 7 on"),
    "loss x 2": ({"loss_factor": 2.0}, "loss-scaled", "the loss is multiplied by 2"),
    "sign of the loss": ({"loss_factor": -1.0}, "loss-scaled", "the loss is multiplied by -1"),
    "other order": ({"order": 1}, "data-order", "the same samples in another order"),
    "last batch dropped": ({"drop_last": True}, "last-batch-dropped", "6 samples, golden step 4, 9, 14"),
    "weight decay removed": ({"decay": 0.0}, "weight-decay", "weight decay of 0.01 is removed"),
    "weight decay doubled": ({"decay": 0.02}, "weight-decay", "weight decay is 0.02 instead of 0.01"),
    "zero_grad missing": ({"zero": False}, "gradients-accumulate", "zero_grad missing"),
    "other initialisation": ({"seed": 1}, "initialisation", "another initialisation of all parameters"),
    "L1 term missing": ({"l1": 0.0}, "missing-term", "a term of the loss is missing or smaller"),
    "L1 term doubled": ({"l1": 0.02}, "added-term", "the loss has a new or larger term"),
    "L2 term missing": ({"l2": 0.0}, "missing-term", "an L2 penalty of the loss is missing: 0.02 times"),
    "gradients / 2": ({"gradient_factor": 0.5}, "gradients-scaled", "gradients are multiplied by 0.5"),
    "gradients negated": ({"gradient_factor": -1.0}, "gradients-scaled", "multiplied by -1: they point the other way"),
    "clipped": ({"clip": 0.2}, "gradients-clipped", "gradients are clipped by norm at 0.2"),
    "inputs x 2": ({"scale": 2.0}, "data-scaled", "the same samples multiplied by 2"),
    "batch size": ({"batch": 32}, "batch-size", "batches of 32 samples instead of 16, of the same data"),
    "one epoch less": ({"epochs": 2}, "length", "10 steps instead of 15; the first 10 are the same"),
    "first batch skipped": ({"skip": 1}, "batch-dropped", "golden step 0, 5, 10"),
    "path cut": ({"cut": True}, "backward", "another gradient at the same loss"),
    "constant added to the loss": ({"offset": 0.3}, "loss-value", "a term without gradient"),
    "weights changed outside": ({"outside": True}, "weights", "step 5 begins with other weights"),
    "labels smoothed": ({"labels": 0.1}, "missing-term", "or its targets changed"),
}


@functools.cache
def golden(optimizer: str, **options: Any) -> Trajectory:
    return train(optimizer, **options)


def judged(old: Trajectory, new: Trajectory) -> tuple[Difference, Diagnosis]:
    bounds = bounds_for(old)
    difference = compare(old, new, bounds)
    assert difference is not None, "not caught"
    return difference, diagnose(old, new, difference, bounds)


def without_settings(trajectory: Trajectory) -> Trajectory:
    rows = [{name: value for name, value in row.items() if name != "lr"} for row in trajectory.rows]
    return dataclasses.replace(trajectory, settings={}, rows=rows)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_change_is_named_for_what_it_is(optimizer: str, change: str) -> None:
    options, kind, words = CHANGES[change]
    _, diagnosis = judged(golden(optimizer), train(optimizer, **options))
    assert (diagnosis.kind, words in diagnosis.sentence) == (kind, True), diagnosis


@pytest.mark.parametrize("change", CHANGES)
def test_the_numbers_alone_name_it_when_neither_settings_nor_learning_rate_are_known(change: str) -> None:
    options, kind, _ = CHANGES[change]
    _, diagnosis = judged(without_settings(golden("sgd")), without_settings(train("sgd", **options)))
    if change == "weight decay doubled":
        assert "weight decay is added or larger, by 0.001" in diagnosis.sentence
    assert diagnosis.kind == kind, diagnosis


SEVEN = (
    *("learning rate x 1.01", "loss x 2", "other order", "last batch dropped", "weight decay removed"),
    *("zero_grad missing", "other initialisation"),
)


@pytest.mark.parametrize("change", SEVEN)
@pytest.mark.parametrize("optimizer", sorted({*OPTIMIZERS} - {"sgd", "adamw"}))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_seven_changes_are_named_under_every_optimizer(optimizer: str, change: str, dtype: torch.dtype) -> None:
    options, kind, _ = CHANGES[change]
    _, diagnosis = judged(golden(optimizer, dtype=dtype), train(optimizer, dtype=dtype, **options))
    assert diagnosis.kind == kind, diagnosis


@pytest.mark.parametrize("change", [name for name in SEVEN if name != "weight decay removed"])
def test_six_of_them_are_named_in_bfloat16_and_said_to_be_less_certain(change: str) -> None:
    # A decay of 1 % of the gradient is below what bfloat16 can tell from rounding within a step.
    options, kind, _ = CHANGES[change]
    _, diagnosis = judged(golden("sgd", dtype=torch.bfloat16), train("sgd", dtype=torch.bfloat16, **options))
    assert diagnosis.kind == kind
    assert any("bfloat16 rounds coarsely" in fact for fact in diagnosis.evidence)


REVERSED = {
    "zero_grad missing": ("gradients-cleared", "gradients are cleared between steps now"),
    "last batch dropped": ("batch-added", "batches that were left out are used now"),
    "weight decay removed": ("weight-decay", "weight decay of 0.01 is added"),
    "clipped": ("gradients-clipped", "gradients are no longer clipped by norm at 0.2"),
    "L2 term missing": ("added-term", "an L2 penalty of the loss is new: 0.02 times"),
    "one epoch less": ("length", "15 steps instead of 10"),
    "loss x 2": ("loss-scaled", "the loss is multiplied by 0.5"),
}


@pytest.mark.parametrize("change", REVERSED)
def test_a_change_taken_back_is_named_too(change: str) -> None:
    kind, words = REVERSED[change]
    _, diagnosis = judged(golden("sgd", **CHANGES[change][0]), golden("sgd"))
    assert (diagnosis.kind, words in diagnosis.sentence) == (kind, True), diagnosis


@pytest.mark.parametrize(
    ("options", "change", "kind", "words"),
    [
        ({"shuffle": True}, {"order": 5}, "data-order", "the same samples in another order"),
        ({"shuffle": True}, {"drop_last": True}, "last-batch-dropped", "6 samples, golden step 4, 9, 14"),
        ({"batch": 70}, {"order": 3, "l1": 0.0}, "missing-term", "a term of the loss is missing"),
        ({"epochs": 1}, {"drop_last": True}, "last-batch-dropped", "6 samples, golden step 4"),
        ({"l1": 0.0, "l2": 0.0}, {"reduction": "sum"}, "loss-scaled", "by 16, the number of samples (a sum instead of"),
        ({"optimizer": "momentum"}, {"momentum": 0.8}, "momentum", "momentum changed by -0.1"),
        ({"l2": 0.0}, {"cut": True}, "severed", "no gradient reaches 0.weight, 0.bias any more, at the same loss"),
        ({"optimizer": "sgd"}, {"held": slice(2, None)}, "untrained", "0.weight, 0.bias are no longer trained"),
        ({"optimizer": "sgd"}, {"optimizer": "adam"}, "optimizer", "another optimizer: SGD -> Adam"),
        ({"optimizer": "sgd"}, {"dtype": torch.float64}, "precision", "computed in float64 instead of float32"),
    ],
)
def test_further_changes(options: dict[str, Any], change: dict[str, Any], kind: str, words: str) -> None:
    both = {"optimizer": "sgd", **options}
    now = {**both, **change}
    old = golden(both.pop("optimizer"), **both)
    _, diagnosis = judged(old, train(now.pop("optimizer"), **now))
    text = " ".join([diagnosis.sentence, *diagnosis.evidence])
    assert (diagnosis.kind, words in text) == (kind, True), diagnosis


def test_two_changes_at_once_are_not_called_by_the_name_of_one_that_does_not_fit() -> None:
    _, diagnosis = judged(golden("sgd"), train("sgd", loss_factor=2.0, l1=0.05))
    assert diagnosis.kind not in ("loss-scaled", "gradients-scaled", "learning-rate")


@pytest.mark.parametrize(
    ("columns", "change", "kind"),
    [
        (("loss",), "loss x 2", "start"),
        (("loss", "grad_norm_l2"), "loss x 2", "loss-scaled"),
        (("loss", "grad_norm_l2"), "learning rate x 1.01", "step-or-samples"),
        (("loss", "grad_norm_l2", "lr"), "learning rate x 1.01", "learning-rate"),
        (("loss", "grad_norm_l2"), "gradients / 2", "gradient-of-unknown-direction"),
        (("loss",), "other initialisation", "start"),
        (("loss",), "one epoch less", "length"),
    ],
)
def test_with_few_numbers_it_says_only_what_they_show(columns: tuple[str, ...], change: str, kind: str) -> None:
    def few(trajectory: Trajectory) -> Trajectory:
        rows = [{name: row[name] for name in columns} for row in trajectory.rows]
        return Trajectory(rows, dtype=trajectory.dtype)

    _, diagnosis = judged(few(golden("sgd")), few(train("sgd", **CHANGES[change][0])))
    assert diagnosis.kind == kind, diagnosis


def test_other_samples_at_zero_weights_are_not_called_scaled_gradients() -> None:
    # Every sample has the loss log 2 there, whatever it is; only the gradient tells samples apart.
    old = Trajectory([{"loss": 0.6931472, "grad_norm_l2": size} for size in (1.79, 0.9)])
    new = Trajectory([{"loss": 0.6931472, "grad_norm_l2": size} for size in (1.41, 0.8)])
    assert judged(old, new)[1].kind == "gradient-of-unknown-direction"


def test_the_first_step_and_quantity_that_differ_are_found_with_their_numbers() -> None:
    difference, _ = judged(golden("sgd"), train("sgd", zero=False))
    assert (difference.step, difference.column) == (1, "grad_norm_l2")
    assert str(difference).startswith("step 1: grad norm l2 is 0.")
    assert "up to" in str(difference) and "a factor of" in str(difference)


def test_unchanged_is_unchanged_through_the_file_for_every_optimizer(tmp_path: Path) -> None:
    for name in OPTIMIZERS:
        golden(name).write(tmp_path / f"{name}.json")
        old = Trajectory.read(tmp_path / f"{name}.json")
        assert compare(old, train(name), bounds_for(old)) is None
