"""Every scenario: the declared findings and no others, at their lines; weights, random state and output unchanged."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.harness import FOLDER, Scenario, found, run, scenarios

ALL = scenarios()
# Processes cost seconds each: the plain programs of every kind, spread over the list.
_PLAIN = [scenario for scenario in ALL if "lightning" not in scenario.id and "transformers" not in scenario.id]
IN_PROCESSES = _PLAIN[:: max(1, len(_PLAIN) // 20)][:20]


def _needs(scenario: Scenario) -> None:
    text = scenario.path.read_text()
    for package in ("lightning", "accelerate", "transformers"):
        if f'"{package}"' in text and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


@pytest.mark.parametrize("deep", [False, True], ids=["standard", "deep"])
@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.id)
@pytest.mark.filterwarnings("default")
def test_finds_exactly_what_is_declared_and_changes_nothing(scenario: Scenario, deep: bool) -> None:
    _needs(scenario)
    bare = run(scenario, watched=False)
    watched = run(scenario, watched=True, deep=deep)
    tracebacks = [finding.evidence["traceback"] for finding in watched.findings if finding.rule == "GK900"]
    assert not tracebacks, "\n".join(tracebacks)
    assert found(watched) == scenario.expected, [f"{f.rule} {f.message} {f.location}" for f in watched.findings]
    assert all(f.location is None or Path(f.location.file).parent == FOLDER for f in watched.findings)
    first = getattr(scenario.load(), "FIRST_STEP", None)
    if first is not None and scenario.expected:
        assert min(f.first_step for f in watched.findings) == first
    assert (watched.weights, watched.rng) == (bare.weights, bare.rng)
    assert watched.stdout == bare.stdout
    assert watched.attached_after == ()


@pytest.mark.slow
@pytest.mark.parametrize("scenario", IN_PROCESSES, ids=lambda scenario: scenario.id)
def test_real_processes_compute_and_print_the_same(scenario: Scenario, tmp_path: Path) -> None:
    _needs(scenario)
    outputs = []
    for name, options in (("bare", []), ("watched", ["--watch"])):
        command = [sys.executable, "-m", "tests.scenarios.harness", str(scenario.path), "--process", scenario.function]
        done = subprocess.run(
            [*command, str(tmp_path / name), *options],
            cwd=FOLDER.parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append((done.stdout, json.loads((tmp_path / name).read_text())))
    (bare_out, bare), (watched_out, watched) = outputs
    assert watched_out == bare_out
    assert (watched["weights"], watched["rng"]) == (bare["weights"], bare["rng"])
    assert {tuple(item) for item in watched["findings"]} == scenario.expected


def test_every_faulty_program_has_a_repaired_twin() -> None:
    for stem in {scenario.path.stem for scenario in ALL if scenario.expected}:
        assert any(scenario.healthy for scenario in ALL if scenario.path.stem == stem), f"{stem} has no repaired twin"
