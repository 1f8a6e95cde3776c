"""Sharded and wrapped parameters are judged as plain ones are: two processes under torchrun, faulty and sound twins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "program.py"
PROCESSES = 2
SECONDS = 570


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process wrote of every case."""
    folder = tmp_path_factory.mktemp("sharded")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, str(PROGRAM), str(folder)], env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


def wrong(entry: dict[str, Any]) -> str:
    """What is not as it should be in one process, empty if nothing is."""
    if "error" in entry:
        return str(entry["error"])
    spoke = {item["rule"] for item in entry["findings"]}
    if spoke != set(entry["wanted"]):
        return f"wanted {entry['wanted']}, heard {[item['message'] for item in entry['findings']]}"
    if entry["crashed"]:
        return f"gradkit's own mistake: {entry['crashed']}"
    return "" if entry["same"] else "other weights than without watching"


def test_the_right_rules_speak_in_every_process_and_the_weights_stay_as_they_were(told: list[dict[str, Any]]) -> None:
    assert len(told[0]) > 100
    found = [f"{name} in {rank}: {wrong(process[name])}" for rank, process in enumerate(told) for name in process]
    assert not [line for line in found if not line.endswith(": ")]


def test_parameters_are_named_without_their_wrappers(told: list[dict[str, Any]]) -> None:
    findings = [item for process in told for entry in process.values() for item in entry["findings"]]
    names = {name for item in findings for name in item["parameters"]}
    assert "3.weight" in names
    assert not any("_fsdp" in name or "_checkpoint" in name for name in names)


def test_an_optimizer_made_before_sharding_is_told_so(told: list[dict[str, Any]]) -> None:
    (item,) = told[0]["optimizer_made_before_sharding[fsdp2]"]["findings"]
    assert "it was built before the model was" in item["message"]


def test_a_step_of_a_sharded_optimizer_counts_once(told: list[dict[str, Any]]) -> None:
    assert all(process["zero_sound"]["steps"] == 6 for process in told)
