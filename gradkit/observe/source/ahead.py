"""Reads in the source what a program may still do with a graph it has kept; never runs or imports it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import torch

from gradkit.observe.program.sites import is_user_code, line_of, shown_name
from gradkit.observe.source import reading
from gradkit.observe.source.callees import Aliases
from gradkit.observe.source.files import program
from gradkit.sources import PACKAGE

MAX_FRAMES = 16
"""Calls of the user's on the stack that are looked at, innermost first."""
DIFFERENTIATING = frozenset({"backward", "manual_backward", "grad", "hvp", "vhp", "jacobian", "hessian"})
_IMPLICIT = frozenset({"forward", "__call__", "__init__", "__enter__", "__exit__"})
"""Methods that run without being named; those count of the files with something still to do."""


_RUNNER = str(PACKAGE / "run" / "program.py")
_TORCH = str(Path(str(torch.__file__)).parent)

_LOOPS = (ast.For, ast.AsyncFor, ast.While)

Place = tuple[CodeType, int]
_Path = list[tuple[ast.stmt, list[ast.stmt], list[ast.stmt]]]
"""Statements one inside the other: each, those after it in its block and those before it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The user's calls on the stack, innermost first: code and line.

    Attributes:
        calls: At most `MAX_FRAMES` of them.
        own: How many of them a library made none of: those below the first one that called back.
    """

    calls: tuple[Place, ...]
    own: int

    @classmethod
    def of(cls, frame: FrameType | None) -> Stack:
        """The stack from `frame` outwards."""
        calls: list[Place] = []
        own: int | None = None
        while frame is not None and len(calls) < MAX_FRAMES:
            file = frame.f_code.co_filename
            if "/site-packages/_pytest/" in file or file == _RUNNER:
                break  # what calls a test, or runs a script, shares nothing with it
            if is_user_code(file):
                calls.append((frame.f_code, frame.f_lineno))
            elif own is None and calls and is_of_library(file):
                own = len(calls)
            frame = frame.f_back
        return cls(tuple(calls), len(calls) if own is None else own)


def is_of_library(file: str) -> bool:
    """Whether a file belongs to an installed library, other than torch."""
    return "/site-packages/" in file and not file.startswith(_TORCH)


def may_differentiate_again(stack: Stack, ran: Iterable[tuple[CodeType | None, int]]) -> bool:
    """Whether a differentiation that has not run yet can follow while the graph of a backward is still alive.

    It can where one is named in what the calls on the stack, out to the innermost loop, have still to do: after their
    present line, elsewhere in the loops around it, but not in the other branch of its conditions; or in functions of
    the program that are mentioned there, by their own name or one they are bound to, and in theirs. Where a function is
    run that only running it would tell, it may be any of the program's. A library that called the program, from a loop
    of its own, may call whatever the program's files define.

    Args:
        stack: The calls on the stack of the backward.
        ran: Code and instruction of the differentiations that have run.

    Returns:
        True also where the source cannot be read.
    """
    lines: dict[str, set[int]] = {}
    for code, instruction in ran:
        if code is None:
            continue
        lines.setdefault(shown_name(code.co_filename), set()).add(line_of(code, instruction))
    trees = [reading.parse(shown_name(code.co_filename)) for code, _ in stack.calls]
    pending: list[tuple[str, ast.AST, str | None]] = []
    called: str | None = None
    driven = True
    running: set[int] = set()
    here: ast.stmt | None = None
    for (code, line), tree in zip(stack.calls[: stack.own], trees, strict=False):
        if tree is None:
            return True
        function = _function_of(tree, code)
        running.add(id(function))
        path = _path(function, line)
        if here is None and path:
            here = path[-1][0]
        pending += _ahead(shown_name(code.co_filename), path, called)
        if any(isinstance(node, _LOOPS) for node, _, _ in path):
            driven = False  # the graphs of one loop are gone before its function returns
            break
        called = code.co_name
    driven = driven and stack.own < len(stack.calls)
    files = {shown_name(code.co_filename) for code, _ in stack.calls[: stack.own]}
    own = [node for _, node, _ in pending]
    if driven:
        if None in trees:
            return True
        places = zip(stack.calls, trees, strict=True)
        pending = [(shown_name(code.co_filename), tree, None) for (code, _), tree in places if tree is not None]
        files = {file for file, _, _ in pending}
    own_files = program(files)
    functions = _functions(own_files)
    aliases = Aliases(own_files, functions)
    seen = {file for file, _, _ in pending}
    reached = {id(node): (file, node) for name in _IMPLICIT for file, node in functions.get(name, ()) if file in seen}
    pending += [(file, node, None) for file, node in reached.values()]
    while pending:
        file, node, present = pending.pop()
        for item, name in _mentions(node, nested=driven):
            if name == present:
                continue
            if name in DIFFERENTIATING:
                if isinstance(item, ast.Call) and not _has_run(item, lines.get(file, ())):
                    return True
                continue  # one that has run is known; other functions of that name are not called here
            for place, target in (*functions.get(name, ()), *aliases.of(name, item)):
                if id(target) not in reached:
                    reached[id(target)] = (place, target)
                    pending.append((place, target, None))
    handed = {node.id for node in ast.walk(here) if isinstance(node, ast.Name)} - {"self", "cls"} if here else set()
    unknown = any(aliases.runs_unknown_code(node, handed) for node in own if node is not here) or any(
        aliases.runs_unknown_code(node, ()) for _, node in reached.values()
    )
    return unknown and any(
        name in DIFFERENTIATING and isinstance(item, ast.Call) and not _has_run(item, lines.get(file, ()))
        for places in functions.values()
        for file, function in places
        if id(function) not in running
        for item, name in _mentions(function, nested=False)
    )


