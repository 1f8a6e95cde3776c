"""Whole training programs compute, print and leave behind the same under the runner, which finds what is declared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.forks import Forks
from tests.scenarios.harness import Scenario, scenarios

NEEDED = ("lightning", "accelerate", "transformers")
# Plain programs of every kind, spread over the list; those that need options are tried by the scenarios' own tests.
PLAIN = [
    scenario
    for scenario in scenarios()
    if not any(name in (text := scenario.path.read_text()) for name in NEEDED) and "\nWATCH" not in text
]
CHOSEN = PLAIN[:: max(1, len(PLAIN) // 20)][:20]
DRIVER = """\
import sys
from pathlib import Path
import torch
from tests.scenarios.harness import digest, read
path, name, out = sys.argv[1:]
scenario = next(each for each in read(Path(path)) if each.function == name)
torch.manual_seed(0)
result = getattr(scenario.load(), name)()
Path(out).write_text(digest(result) + digest(torch.get_rng_state()))
"""


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=scenario.id, marks=[pytest.mark.slow] * (number % 3 > 0))
        for number, scenario in enumerate(CHOSEN)
    ],
)
def test_a_program_is_unchanged_and_its_fault_is_found(scenario: Scenario, forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    line = (str(scenario.path), scenario.function)
    bare = forks.run(*line, str(tmp_path / "bare"), cwd=tmp_path, module="driver")
    report = tmp_path / "out.json"
    seen = forks.run(f"--report={report}", "driver.py", *line, str(tmp_path / "seen"), cwd=tmp_path)
    assert (seen.status, seen.stdout) == (bare.status, bare.stdout) == (0, bare.stdout)
    assert (tmp_path / "seen").read_bytes() == (tmp_path / "bare").read_bytes(), "weights and random state"
    found = {(each["rule"], each["location"]["line"]) for each in json.loads(report.read_text())["findings"]}
    assert found == set(scenario.expected), seen.stderr
