"""What is read from the user's source text."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradkit.observe.source import reading
from gradkit.observe.source.clearings import clearings


def written(folder: Path, text: str) -> str:
    file = folder / "train.py"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("line", "clears"),
    [
        ("optimizer.zero_grad()", True),
        ("model.zero_grad(set_to_none=False)", True),
        ("p.grad = None", True),
        ("p.grad = torch.zeros_like(p)", True),
        ("p.grad.zero_()", True),
        ("p.grad.data.zero_()", True),
        ("p.grad.fill_(0)", True),
        ("torch._foreach_zero_(grads)", True),
        ("p.grad.copy_(reduced)", False),
        ("p.grad.fill_(1)", False),
        ("p.grad = reduced", False),
        ("hidden.zero_()", False),
        ("optimizer.step()", False),
    ],
)
def test_statements_that_clear_are_known_by_their_looks(tmp_path: Path, line: str, clears: bool) -> None:
    assert [item.line for item in clearings(written(tmp_path, f"\n{line}\n"))] == ([2] if clears else [])


@pytest.mark.parametrize("text", ["%matplotlib inline\noptimizer.zero_grad()\n", "def broken(:\n", "\0", ""])
def test_text_that_is_not_python_holds_no_statements(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    assert clearings(file) == []


def test_a_missing_file_says_nothing(tmp_path: Path) -> None:
    missing = str(tmp_path / "gone.py")
    assert clearings(missing) == []
    assert reading.line_text(missing, 1) == ""


def test_the_returned_loss_is_found_below_decorators(tmp_path: Path) -> None:
    file = written(tmp_path, "@hook\ndef step(x):\n    if x:\n        return\n    return x\n")
    assert reading.return_line(file, 1) == 5
    assert reading.return_line(file, 3) is None
