"""Breaks sixty places of the observer, the rules and the runner, one at a time, and counts how many the tests notice.

    python -m tests.mutants [--slow] [--only TEXT] [--first N]

The places are the same in every tree that has them: each is known by its file, its function and its text. A place of
`observe/` or `rules/` is judged by the tests of its rule and by the scenarios, case after case until one fails; one of
`run/` by the tests of that folder. Every mutant runs in a fork of this process, which has loaded torch, and imports
gradkit from a copy of the tree in which one place is broken. It prints what noticed each, and in the end tries what
noticed one with nothing broken.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import copy
import hashlib
import importlib
import itertools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUOTAS = {"observe": 36, "rules": 16, "run": 8}
SEED = "gradkit"
CPU_SECONDS = 300
"""A process that takes longer has noticed its mutant."""

OPPOSITES = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


@dataclass(frozen=True)
class Mutant:
    """One place and what it becomes.

    Attributes:
        path: The file, below the root of the tree.
        name: File, function, kind and text of the place; the same wherever the file lies.
        source: The whole file, broken.
    """

    path: str
    name: str
    source: str

    @property
    def rank(self) -> str:
        return hashlib.sha256(f"{SEED} {self.name}".encode()).hexdigest()

    @property
    def is_valid(self) -> bool:
        """Whether it is Python: within an f-string there may be no such place."""
        try:
            compile(self.source, self.path, "exec")
        except SyntaxError:
            return False
        return True


def broken(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The kinds of mistake that can be made at a node, and the text that makes each."""
    changed = copy.deepcopy(node)
    match changed:
        case ast.Compare(ops=[operator]) if type(operator) in OPPOSITES:
            changed.ops = [OPPOSITES[type(operator)]()]
            yield "comparison", f"({ast.unparse(changed)})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not", f"({ast.unparse(operand)})"
        case ast.BoolOp(op=operator):
            changed.op = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield "and", f"({ast.unparse(changed)})"
        case ast.Constant(value=bool(value)):
            yield "constant", str(not value)
        case ast.Constant(value=int(value)):
            yield "constant", str(value + 1)
        case ast.Return(value=ast.expr()) if ast.unparse(changed) != "return None":
            yield "return", "return None"
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "statement", "pass"


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Every mutant of one file that is within a function."""
    text = path.read_text(encoding="utf-8")
    data = text.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    seen: dict[str, int] = {}

    def visit(node: ast.AST, function: str) -> Iterator[Mutant]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                inner = function
                if isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                    inner = f"{function}.{child.name}".lstrip(".")
                if function and isinstance(child, (ast.expr, ast.stmt)):
                    yield from at(child, function)
                yield from visit(child, inner)

    def at(node: ast.expr | ast.stmt, function: str) -> Iterator[Mutant]:
        for kind, replacement in broken(node):
            name = f"{path.name} {function} {kind} `{' '.join(ast.unparse(node).split())[:80]}`"
            seen[name] = seen.get(name, 0) + 1
            first = starts[node.lineno - 1] + node.col_offset
            last = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            source = (data[:first] + replacement.encode() + data[last:]).decode()
            yield Mutant(path.relative_to(ROOT).as_posix(), f"{name} {seen[name]}", source)

    yield from visit(ast.parse(text), "")


def chosen() -> list[Mutant]:
    """Sixty mutants, the same ones as long as their places are there."""
    found: list[Mutant] = []
    for package, quota in QUOTAS.items():
        files = sorted((ROOT / "gradkit" / package).rglob("*.py"))
        every = [mutant for path in files for mutant in mutants_of(path)]
        valid = (mutant for mutant in sorted(every, key=lambda mutant: mutant.rank) if mutant.is_valid)
        found += itertools.islice(valid, quota)
    return found


def by_pytest(*targets: str) -> str:
    """The first test of `targets` that fails, or nothing."""

    class First:
        name = ""

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                self.name = self.name or report.nodeid

    first = First()
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", *targets], plugins=[first])
    return first.name or ("" if status in (0, 5) else "collection")


def by_scenarios(slow: bool, only: frozenset[str] = frozenset()) -> str:
    """The first case of the scenarios that fails, or nothing; each file has a process, and slow cases come last."""
    from gradkit.observe.roster import all_observers
    from tests.scenarios import test_scenarios as tests

    all_observers()  # loaded once for the processes of all files

    def first_of(path: Path, late: bool) -> str:
        for scenario, mode, is_late in tests.CASES:
            name = f"{scenario.id}-{mode}{' (slow)' if is_late else ''}"
            if scenario.path != path or is_late != late or (only and name not in only):
                continue
            try:
                tests.test_finds_exactly_what_is_declared_and_changes_nothing(scenario, mode)
            except pytest.skip.Exception:
                continue
            except BaseException:
                return name
        return ""

    paths = dict.fromkeys(scenario.path for scenario in tests.ALL)
    for late in (False, True) if slow else (False,):
        for path in paths:
            if only and not any(name.startswith(f"{path.stem}:") for name in only):
                continue
            if noticed := forked(lambda path=path, late=late: first_of(path, late)):  # type: ignore[misc]
                return noticed
    return ""


def judge(mutant: Mutant, slow: bool) -> str:
    """What notices a mutant first."""
    if mutant.path.startswith("gradkit/run/"):
        return by_pytest("tests/run/test_options.py", "tests/run")
    if mutant.path.startswith("gradkit/rules/"):
        own = ROOT / "tests" / "rules" / f"test_{Path(mutant.path).name}"
        targets = [own] if own.exists() else [ROOT / "tests" / "rules"]
        if noticed := by_pytest(*(str(path.relative_to(ROOT)) for path in targets)):
            return noticed
    return by_scenarios(slow)


def forked(work: Callable[[], str]) -> str:
    """What `work` returns in a fork of this process, or how that ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__} before any test"
        os.write(writing, said.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    return said or ("" if status == 0 else f"a process ended by {os.waitstatus_to_exitcode(status)}")


def in_tree(work: Callable[[], str], tree: Path) -> str:
    """As `forked`, with gradkit imported from `tree`."""

    def there() -> str:
        os.chdir(tree)
        sys.path[:0] = [str(tree)]
        os.environ["PYTHONPATH"] = str(tree)
        for name in [name for name in sys.modules if name.partition(".")[0] == "gradkit"]:
            del sys.modules[name]
        return work()

    return forked(there)


def prepare() -> None:
    """Load what the forks share."""
    for package in ("torch", "torch._dynamo", "accelerate", "lightning.pytorch", "transformers"):
        with suppress(ImportError):
            importlib.import_module(package)
    importlib.import_module("tests.scenarios.test_scenarios")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--slow", action="store_true", help="try the slow scenarios too before a mutant is missed")
    parser.add_argument("--only", default="", help="a part of the names of the mutants to try")
    parser.add_argument("--first", type=int, default=sum(QUOTAS.values()), help="how many to try at most")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    every = [mutant for mutant in chosen() if options.only in f"{mutant.path} {mutant.name}"][: options.first]
    if options.list:
        print(*(f"{mutant.path}: {mutant.name}" for mutant in every), sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in files.splitlines():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
        compileall.compile_dir(tree / "gradkit", quiet=2)
        prepare()
        by: list[str] = []
        for number, mutant in enumerate(every, 1):
            (tree / mutant.path).write_text(mutant.source, encoding="utf-8")
            said = in_tree(lambda mutant=mutant: judge(mutant, options.slow), tree)  # type: ignore[misc]
            shutil.copy2(ROOT / mutant.path, tree / mutant.path)
            by += [said] if said else []
            print(f"{number:3} {'noticed' if said else 'MISSED '} {mutant.name}: {said}", flush=True)
        print(f"{len(by)} of {len(every)} noticed")
        scenarios = frozenset(name for name in by if "::" not in name)
        tests = [name for name in by if "::" in name]
        wrong = (scenarios and in_tree(lambda: by_scenarios(options.slow, scenarios), tree)) or (
            tests and in_tree(lambda: by_pytest(*dict.fromkeys(tests)), tree)
        )
        if wrong:
            print(f"{wrong} fails with nothing broken")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
