"""Every scenario: the declared findings and no others, at their lines; weights, random state and output unchanged."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.forks import Forks
from tests.scenarios.harness import FOLDER, Outcome, Scenario, found, run, scenarios, the_long_way

ALL = scenarios()
_HEALTHY = [scenario for scenario in ALL if scenario.healthy]
# Every program in standard mode; in deep mode and the long way every faulty one and a third of the healthy ones, chosen
# by position, and the rest when `slow` tests are asked for.
BOTH_WAYS = {*(scenario for scenario in ALL if scenario.expected), *_HEALTHY[::3]}
CASES = [
    (scenario, mode, mode != "standard" and scenario not in BOTH_WAYS)
    for scenario in ALL
    for mode in ("standard", "deep", "long-way")
]
# Processes cost seconds each: the plain programs of every kind, spread over the list.
_PLAIN = [scenario for scenario in ALL if "lightning" not in scenario.id and "transformers" not in scenario.id]
IN_PROCESSES = _PLAIN[:: max(1, len(_PLAIN) // 20)][:20]


def _needs(scenario: Scenario) -> None:
    text = scenario.path.read_text()
    for package in ("lightning", "accelerate", "transformers"):
        if f'"{package}"' in text and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


@functools.cache
def _bare(scenario: Scenario) -> Outcome:
    return run(scenario, watched=False)


@functools.cache
def _standard(scenario: Scenario) -> Outcome:
    return run(scenario, watched=True)


def _watched(scenario: Scenario, mode: str) -> Outcome:
    if mode == "standard":
        return _standard(scenario)
    if mode == "deep":
        return run(scenario, watched=True, deep=True)
    with the_long_way():
        return run(scenario, watched=True)


@pytest.mark.parametrize(
    ("scenario", "mode"),
    [
        pytest.param(scenario, mode, marks=[pytest.mark.slow] * slow, id=f"{scenario.id}-{mode}")
        for scenario, mode, slow in CASES
    ],
)
@pytest.mark.filterwarnings("default")
def test_finds_exactly_what_is_declared_and_changes_nothing(scenario: Scenario, mode: str) -> None:
    _needs(scenario)
    bare = _bare(scenario)
    watched = _watched(scenario, mode)
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
    if mode == "long-way":
        standard = _standard(scenario)
        assert watched.records == standard.records
        assert _told(watched) == _told(standard)


def _told(outcome: Outcome) -> list[tuple[object, ...]]:
    return [(f.rule, f.message, f.first_step, f.last_step, f.count) for f in outcome.findings]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the outcomes of all sampled scenarios lie, each run bare and watched in a process of its own."""
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked")
    # The folder all workers of pytest-xdist share, each of which comes by here.
    workers = os.environ.get("PYTEST_XDIST_WORKER")
    out = (tmp_path_factory.getbasetemp().parent if workers else tmp_path_factory.getbasetemp()) / "processes"
    command = [sys.executable, "-m", "tests.scenarios.harness", "--processes", str(out)]
    with FileLock(f"{out}.lock"):
        if not out.exists():
            out.mkdir()
            subprocess.run(
                [*command, *(s.id for s in IN_PROCESSES)], cwd=FOLDER.parents[1], check=True, capture_output=True
            )
    return out


@pytest.mark.slow
@pytest.mark.parametrize("scenario", IN_PROCESSES, ids=lambda scenario: scenario.id)
def test_real_processes_compute_and_print_the_same(scenario: Scenario, processes: Path) -> None:
    _needs(scenario)
    name = scenario.id.replace(":", "-")
    bare, watched = (json.loads((processes / f"{name}.{kind}").read_text()) for kind in ("bare", "watched"))
    assert (watched["weights"], watched["rng"]) == (bare["weights"], bare["rng"])
    for kind in ("stdout", "status"):
        assert (processes / f"{name}.watched.{kind}").read_text() == (processes / f"{name}.bare.{kind}").read_text()
    assert {tuple(item) for item in watched["findings"]} == scenario.expected


_LEAVING = """
import sys, torch
{watch}
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    print(step, flush=True)
{leave}
"""


@pytest.mark.parametrize("leave", ["sys.exit(3)", "raise KeyError('no such batch')", "import os; os.abort()", "pass"])
def test_a_watched_process_ends_as_it_would_have(leave: str, forks: Forks, tmp_path: Path) -> None:
    outcomes = []
    for watch in ("", "import gradkit; gradkit.watch().start()"):
        (tmp_path / "leaving.py").write_text(_LEAVING.format(watch=watch, leave=leave))
        ended = forks.script("leaving.py", cwd=tmp_path)
        outcomes.append((ended.status, ended.stdout))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1] == "0\n1\n2\n"


def test_every_faulty_program_has_a_repaired_twin() -> None:
    for stem in {scenario.path.stem for scenario in ALL if scenario.expected}:
        assert any(scenario.healthy for scenario in ALL if scenario.path.stem == stem), f"{stem} has no repaired twin"