def _has_run(call: ast.Call, lines: Collection[int]) -> bool:
    """Whether a differentiation that ran stands on one of the lines of a call."""
    return any(line in range(call.lineno, (call.end_lineno or call.lineno) + 1) for line in lines)


def _ahead(file: str, path: _Path, called: str | None) -> Iterator[tuple[str, ast.AST, str | None]]:
    """What a call has still to do: its file, a statement, and in the present one the name that is being called."""
    looping = False
    for node, after, before in path:
        for statement in [*after, *(before if looping else ())]:
            yield file, statement, called if statement.lineno == path[-1][0].lineno else None
        looping = looping or isinstance(node, _LOOPS)
    if path:
        yield file, path[-1][0], called


def _path(function: ast.AST, line: int) -> _Path:
    """From a function's body down to the statement on `line`."""
    found: _Path = []
    node: ast.AST | None = function
    while node is not None:
        inner: ast.AST | None = None
        for _, value in ast.iter_fields(node):
            block = [item for item in value if isinstance(item, ast.stmt)] if isinstance(value, list) else []
            if isinstance(value, list) and not block:
                handlers = [item for item in value if isinstance(item, (ast.ExceptHandler, ast.match_case))]
                inner = next((item for item in handlers if _covers(item, line)), inner)
                continue
            for index, statement in enumerate(block):
                if _covers(statement, line):
                    found.append((statement, block[index + 1 :] + _afterwards(node, block), block[:index]))
                    inner = statement
        node = inner if inner is not None and not isinstance(inner, ast.expr) else None
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            break
    return found


def _afterwards(node: ast.AST, block: list[ast.stmt]) -> list[ast.stmt]:
    """What runs after one block of a `try`, or after a loop has ended: their other blocks."""
    if not isinstance(node, (ast.Try, *_LOOPS)):
        return []
    others = [getattr(node, name, []) for name in ("orelse", "finalbody")]
    others += [handler.body for handler in getattr(node, "handlers", [])]
    return [statement for other in others if other is not block for statement in other]


def _covers(node: ast.AST, line: int) -> bool:
    first = getattr(node, "lineno", None)
    if first is None and isinstance(node, ast.match_case):
        return any(_covers(item, line) for item in node.body)
    return first is not None and first <= line <= (getattr(node, "end_lineno", None) or first)


def _function_of(tree: ast.Module, code: CodeType) -> ast.AST:
    """The function a code object was compiled from; the module for a script's own code or a lambda's."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            starts = {node.lineno, *(item.lineno for item in node.decorator_list)}
            if code.co_firstlineno in starts:
                return node
    return tree


def _functions(files: Iterable[str]) -> dict[str, list[tuple[str, ast.AST]]]:
    """Every function in `files`, by name."""
    found: dict[str, list[tuple[str, ast.AST]]] = {}
    for file in files:
        tree = reading.parse(file)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.setdefault(node.name, []).append((file, node))
    return found


def _mentions(node: ast.AST, nested: bool) -> Iterator[tuple[ast.AST, str]]:
    """The names used below a node, with `nested` also in the functions and classes defined there."""
    pending = [node]
    while pending:
        item = pending.pop()
        name = reading.last_name(item)
        if name is not None:
            yield item, name
        inner = item is not node and isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        pending += [] if inner and not nested else list(ast.iter_child_nodes(item))
