"""Generated bad command lines, each in a process of its own: forked from one that has loaded Hydra, or started anew."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.forks import COMMAND, server
from tests.train.bad_overrides import FAMILIES, Case, generated
from tests.train.command import command_line, environment, start

COUNT = 6 * len(FAMILIES)
SEED = 20_260_113


def complaints(case: Case, status: int, out: str, err: str) -> list[str]:
    """What is wrong with an answer; nothing, if it is as it should be."""
    _, named = case
    lines = err.splitlines()
    checks = {
        f"status {status}": status == 2,
        "a traceback": "Traceback" not in err + out,
        "standard output": out == "",
        f"{len(lines)} lines": len(lines) == 1 and len(err) <= 6 * 120,
        f"{named!r} is not named": named in err,
        "control characters": all(letter.isprintable() or letter == "\n" for letter in err),
    }
    return [what for what, good in checks.items() if not good]


@pytest.mark.parametrize("more", [pytest.param(False), pytest.param(True, marks=pytest.mark.slow)])
def test_bad_command_lines_are_refused_in_one_line_without_torch(tmp_path, more):
    cases = list(generated(300, SEED))[COUNT:] if more else list(generated(COUNT, SEED))
    # Longer than an argument of a process may be.
    cases.append((["name=" + "x" * 10_000_000], "name"))
    work = tmp_path / "work"
    work.mkdir()
    variables = environment(tmp_path / "stand_in", PYTHONIOENCODING="utf-8", NO_TORCH="1")
    wrong = {}
    for case in cases:
        ended = server(COMMAND).call(command_line, tuple(case[0]), variables, tmp_path / "stand_in", cwd=work)
        found = complaints(case, ended.status, ended.stdout, ended.stderr)
        if found or any(work.iterdir()):
            wrong[str(case)[:200]] = (found, ended.stderr[-300:])
    assert not wrong


def test_a_case_of_every_fourth_family_is_refused_by_the_command_started_anew(tmp_path):
    environment(tmp_path / "stand_in")
    cases = list(generated(len(FAMILIES), SEED + 1))[::4]
    folders = [tmp_path / str(number) for number in range(len(cases))]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        answers = list(pool.map(refused_anew, cases, folders))
    assert not {str(case)[:200]: answer for case, answer in zip(cases, answers, strict=True) if answer[0]}


def refused_anew(case: Case, folder: Path) -> tuple[list[str], str]:
    """What is wrong with the answer of `python -m gradkit.train`, and what it said."""
    folder.mkdir()
    arguments = [text.replace("\0", "") for text in case[0]]
    ran = start(*arguments, cwd=folder, stand_in=folder.parent / "stand_in", PYTHONIOENCODING="utf-8", NO_TORCH="1")
    found = complaints(case, ran.status, ran.out, ran.err)
    return found + (["files"] if any(folder.iterdir()) else []), ran.err
