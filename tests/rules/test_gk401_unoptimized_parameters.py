"""GK401: what the record must say for an error, a warning or silence, and after how many steps it comes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from gradkit.findings import Severity
from gradkit.rules.gk401_unoptimized_parameters import UnoptimizedParameters
from tests.rules.membership import MADE, STEPPED, Net, parameters, record, train, watched


def check(**changes: Any) -> list[Any]:
    return list(UnoptimizedParameters().check([record(**changes)]))


def test_parameters_left_out_of_a_mostly_optimized_model_are_an_error_where_the_optimizer_was_made() -> None:
    (finding,) = check()
    assert (finding.severity, finding.location) == (Severity.ERROR, MADE)
    assert finding.parameters == ("head.weight", "head.bias")
    assert finding.modules == ("head",)
    assert "2 of 10 parameter(s) of Net" in finding.message


def test_the_step_is_named_when_nobody_saw_the_optimizer_being_made() -> None:
    (finding,) = check(created_line=None)
    assert finding.location == STEPPED


@pytest.mark.parametrize(
    "changes",
    [
        {"windows": 2},
        {"foreign": True},
        {"held": 1, "held_numbers": 5},
        {"held": 8, "held_numbers": 5},
        {"held": 0, "held_numbers": 0},
        {"evaluating": True},
        {"evaluating": True, "late": True},
        {"evaluating": True, "container": "teachers", "container_size": 2},
        {"container": "teachers", "container_size": 1, "held": 0},
    ],
    ids=str,
)
def test_it_is_silent(changes: dict[str, Any]) -> None:
    assert not check(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"idle": parameters("old.weight")},
        {"late": True},
        {"container": "layers", "container_size": 2},
    ],
    ids=str,
)
def test_a_sign_of_a_mistake_makes_an_error_whatever_the_shares(changes: dict[str, Any]) -> None:
    (finding,) = check(held=1, held_numbers=2, upstream=True, **changes)
    assert finding.severity is Severity.ERROR


def test_first_layers_left_out_are_only_a_warning() -> None:
    (finding,) = check(upstream=True)
    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize(("steps", "expected"), [(2, set()), (3, {"GK401"}), (30, {"GK401"})])
def test_it_fires_at_the_third_step(steps: int, expected: set[str]) -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.head = nn.Linear(8, 3)
        train(model, optimizer, steps)

    found = watched(run)
    assert set(found) == expected
    if expected:
        assert found["GK401"].first_step == 2


def test_the_number_of_steps_is_a_setting() -> None:
    def run() -> None:
        model = Net()
        train(model, torch.optim.SGD([*model.stem.parameters(), *model.body.parameters()], lr=0.1), 5)

    assert set(watched(run, settings={"GK401": {"steps": 5}})) == {"GK401"}
    assert not watched(run, settings={"GK401": {"steps": 6}})


def _normed(model: Net) -> None:
    torch.nn.utils.parametrizations.weight_norm(model.head)


def _recast(model: Net) -> None:
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model.head.double().float()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def _copied(model: Net) -> None:
    model.body = copy.deepcopy(model.body)


def _added(model: Net) -> None:
    model.head = nn.Sequential(model.head, nn.Linear(2, 2))


@pytest.mark.parametrize("change", [_normed, _recast, _copied, _added], ids=lambda change: change.__name__)
@pytest.mark.parametrize("before", [False, True], ids=["after the optimizer", "before it"])
def test_changes_of_the_model_matter_only_after_the_optimizer_was_made(change: Any, before: bool) -> None:
    def run() -> None:
        model = Net()
        if before:
            change(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if not before:
            change(model)
        train(model, optimizer, 5)

    assert set(watched(run)) == (set() if before else {"GK401"})


def test_pruning_keeps_the_parameters_the_optimizer_holds() -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.nn.utils.prune.l1_unstructured(model.body, "weight", amount=0.5)
        train(model, optimizer, 5)

    assert not watched(run)


def test_a_layer_added_in_the_middle_of_training_is_found() -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, optimizer, 20)
        model.head = nn.Sequential(model.head, nn.Linear(2, 2))
        train(model, optimizer, 60)

    found = watched(run)
    assert set(found) == {"GK401"}
    assert found["GK401"].parameters == ("head.1.weight", "head.1.bias")


def test_declared_frozen_parameters_are_not_missed() -> None:
    def run() -> None:
        model = Net()
        train(model, torch.optim.SGD([*model.stem.parameters(), *model.body.parameters()], lr=0.1), 5)

    assert set(watched(run)) == {"GK401"}
    assert not watched(run, frozen=("head.*",))


def test_only_named_models_are_judged() -> None:
    mine, other = Net(), Net()
    optimizer = torch.optim.SGD([*mine.stem.parameters(), *mine.body.parameters()], lr=0.1)

    def run() -> None:
        train(mine, optimizer, 5)

    assert set(watched(run, mine, optimizer)) == {"GK401"}
    assert not watched(run, other, optimizer)


def test_parameters_in_a_reentrant_checkpoint_are_not_taken_for_missing() -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(6):
            optimizer.zero_grad()
            x = torch.randn(8, 4, requires_grad=True)
            torch.utils.checkpoint.checkpoint(model, x, use_reentrant=True).pow(2).mean().backward()
            optimizer.step()

    assert set(watched(run)) <= {"GK901"}


def test_long_accumulation_does_not_hide_it() -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD([*model.stem.parameters(), *model.body.parameters()], lr=0.1)
        for _ in range(8):
            optimizer.zero_grad()
            for _ in range(100):
                (model(torch.randn(2, 4)).pow(2).mean() / 100).backward()
            optimizer.step()

    assert set(watched(run)) == {"GK401"}


def test_parameters_filtered_by_name_are_missed() -> None:
    def run() -> None:
        model = Net()
        held = [parameter for name, parameter in model.named_parameters() if "bias" not in name]
        train(model, torch.optim.Adam(held, lr=0.01), 6)

    found = watched(run)
    assert set(found) == {"GK401"}
    assert found["GK401"].parameters == ("stem.bias", "body.bias", "head.bias")


@pytest.mark.parametrize(
    "keep", [lambda layers: layers, tuple, lambda layers: {str(i): m for i, m in enumerate(layers)}]
)
def test_any_plain_container_is_named(keep: Any) -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = keep([nn.Linear(4, 4) for _ in range(6)])
            self.out = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers.values() if isinstance(self.layers, dict) else self.layers:
                x = torch.tanh(layer(x))
            return self.out(x)

    def run() -> None:
        model = Stack()
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 5)

    found = watched(run)
    assert set(found) == {"GK401"}
    assert found["GK401"].evidence["container"] == "layers"
    assert found["GK401"].severity is Severity.ERROR
