"""Runs the command line in a process of its own, with a stand-in for the job that needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from gradkit.train.__main__ import main
from tests.forks import COMMAND, server

ROOT = Path(__file__).resolve().parents[2]

STAND_IN = """
import dataclasses, json, os, sys, types

def execute(config, context):
    from gradkit.errors import DataError
    if str(config.trainer.seed) in os.environ.get("STAND_IN_USER_ERROR", "").split(","):
        raise DataError("the table has no rows")
    if str(config.trainer.seed) in os.environ.get("STAND_IN_CRASH", "").split(","):
        raise ZeroDivisionError("a fault in the model")
    if config.model.name == "custom":
        from gradkit.config.trust import import_trusted
        import_trusted(config.model.target, context.trust, "model.target")
    manifest = {"schema_version": 1, "status": "completed", "overrides": list(context.overrides),
                "config": dataclasses.asdict(config), "mode": config.mode, "cwd": os.getcwd(), "argv": sys.argv,
                "trust": list(context.trust), "process": os.getpid(), "torch": "torch" in sys.modules}
    (context.run_folder / "run.json").write_text(json.dumps(manifest))

if os.environ.get("NO_TORCH"):  # an import of it ends the process with a traceback
    sys.modules.update(torch=None, lightning=None)
module = types.ModuleType("gradkit.train.running.job")
module.execute = execute
sys.modules["gradkit.train.running.job"] = module
"""


@dataclass(frozen=True)
class Ran:
    """What a process did."""

    status: int
    out: str
    err: str


def environment(stand_in: Path | None, **variables: str) -> dict[str, str]:
    """The variables of a child process; `stand_in` is a folder the stand-in is written to."""
    path = [str(ROOT)]
    if stand_in is not None:
        stand_in.mkdir(parents=True, exist_ok=True)
        # Python imports `sitecustomize` on its own at every start, those of joblib's workers included.
        site = stand_in / "sitecustomize.py"
        if not site.exists():  # another process may be reading it
            site.write_text(textwrap.dedent(STAND_IN))
        path.insert(0, str(stand_in))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RANK", "LOCAL_", "WORLD_"))}
    return kept | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"} | variables


def command_line(arguments: tuple[str, ...], variables: dict[str, str], stand_in: Path | None) -> None:
    """Make a process that has been forked the one that `start` starts."""
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = variables["PYTHONPATH"].split(os.pathsep)
    if stand_in is not None:
        exec(textwrap.dedent(STAND_IN), {"__name__": "sitecustomize"})
    sys.argv, sys.orig_argv = ["gradkit.train", *arguments], [sys.executable, "-m", "gradkit.train", *arguments]
    sys.exit(main())


def train(*arguments: str, cwd: Path, stand_in: Path | None = None, **variables: str) -> Ran:
    """Run `python -m gradkit.train` to its end, in a fork that has Hydra already."""
    ended = server(COMMAND).call(command_line, arguments, environment(stand_in, **variables), stand_in, cwd=cwd)
    return Ran(ended.status, ended.stdout, ended.stderr)


def start(*arguments: str, cwd: Path, stand_in: Path | None = None, **variables: str) -> Ran:
    """As `train`, in a process started anew."""
    done = subprocess.run(
        [sys.executable, "-m", "gradkit.train", *arguments],
        cwd=cwd,
        env=environment(stand_in, **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
