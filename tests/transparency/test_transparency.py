"""Whatever a program does, watching changes neither its weights, random numbers and output nor how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forks import Forks
from tests.transparency.programs import AFTER, BEFORE, PROGRAMS


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
