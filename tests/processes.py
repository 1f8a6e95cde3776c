"""Real processes of one command line under `python` and under the runner, and what they left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTHING = "gradkit: the script did not import torch; there was nothing to watch.\n"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))},
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Ended:
    """A process that has ended: exit status (negative for a signal) and what it wrote, without addresses."""

    status: int
    stdout: str
    stderr: str


def python(*arguments: str, cwd: Path, flags: tuple[str, ...] = (), stdin: str = "", **environment: str) -> Ended:
    """Run `python FLAGS ARGUMENTS`."""
    done = subprocess.run(
        [sys.executable, *flags, *arguments],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Ended(done.returncode, done.stdout, re.sub(r"0x[0-9a-f]+", "0x0", done.stderr))


def watched(*arguments: str, cwd: Path, flags: tuple[str, ...] = (), stdin: str = "", **environment: str) -> Ended:
    """Run `python FLAGS -m gradkit.run ARGUMENTS`."""
    return python("-m", "gradkit.run", *arguments, cwd=cwd, flags=flags, stdin=stdin, **environment)


def unwatched_part(ended: Ended) -> Ended:
    """A process of a script without torch, less the one line gradkit ends it with."""
    return Ended(ended.status, ended.stdout, ended.stderr.replace(NOTHING, ""))
