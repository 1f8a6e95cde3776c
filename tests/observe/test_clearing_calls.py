"""Which statement is named for gradients that were cleared, and when a condition decided about it."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import gradkit

HELPERS = """
def wipe(model):
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()  # HERE


def wipe_if(model, asked):
    if not asked:
        return
    model.zero_grad()


def both(model):
    model(model.x).sum().backward()
    model.zero_grad()  # HERE


class Wiper:
    def __init__(self, model):
        self.model = model

    def wipe(self):
        self.inner()

    def inner(self):
        self.model.zero_grad()  # HERE
"""


def loaded(folder: Path, name: str, text: str) -> Any:
    file = folder / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def found(folder: Path, body: str) -> list[tuple[str, int]] | None:
    """File and line of what is named for the cleared gradients of a loop with this body; None without a finding."""
    helpers = loaded(folder, "helpers", HELPERS)
    text = "def run(model, optimizer, helpers, asked):\n    wiper = helpers.Wiper(model)\n    for _ in range(4):\n"
    program = loaded(folder, "program", text + textwrap.indent(textwrap.dedent(body), " " * 8))
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    model.x = torch.ones(4, 3)
    with gradkit.watch(report="never") as monitor:
        program.run(model, torch.optim.SGD(model.parameters(), lr=0.1), helpers, True)
    findings = [finding for finding in monitor.findings if finding.rule == "GK102"]
    if not findings:
        return None
    cleared = [place for place, note in findings[0].labels if note == "the gradients were cleared here"]
    return [(Path(place.file).name, place.line) for place in cleared]


def here(text: str, number: int) -> int:
    return [line for line, words in enumerate(text.splitlines(), 1) if "HERE" in words][number]


BACKWARD = "model(model.x).sum().backward()\n"


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (BACKWARD + "helpers.wipe(model)\noptimizer.step()", 0),
        ("helpers.both(model)\noptimizer.step()", 1),
        (BACKWARD + "wiper.wipe()\noptimizer.step()", 2),
        ("if asked:\n    " + BACKWARD + "    helpers.wipe(model)\n    optimizer.step()", 0),
        ("if asked:\n    " + BACKWARD + "    helpers.wipe(model)\noptimizer.step()", 0),
    ],
)
def test_the_clearing_in_a_helper_is_named(tmp_path: Path, body: str, number: int) -> None:
    assert found(tmp_path, body) == [("helpers.py", here(HELPERS, number))]


@pytest.mark.parametrize(
    "body",
    [
        BACKWARD + "if asked:\n    helpers.wipe(model)\noptimizer.step()",
        BACKWARD + "asked and wiper.wipe()\noptimizer.step()",
        BACKWARD + "helpers.wipe(model) if asked else None\noptimizer.step()",
        BACKWARD + "helpers.wipe_if(model, asked)\noptimizer.step()",
        BACKWARD + "match asked:\n    case True:\n        optimizer.zero_grad()\noptimizer.step()",
    ],
)
def test_a_condition_around_a_call_decides_about_what_it_clears(tmp_path: Path, body: str) -> None:
    assert found(tmp_path, body) is None


def test_what_stands_before_the_backward_on_one_line_is_not_named(tmp_path: Path) -> None:
    assert found(tmp_path, "optimizer.zero_grad(); " + BACKWARD + "optimizer.zero_grad(); optimizer.step()") == [
        ("program.py", 5)
    ]


def test_a_clearing_that_cannot_be_read_leaves_the_finding_without_its_line(tmp_path: Path) -> None:
    assert found(tmp_path, BACKWARD + "(lambda: model.zero_grad())()\noptimizer.step()") == []
