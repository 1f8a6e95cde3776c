"""Runs scenario files watched and unwatched, and reads their declared verdicts; see README.md beside this file."""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import importlib.util
import io
import json
import os
import random
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module as load_module  # a file that imports by name may be about to run anything
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parent
LONG_WAY = "GRADKIT_LONG_WAY"
"""While it is set, monitors that start follow every loop the long way."""
_EXPECT = re.compile(r"#\s*expect:\s*(GK\d{3}(?:\s*,\s*GK\d{3})*)")


@dataclass(frozen=True)
class Scenario:
    """One function of one scenario file and what watching it must find."""

    path: Path
    function: str
    expected: frozenset[tuple[str, int]]

    @property
    def id(self) -> str:
        return f"{self.path.stem}:{self.function}"

    @property
    def healthy(self) -> bool:
        return not self.expected

    def load(self) -> ModuleType:
        name = f"scenario_{self.path.stem}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, self.path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # pickling and dataclasses look modules up by name
        spec.loader.exec_module(module)
        # Searches for living optimizers and modules pass over all objects of the process. What the frameworks loaded is
        # taken out of their way, which halves the time of the suite.
        gc.collect()
        gc.freeze()
        return module


def scenarios() -> list[Scenario]:
    """Every scenario in this folder, in order."""
    files = sorted([*FOLDER.glob("gk[0-9]*_*.py"), *FOLDER.glob("healthy_*.py")])
    return [scenario for path in files for scenario in read(path)]


def read(path: Path) -> Iterator[Scenario]:
    """The scenarios of one file; only functions with a telling name are run."""
    text = path.read_text(encoding="utf-8")
    marks = {
        number: re.split(r"\s*,\s*", found[1])
        for number, line in enumerate(text.splitlines(), 1)
        if (found := _EXPECT.search(line))
    }
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    telling = [node for node in functions if re.fullmatch(r"main|repaired\w*|healthy_\w+|faulty_\w+", node.name)]
    own = {
        node.name: {n for n in marks if node.lineno <= n <= (node.end_lineno or node.lineno)}
        for node in telling
        if node.name.startswith("faulty_")
    }
    elsewhere = set(marks) - set().union(*own.values()) if own else set(marks)
    for node in telling:
        lines = own.get(node.name, elsewhere if node.name == "main" else set())
        yield Scenario(path, node.name, frozenset((code, line) for line in lines for code in marks[line]))


