"""Whatever a program does, watching changes neither its weights, random numbers and output nor how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks import Forks
from tests.processes import ENVIRONMENT
from tests.transparency.programs import AFTER, APART, BEFORE, PROGRAMS


def written(folder: Path, source: str) -> str:
    path = folder / "program.py"
    path.write_text(BEFORE + source + AFTER, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_ends_as_it_does_alone(name: str, forks: Forks, tmp_path: Path) -> None:
    ends = []
    for watched in (False, True):
        folder = tmp_path / ("watched" if watched else "bare")
        folder.mkdir()
        program = written(tmp_path, PROGRAMS[name])
        run = forks.run if watched else forks.script
        ended = run(program, cwd=folder)
        ends.append((ended.status, ended.stdout))
        assert "GK900" not in ended.stderr, ended.stderr
        assert ended.stdout, ended.stderr
    assert ends[1] == ends[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", APART)
def test_a_program_with_an_interpreter_of_its_own_ends_as_it_does_alone(name: str, tmp_path: Path) -> None:
    flags, source = APART[name]
    program = written(tmp_path, source)
    ends = []
    for way in ([], ["-m", "gradkit.run"]):
        ended = subprocess.run(
            [sys.executable, *flags, *way, program], env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True
        )
        ends.append((ended.returncode, ended.stdout))
        assert "GK900" not in ended.stderr, ended.stderr
        assert ended.stdout, ended.stderr
    assert ends[1] == ends[0]
