"""The code of the guide runs, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import torch

GUIDE = Path(__file__).parents[2] / "docs" / "check" / "guide.md"


def code():
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_every_block_runs_in_order_and_passes(capsys):
    torch.manual_seed(0)
    names: dict = {}
    for block in code():
        exec(compile(block, str(GUIDE), "exec"), names)
    assert capsys.readouterr().out.split() == ["pass"] * 3
    names["test_focal_gradient"]()
    names["target"](2.0)


def test_the_mistake_the_guide_suggests_is_caught():
    names: dict = {}
    blocks = code()
    exec(blocks[0].replace("2 * p * log_p", "p * log_p"), names)
    exec(blocks[1].partition("for dtype")[0], names)
    import gradkit.check

    result = gradkit.check.function(names["Focal"], (names["z"], names["y"]), dtype=torch.float32, order=1)
    assert result.verdict == "fail"
    assert "the formula is wrong, whatever the dtype" in result.findings[0].message
