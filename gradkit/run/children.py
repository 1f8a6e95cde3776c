"""Follows a script into the processes it starts: forks, `multiprocessing` in every start method, ranks of `torchrun`.

Nothing is put into the environment of the script. A fork inherits the session. A process that `multiprocessing` spawns
finds its settings in the data it is started with. The ranks that torch's launcher starts are started under the runner,
with their settings in one environment variable, which is gone before the script of that rank begins. Other programs
that a script starts (`subprocess`) are left alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradkit.settings import from_data, to_data

if TYPE_CHECKING:
    from gradkit.run.session import Session

VARIABLE = "GRADKIT_RUN_CHILD"
_LAUNCHER = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler"


def begin(session: Session) -> None:
    """Begin a session, and have every child of this process report to the folder of it.

    Raises:
        ConfigError: The baseline cannot be read.
    """
    session.begin()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lambda: str(session.parts), after_in_child=session.forked)
    session.wait_for("multiprocessing.util", lambda: _end_with_processes(session))
    session.wait_for("multiprocessing.spawn", lambda: _send_along(session))
    session.wait_for(_LAUNCHER, lambda: _launch_watched(session))


def _end_with_processes(session: Session) -> None:
    """`multiprocessing` ends its forked processes without `atexit`; it has its own list of what to do at the end."""
    from multiprocessing import util

    def started(session: Session) -> None:
        util.Finalize(None, session.finish, exitpriority=-1000)

    util.register_after_fork(session, started)


# --- spawn and forkserver ---------------------------------------------------------------------------------------------


class Stowaway:
    """Travels in the data a spawned process is prepared with; to unpickle it there is to begin to watch.

    Args:
        state: The settings and the folder of the parent's session, as plain data.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], None], tuple[dict[str, Any]]]:
        return (arrive, (self.state,))


def arrive(state: dict[str, Any]) -> None:
    """Begin to watch this process as a child of the session that `state` tells of."""
    from gradkit.run.session import Session

    begin(Session(from_data(state["settings"]), Path(state["parts"])))


def _state(session: Session) -> dict[str, Any]:
    return {"settings": to_data(session.settings), "parts": str(session.parts)}


_STARTED_IN = os.getcwd()  # noqa: PTH109
_HOME = str(Path(__file__).resolve().parents[2])


def _is_importable_elsewhere() -> bool:
    """Whether a fresh Python finds gradkit: not when it was found only in a working folder that has been left since."""
    if os.path.realpath(_STARTED_IN) != _HOME or os.path.realpath(os.getcwd()) == _HOME:  # noqa: PTH109
        return True
    return any(
        os.path.realpath(entry) == _HOME for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
    )


def _send_along(session: Session) -> None:
    from multiprocessing import spawn

    original = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        # The forkserver asks as well, for itself, and passes on what it knows: it starts no training.
        if name != "ignore" and _is_importable_elsewhere():
            data["gradkit"] = Stowaway(_state(session))
        return data

    spawn.get_preparation_data = get_preparation_data


# --- torchrun ---------------------------------------------------------------------------------------------------------


def _launch_watched(session: Session) -> None:
    module = sys.modules[_LAUNCHER]
    original = module.SubprocessHandler._popen

    def _popen(self: Any, args: tuple[str, ...], env: dict[str, str]) -> Any:
        line = watched_line(list(args))
        if line is None:
            return original(self, args, env)
        return original(self, tuple(line), {**env, VARIABLE: json.dumps(_state(session))})

    module.SubprocessHandler._popen = _popen


def watched_line(line: list[str]) -> list[str] | None:
    """The command line of a Python script with the runner put before the script; None when it is no such line.

    Example:
        >>> watched_line(["python3", "-u", "train.py", "--lr", "1"])
        ['python3', '-u', '-m', 'gradkit.run', 'train.py', '--lr', '1']
        >>> watched_line(["python3", "-u", "-m", "pkg.train"])
        ['python3', '-u', '-m', 'gradkit.run', '-m', 'pkg.train']
        >>> watched_line(["./train"]) is None
        True
    """
    if not line or not Path(line[0]).name.lower().startswith("python") or "gradkit.run" in line:
        return None
    at = 1
    while at < len(line) and line[at].startswith("-") and line[at] not in ("-m", "-"):
        if line[at].startswith("-c"):
            return None
        at += 2 if line[at] in ("-W", "-X") else 1
    if at >= len(line):
        return None
    return [*line[:at], "-m", "gradkit.run", *line[at:]]


def settings_of_child() -> dict[str, Any] | None:
    """What a watching launcher has put into the environment for this process; taken out of it at once."""
    text = os.environ.pop(VARIABLE, None)
    return json.loads(text) if text is not None else None
