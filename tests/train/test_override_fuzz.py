"""Generated bad command lines, each in a process of its own: forked from one that has loaded Hydra, or started anew."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.train.bad_overrides import FAMILIES, Case, generated
from tests.train.command import environment, train

COUNT = 300
SEED = 20_260_113

# Forks for each case, so that it has the exit status and the streams of a real process without the start of one.
FORKS = """
import contextlib, gc, io, json, os, pathlib, sys, tempfile, time
from gradkit.train.__main__ import main
with contextlib.redirect_stderr(io.StringIO()):
    main(["optimizer.lr=nan"])  # loads what every case needs
gc.freeze()
for line in sys.stdin:
    case, started = json.loads(line), time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.exit(main(case))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        print(json.dumps({"status": status, "out": out.read(), "err": err.read(),
                          "seconds": time.perf_counter() - started,
                          "made": [path.name for path in pathlib.Path().iterdir()]}), flush=True)
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
        [sys.executable, "-c", FORKS],
        input="".join(json.dumps(arguments) + "\n" for arguments, _ in cases),
        cwd=work,
        env=environment(tmp_path / "stand_in", PYTHONIOENCODING="utf-8", NO_TORCH="1"),
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
    assert max(answer["seconds"] for answer in answers) < 5


def test_a_case_of_every_family_is_refused_by_the_command_started_anew(tmp_path):
    environment(tmp_path / "stand_in")
    cases = list(generated(len(FAMILIES), SEED + 1))
    folders = [tmp_path / str(number) for number in range(len(cases))]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        answers = list(pool.map(refused_anew, cases, folders))
    assert not {str(case)[:200]: answer for case, answer in zip(cases, answers, strict=True) if answer[0]}


def refused_anew(case: Case, folder: Path) -> tuple[list[str], str]:
    """What is wrong with the answer of `python -m gradkit.train`, and what it said."""
    folder.mkdir()
    arguments = [text.replace("\0", "") for text in case[0]]
    ran = train(*arguments, cwd=folder, stand_in=folder.parent / "stand_in", PYTHONIOENCODING="utf-8", NO_TORCH="1")
    found = complaints(case, ran.status, ran.out, ran.err)
    return found + (["files"] if any(folder.iterdir()) else []), ran.err