def digest(value: Any) -> str:
    """A sha256 over every tensor and number in `value`, in order."""
    import torch

    summed = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.nn.Module):
            add(dict(item.state_dict()))
        elif isinstance(item, dict):
            for key in item:
                summed.update(repr(key).encode())
                add(item[key])
        elif isinstance(item, (list, tuple)):
            for entry in item:
                add(entry)
        elif isinstance(item, torch.Tensor):
            item = item.detach()
            dense = (item.to_dense() if item.layout is not torch.strided else item).cpu().contiguous()
            summed.update(str((tuple(dense.shape), dense.dtype)).encode())
            summed.update(dense.view(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b"")
        else:
            summed.update(repr(item).encode())

    add(value)
    return summed.hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What one run of a scenario left behind."""

    weights: str
    rng: str
    stdout: str
    findings: tuple[Any, ...] = ()
    attached_after: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    """What the rules were handed, in order, without what was measured by the clock."""


def run(scenario: Scenario, *, watched: bool, **options: Any) -> Outcome:
    """Run one scenario in this process, with `gradkit.watch` around it when `watched`."""
    import numpy
    import torch

    module = scenario.load()
    function: Callable[[], Any] = getattr(module, scenario.function)
    torch.manual_seed(0)
    random.seed(0)
    numpy.random.seed(0)
    stdout = io.StringIO()
    if not watched:
        with contextlib.redirect_stdout(stdout):
            result = function()
        _forget_compiled()
        return Outcome(digest(result), _rng(), stdout.getvalue())
    import gradkit

    settings = {"report": "never", **getattr(module, "WATCH", {}), **options}
    with contextlib.redirect_stdout(stdout), _recorded() as records, gradkit.watch(**settings) as monitor:
        result = function()
    _forget_compiled()
    findings = monitor.findings
    return Outcome(digest(result), _rng(), stdout.getvalue(), findings, monitor.attached, tuple(records))


@contextlib.contextmanager
def the_long_way() -> Iterator[None]:
    """A stretch in which every loop is followed the long way, whatever the environment said before."""
    before = os.environ.get(LONG_WAY)
    os.environ[LONG_WAY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[LONG_WAY]
        else:
            os.environ[LONG_WAY] = before


@contextlib.contextmanager
def _recorded() -> Iterator[list[str]]:
    """The text of every record that is put to the engine meanwhile."""
    from gradkit.engine import Engine

    records: list[str] = []
    put = Engine.put

    def collecting(engine: Engine, record: Any, source: object = None) -> Any:
        records.append(re.sub(r"\b(\w*seconds)=[-+.e\d]+", r"\1=", repr(record)))
        return put(engine, record, source)

    Engine.put = collecting  # type: ignore[method-assign]
    try:
        yield records
    finally:
        Engine.put = put  # type: ignore[method-assign]


def _forget_compiled() -> None:
    """Make the process one in which nothing was compiled, for the scenarios and tests that follow."""
    if (dynamo := sys.modules.get("torch._dynamo")) is not None:
        dynamo.reset()


def _rng() -> str:
    import numpy
    import torch

    state = numpy.random.get_state()
    return digest([torch.get_rng_state(), repr(random.getstate()), repr(state)])


def found(outcome: Outcome) -> set[tuple[str, int]]:
    """The (code, line) pairs of the findings; a line outside the scenario's file is negative."""
    return {(f.rule, f.location.line if f.location else 0) for f in outcome.findings}


def alone(scenario: Scenario, out: Path, *, watched: bool) -> None:
    """Run a scenario in this process, its output going where the process's does; weights and random state go to `out`.

    A scenario may end the process; what it returned is then missing from `out`.
    """
    import torch

    torch.set_num_threads(1)
    module = scenario.load()
    torch.manual_seed(0)
    codes: list[Any] = []
    if watched:
        import gradkit

        with gradkit.watch(**getattr(module, "WATCH", {})) as monitor:
            result = getattr(module, scenario.function)()
        codes = sorted([f.rule, f.location.line if f.location else 0] for f in monitor.findings)
    else:
        result = getattr(module, scenario.function)()
    out.write_text(json.dumps({"weights": digest(result), "rng": digest(torch.get_rng_state()), "findings": codes}))


def in_processes(out: Path, names: list[str]) -> None:
    """Run each scenario bare and watched, each time in a process of its own, forked when torch is loaded.

    Writes `NAME.bare` and `NAME.watched` with what `alone` writes, and the same with `.stdout` and `.status`.
    """
    # Loaded once for all of the processes: each takes longer than a scenario does.
    for package in ("torch", "torch._dynamo", "accelerate", "lightning.fabric"):
        with contextlib.suppress(ImportError):
            load_module(package)
    wanted = {scenario.id: scenario for scenario in scenarios()}
    for name in names:
        for watched in (False, True):
            file = out / f"{name.replace(':', '-')}.{'watched' if watched else 'bare'}"
            process = os.fork()
            if process == 0:
                os.dup2(os.open(f"{file}.stdout", os.O_WRONLY | os.O_CREAT), 1)
                os.dup2(os.open(f"{file}.stderr", os.O_WRONLY | os.O_CREAT), 2)
                status = 1
                try:
                    alone(wanted[name], file, watched=watched)
                    status = 0
                except SystemExit as leaving:
                    status = int(leaving.code or 0)
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(status)
            _, code = os.waitpid(process, 0)
            Path(f"{file}.status").write_text(str(os.waitstatus_to_exitcode(code)))


def main(arguments: list[str]) -> int:
    """Run the scenarios of one file and print what was declared and what was found.

    With `--processes OUT FILE:FUNCTION...` run each named function in two processes of its own, see `in_processes`.
    """
    if arguments[0] == "--processes":
        in_processes(Path(arguments[1]), arguments[2:])
        return 0
    path = Path(arguments[0]).resolve()
    wrong = 0
    for scenario in read(path):
        outcome = run(scenario, watched=True)
        right = found(outcome) == scenario.expected
        wrong += not right
        verdict = "ok   " if right else "WRONG"
        print(f"{verdict} {scenario.id}: declared {sorted(scenario.expected)}, found {sorted(found(outcome))}")
        for finding in outcome.findings:
            if not right:
                print(f"      {finding.rule} {finding.message} {dict(finding.evidence)} {finding.labels}")
                print(finding.evidence.get("traceback", ""))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
