"""Generated bad command lines: all of them in one fresh process, a dozen (or, marked slow, all) in one process each."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.train.bad_overrides import FAMILIES, Case, generated
from tests.train.command import environment, train

COUNT = 300
SEED = 20_260_113

# Calls `main` for each case and reports; what `main` prints goes into the report.
LOOP = """
import contextlib, io, json, pathlib, sys, time, warnings
from gradkit.train.__main__ import main
for line in sys.stdin:
    case, out, err, started = json.loads(line), io.StringIO(), io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(case)
    print(json.dumps({"status": status, "out": out.getvalue(), "err": err.getvalue(),
                      "seconds": time.perf_counter() - started,
                      "heavy": [name for name in ("torch", "lightning") if name in sys.modules],
                      "made": [path.name for path in pathlib.Path().iterdir()]}))
"""


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


def test_300_bad_command_lines_are_refused_in_one_line_without_torch(tmp_path):
    cases = list(generated(COUNT, SEED))
    # Longer than an argument of a process may be.
    cases.append((["name=" + "x" * 10_000_000], "name"))
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOOP],
        input="".join(json.dumps(arguments) + "\n" for arguments, _ in cases),
        cwd=work,
        env=environment(tmp_path / "stand_in"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases)
    wrong = {
        str(case)[:200]: (found, answer["err"][-300:])
        for case, answer in zip(cases, answers, strict=True)
        if (found := complaints(case, answer["status"], answer["out"], answer["err"])) or answer["made"]
    }
    assert not wrong
    assert answers[-1]["heavy"] == []
    assert max(answer["seconds"] for answer in answers) < 5


def real_process(case: Case, folder) -> tuple[list[str], float, str]:
    folder.mkdir()
    arguments = [text.replace("\0", "") for text in case[0]]
    ran = train(*arguments, cwd=folder, stand_in=folder.parent / "stand_in", PYTHONIOENCODING="utf-8", NO_TORCH="1")
    found = complaints(case, ran.status, ran.out, ran.err)
    return found + (["files"] if any(folder.iterdir()) else []), ran.seconds, ran.err


def refused_by_real_processes(cases, tmp_path) -> list[float]:
    environment(tmp_path / "stand_in")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        answers = list(pool.map(real_process, cases, [tmp_path / str(number) for number in range(len(cases))]))
    wrong = {str(case)[:200]: answer for case, answer in zip(cases, answers, strict=True) if answer[0]}
    assert not wrong
    return sorted(seconds for _, seconds, _ in answers)


def test_a_case_of_every_other_family_is_refused_by_the_real_process(tmp_path, record_property):
    seconds = refused_by_real_processes(list(generated(len(FAMILIES), SEED + 1))[::2], tmp_path)
    record_property("median_seconds", seconds[len(seconds) // 2])


@pytest.mark.slow
def test_300_bad_command_lines_are_refused_by_the_real_process(tmp_path, record_property):
    seconds = refused_by_real_processes(list(generated(COUNT, SEED)), tmp_path)
    print(f"median {seconds[len(seconds) // 2]:.2f} s, slowest {seconds[-1]:.2f} s")
    record_property("median_seconds", seconds[len(seconds) // 2])
    # The goal is 0.7 s on an idle machine; twice that allows for two processes sharing it with other work.
    assert seconds[len(seconds) // 2] < 1.4
