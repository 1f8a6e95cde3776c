"""The examples run as their pages say: silent when correct, one finding when broken."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = {"examples/lightning/logistic.py": "GK101", "examples/transformers/tiny_gpt2.py": "GK401"}


@pytest.mark.slow
@pytest.mark.parametrize(("script", "rule"), EXAMPLES.items())
@pytest.mark.parametrize("broken", [False, True])
def test_an_example_runs_as_its_page_says(script: str, rule: str, broken: bool) -> None:
    if importlib.util.find_spec("transformers") is None and "transformers" in script:
        pytest.skip("needs transformers")
    done = subprocess.run(
        [sys.executable, script, "--epochs", "2", *(["--broken"] if broken else [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"findings {int(broken)}" in done.stdout
    assert (rule in done.stderr) == broken
    assert ("GK" in done.stderr) == broken
