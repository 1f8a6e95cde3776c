"""Many watched processes for the price of one import of torch: each is a fork of a process that has torch already."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.run.processes import ENVIRONMENT, Ended

SERVER = r"""
import json, os, runpy, sys
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
for line in iter(sys.stdin.readline, ""):
    order = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.chdir(order["cwd"])
    for number, name, flags in ((0, os.devnull, 0), (1, order["out"], 577), (2, order["err"], 577)):
        os.dup2(os.open(name, flags, 0o600), number)
    sys.stdin = sys.__stdin__ = open(0)
    sys.path.insert(0, order["cwd"])
    sys.argv = ["gradkit.run", *order["arguments"]]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
    break
"""


class Forks:
    """A server of forks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str, cwd: Path, module: str = "gradkit.run") -> Ended:
        """Run `python -m MODULE ARGUMENTS` to its end."""
        assert self._process.stdin and self._process.stdout
        files = {name: str(self._folder / name) for name in ("out", "err")}
        order: dict[str, Any] = {"arguments": arguments, "cwd": str(cwd), "module": module, **files}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        out, err = (Path(name).read_text() for name in files.values())
        return Ended(status, out, re.sub(r"0x[0-9a-f]+", "0x0", err))

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
