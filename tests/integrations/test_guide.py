"""The guide to the plugin names every option, setting, argument, fixture and tolerance there is, and its code runs."""

from __future__ import annotations

import re

import pytest

from gradkit.integrations import pytest_plugin
from gradkit.integrations._pytest_session import ARGUMENTS, FAIL_ON
from gradkit.trajectory.tolerances import RTOL
from tests.integrations.plugin_runs import ROOT

GUIDE = (ROOT / "docs" / "pytest.md").read_text()
PLUGIN = (ROOT / "gradkit" / "integrations" / "pytest_plugin.py").read_text()


def test_it_names_everything_that_can_be_set() -> None:
    options, settings = re.findall(r'"(--gradkit[\w-]*)"', PLUGIN), re.findall(r'addini\(\s*"(\w+)"', PLUGIN)
    assert len(options) == 4 and len(settings) == 5
    fixtures = [
        name for name, value in vars(pytest_plugin).items() if type(value).__name__ == "FixtureFunctionDefinition"
    ]
    assert len(fixtures) == 6
    for name in (*options, *settings, *ARGUMENTS, *FAIL_ON, *fixtures):
        assert name in GUIDE, name


def test_it_states_the_tolerances_in_force() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| ([\d.e-]+) \|", GUIDE, re.MULTILINE))
    assert {name: float(value) for name, value in rows.items()} == RTOL


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
def test_its_code_is_code(block: str) -> None:
    compile(block, "docs/pytest.md", "exec")
