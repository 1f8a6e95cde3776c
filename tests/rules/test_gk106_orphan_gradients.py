"""GK106: gradients that pile up on what nobody optimizes, and the many reasons for silence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gradkit.findings import Severity
from gradkit.rules.gk106_orphan_gradients import OrphanGradients
from tests.rules.membership import DEPOSITED, Net, parameters, record, watched


def check(**changes: Any) -> list[Any]:
    return list(OrphanGradients().check([record(**{"held": 0, "held_numbers": 0, **changes})]))


def test_orphans_are_a_warning_where_their_gradients_arrive() -> None:
    (finding,) = check()
    assert (finding.severity, finding.location) == (Severity.WARNING, DEPOSITED)
    assert "3 steps" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"windows": 2},
        {"kept": False},
        {"inputs_only": True},
        {"foreign": True},
        {"held": 8, "held_numbers": 800},
        {"held": 1, "held_numbers": 1, "idle": parameters("old.weight")},
    ],
    ids=str,
)
def test_it_is_silent(changes: dict[str, Any]) -> None:
    assert not check(**changes)


def test_a_part_in_eval_mode_is_a_network_used_rather_than_trained() -> None:
    assert check(held=8, held_numbers=800, evaluating=True)


def distil(steps: int, detach: bool = False, clear: str = "") -> None:
    teacher, student = Net(), Net()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(8, 4)
        target = teacher(x).detach() if detach else teacher(x)
        (student(x) * 2 - target).pow(2).mean().backward()
        optimizer.step()
        if clear == "none":
            teacher.zero_grad()
        elif clear == "zeros":
            teacher.zero_grad(set_to_none=False)
        elif clear == "data":
            for parameter in teacher.parameters():
                parameter.grad.data.zero_()


@pytest.mark.parametrize(("steps", "expected"), [(2, set()), (3, {"GK106"}), (12, {"GK106"})])
def test_it_fires_at_the_third_step(steps: int, expected: set[str]) -> None:
    assert set(watched(lambda: distil(steps))) == expected


def test_a_detached_teacher_is_silent() -> None:
    assert not watched(lambda: distil(6, detach=True))


@pytest.mark.parametrize("clear", ["none", "zeros", "data"])
def test_somebody_clearing_them_is_silent(clear: str) -> None:
    assert not watched(lambda: distil(6, clear=clear))


def test_clipping_along_with_the_student_is_no_clearing() -> None:
    def run() -> None:
        teacher, student = Net(), Net()
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        for _ in range(6):
            optimizer.zero_grad()
            x = torch.randn(8, 4)
            (student(x) * 2 - teacher(x)).pow(2).mean().backward()
            torch.nn.utils.clip_grad_norm_([*student.parameters(), *teacher.parameters()], 0.1)
            optimizer.step()

    assert set(watched(run)) == {"GK106"}


def test_no_optimizer_at_all_is_silent() -> None:
    def run() -> None:
        model = Net()
        for _ in range(200):
            model(torch.randn(2, 4)).sum().backward()

    assert not watched(run)


def test_teachers_in_a_plain_list_in_eval_mode_are_used_rather_than_trained() -> None:
    class Student(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.teachers = [Net().eval(), Net().eval()]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) * 3 - sum(teacher(x) for teacher in self.teachers)

    def run() -> None:
        model = Student()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            optimizer.step()

    assert set(watched(run)) == {"GK106"}
