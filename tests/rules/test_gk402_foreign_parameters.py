"""GK402: an optimizer none of whose parameters takes part, and everything that only looks like one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from gradkit.findings import Severity
from gradkit.rules.gk402_foreign_parameters import ForeignParameters
from tests.rules.membership import MADE, Net, parameters, record, train, watched


def check(**changes: Any) -> list[Any]:
    return list(ForeignParameters().check([record(foreign=True, held=0, held_numbers=0, **changes)]))


def test_a_foreign_optimizer_is_an_error_where_it_was_made() -> None:
    (finding,) = check(idle=parameters("a", "b", shape=(2,)))
    assert (finding.severity, finding.location) == (Severity.ERROR, MADE)
    assert not finding.evidence["same_shapes"]


def test_equal_shapes_are_said_to_be_another_instance() -> None:
    (finding,) = check(idle=parameters("a", "b"))
    assert "another instance" in finding.message


def test_what_was_sharded_since_is_said_to_be_so() -> None:
    (finding,) = check(idle=parameters("a", "b"), sharded_since=True)
    assert "are sharded: it was built before the model was." in finding.message
    assert "another instance" not in finding.message


def test_an_optimizer_of_the_model_is_silent() -> None:
    assert not list(ForeignParameters().check([record()]))
    assert not check(windows=2)


@pytest.mark.parametrize(("steps", "expected"), [(2, set()), (3, {"GK402"}), (25, {"GK402"})])
def test_it_fires_at_the_third_step_and_nothing_else_does(steps: int, expected: set[str]) -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.Adam(copy.deepcopy(model).parameters(), lr=0.1)
        train(model, optimizer, steps)

    found = watched(run)
    assert set(found) == expected
    if expected:
        assert found["GK402"].first_step == 2


def test_gradients_left_over_from_another_time_do_not_hide_it() -> None:
    old, model = Net(), Net()
    old(torch.randn(3, 4)).sum().backward()

    def run() -> None:
        optimizer = torch.optim.SGD(old.parameters(), lr=0.1)
        for _ in range(5):
            model.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            optimizer.step()

    assert "GK402" in watched(run)


def test_another_optimizer_for_what_takes_part_makes_it_silent() -> None:
    def run() -> None:
        model, other = Net(), Net()
        mine, idle = torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.SGD(other.parameters(), lr=0.1)
        for _ in range(6):
            mine.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            mine.step()
            idle.step()

    assert "GK402" not in watched(run)


def test_gradients_written_by_hand_make_it_silent() -> None:
    def run() -> None:
        model, shadow = Net(), Net()
        optimizer = torch.optim.SGD(shadow.parameters(), lr=0.1)

        def hand_over(step: int) -> None:
            for mine, theirs in zip(model.parameters(), shadow.parameters(), strict=True):
                theirs.grad = mine.grad

        for _ in range(6):
            model.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            hand_over(0)
            optimizer.step()

    assert not watched(run)


def test_an_optimizer_of_another_part_of_the_same_model_is_named() -> None:
    def run() -> None:
        model = Net()
        unused = torch.nn.Linear(3, 3)
        model.unused = unused
        train(model, torch.optim.SGD(unused.parameters(), lr=0.1), 5)

    found = watched(run)
    assert set(found) == {"GK402"}
    assert "none of its 2 parameter(s)" in found["GK402"].message


@pytest.mark.parametrize("named", ["model", "optimizer", "both", "nothing"])
def test_it_is_found_whatever_is_named(named: str) -> None:
    model, other = Net(), Net()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    targets = {"model": [model], "optimizer": [optimizer], "both": [model, optimizer], "nothing": []}[named]
    found = watched(lambda: train(model, optimizer, 6), *targets)
    assert set(found) == {"GK402"}
    assert found["GK402"].first_step == 2


def test_a_stranger_that_trains_its_own_model_is_not_accused_beside_a_named_one() -> None:
    mine, other = Net(), Net()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)

    def run() -> None:
        for _ in range(6):
            mine.zero_grad()
            mine(torch.randn(8, 4)).pow(2).mean().backward()
            train(other, optimizer, 1)

    assert not watched(run, mine)


def test_plain_tensors_made_again_are_found_by_their_shapes() -> None:
    def script(again: bool) -> None:
        weight, bias = torch.randn(4, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.SGD([weight, bias], lr=0.1)
        if again:
            weight, bias = torch.randn(4, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
        for _ in range(6):
            optimizer.zero_grad()
            (torch.randn(8, 4) @ weight + bias).pow(2).mean().backward()
            optimizer.step()

    assert set(watched(lambda: script(True))) == {"GK402"}
    assert not watched(lambda: script(False))


@pytest.mark.parametrize("copied_at", range(1, 9))
@pytest.mark.parametrize("clears_the_model", [False, True])
def test_a_model_copied_in_the_middle_of_training_is_found_and_nothing_beside_it(
    copied_at: int, clears_the_model: bool
) -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(24):
            if step == copied_at:
                model = copy.deepcopy(model)
            (model if clears_the_model else optimizer).zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            optimizer.step()

    assert set(watched(run)) == {"GK402"}
