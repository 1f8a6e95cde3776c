"""Many processes for the price of one import of torch: each is a fork of a server that has loaded what they need.

A fork has the exit status, the streams and the working folder of a process of its own. What it has not is the start of
an interpreter: what is loaded, in which order and with which flags is tried with `tests.processes`.
"""

from __future__ import annotations

import atexit
import base64
import functools
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import ENVIRONMENT, Ended

PATIENCE = 600
"""Seconds that a process may take."""

# What a server has loaded before it forks.
TORCH = """
import torch, gradkit.run.merge, gradkit.report.sarif
from gradkit.observe.roster import all_observers
all_observers()
torch.set_num_threads(1)
# What torch imports late, at the first optimizer and the first step.
weight = torch.nn.Parameter(torch.ones(1))
first = torch.optim.SGD([weight], lr=0.1)
weight.sum().backward()
first.step()
del weight, first
"""
TRAIN = "import gradkit.train.__main__, gradkit.train.running.job, gradkit.train.running.session"
COMMAND = """
import contextlib, io
from gradkit.train.__main__ import main
with contextlib.redirect_stderr(io.StringIO()):
    main(["optimizer.lr=nan"])  # loads Hydra, and no torch
"""

SERVER = r"""
import base64, gc, json, os, pickle, runpy, sys
gc.collect()
gc.freeze()
for line in iter(sys.stdin.readline, ""):
    order = json.loads(line)
    if "wait" in order:
        print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    os.chdir(order["cwd"])
    os.environ.update(order["environment"])
    for number, (name, flags) in enumerate(((order["in"], 0), (order["out"], 577), (order["err"], 577))):
        file = os.open(name, flags, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = sys.__stdin__ = open(0)
    arguments = order["arguments"]
    if order["how"] == "call":
        function, arguments = pickle.loads(base64.b64decode(arguments))
        function(*arguments)
    elif order["how"] == "script":
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        sys.argv, sys.orig_argv = list(arguments), [sys.executable, *arguments]
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        sys.path.insert(0, order["cwd"])
        sys.argv, sys.orig_argv = list(arguments), [sys.executable, "-m", *arguments]
        sys.modules.pop(arguments[0] + ".__main__", None)
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    break
"""


class Fork:
    """A process that was started; `wait` for it once."""

    def __init__(self, server: Forks, pid: int, out: Path, err: Path) -> None:
        self._server, self._out, self._err = server, out, err
        self.pid = pid

    def wait(self) -> Ended:
        """Its end, and what it wrote; it is killed if it does not come to it."""
        watchdog = threading.Timer(PATIENCE, os.kill, (self.pid, signal.SIGKILL))
        watchdog.start()
        status = int(self._server.ask({"wait": self.pid}))
        watchdog.cancel()
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in (self._out, self._err))
        return Ended(status, out, re.sub(r"0x[0-9a-f]+", "0x0", err))


class Forks:
    """A server of forks, started at the first of them; `preload` is what it loads."""

    def __init__(self, folder: Path, preload: str) -> None:
        self._folder, self._preload = folder, preload
        self._numbers = itertools.count()
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, *arguments: str, cwd: Path, module: str = "gradkit.run", stdin: str = "", **environment: str
    ) -> Ended:
        """Run `python -m MODULE ARGUMENTS` to its end."""
        return self.start("module", [module, *arguments], cwd, stdin, **environment).wait()

    def script(self, *arguments: str, cwd: Path, stdin: str = "", **environment: str) -> Ended:
        """Run `python ARGUMENTS`, of which the first is a file, to its end."""
        return self.start("script", list(arguments), cwd, stdin, **environment).wait()

    def call(self, function: Callable[..., object], *arguments: Any, cwd: Path | None = None) -> Ended:
        """Call a function of a module, with arguments that can be pickled, in a process that ends with it."""
        return self.start_call(function, *arguments, cwd=cwd).wait()

    def start_call(self, function: Callable[..., object], *arguments: Any, cwd: Path | None = None) -> Fork:
        """As `call`, without waiting for its end."""
        pickled = base64.b64encode(pickle.dumps((function, arguments))).decode()
        return self.start("call", pickled, cwd or Path.cwd())

    def start(self, how: str, arguments: str | list[str], cwd: Path, stdin: str = "", **environment: str) -> Fork:
        """Fork a process that does as told."""
        number = next(self._numbers)
        files = {name: self._folder / f"{number}.{name}" for name in ("in", "out", "err")}
        files["in"].write_text(stdin, encoding="utf-8")
        order = {"how": how, "arguments": arguments, "cwd": str(cwd), "environment": environment}
        pid = int(self.ask(order | {name: str(path) for name, path in files.items()}))
        return Fork(self, pid, files["out"], files["err"])

    def ask(self, order: dict[str, Any]) -> str:
        """The answer of the server, a line."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._preload + SERVER],
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def close(self) -> None:
        """End the server."""
        if self._process is not None:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.close()
            self._process.wait(30)
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@functools.cache
def server(preload: str) -> Forks:
    """The one server of this process that has loaded `preload`."""
    forks = Forks(Path(tempfile.mkdtemp(prefix="forks-")), preload)
    atexit.register(forks.close)
    return forks
