"""What a call in the source may run besides a function of its name: one a variable holds, or one that is chosen."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Iterable, Iterator, Mapping

import torch

from gradkit.observe import source

_HARMLESS = frozenset(name for owner in (builtins, list, dict, set, str, torch, torch.Tensor) for name in dir(owner))
"""Names of functions and methods that the program did not write, and that run nothing of its own."""


def aliases(files: Iterable[str]) -> dict[str, list[tuple[str, ast.expr]]]:
    """What the names of a program may stand for: functions it refers to, without calling them, where a name is bound.

    Assignments, keyword arguments and defaults bind names; where one holds a dictionary or list, all that is in it.
    """
    found: dict[str, list[tuple[str, ast.expr]]] = {}
    for file in files:
        tree = source.parse(file)
        for node in ast.walk(tree) if tree is not None else ():
            for name, value in _bindings(node):
                found.setdefault(name, []).extend((file, item) for item in _references(value))
    return found


def runs_unknown_code(node: ast.AST, handed: Collection[str], known: Mapping[str, object]) -> bool:
    """Whether a call in `node` runs a function that only running it would tell.

    It does where the function is looked up by `getattr` or in a container, or where one of an unknown name is given
    what is in `handed`.

    Args:
        node: A statement, or a function.
        handed: Names of variables.
        known: Names of functions the program defines.
    """
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        if isinstance(call.func, (ast.Call, ast.Subscript)):
            return True
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = {
            item.id for item in (*call.args, *(item.value for item in call.keywords)) if isinstance(item, ast.Name)
        }
        if name not in known and name not in _HARMLESS and not given.isdisjoint(handed):
            return True
    return False


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names that a piece of source binds, each with the expression it is bound to."""
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Attribute):
                yield target.attr, node.value
            elif isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, ast.keyword) and node.arg is not None:
        yield node.arg, node.value
    elif isinstance(node, ast.arguments):
        positional = [*node.posonlyargs, *node.args]
        pairs = zip(positional[len(positional) - len(node.defaults) :], node.defaults, strict=True)
        yield from ((argument.arg, value) for argument, value in pairs)
        keyword = zip(node.kwonlyargs, node.kw_defaults, strict=True)
        yield from ((argument.arg, value) for argument, value in keyword if value is not None)


def _references(value: ast.expr) -> Iterator[ast.expr]:
    """The names, attributes and lambdas in an expression that are not called there."""
    called = {id(node.func) for node in ast.walk(value) if isinstance(node, ast.Call)}
    for node in ast.walk(value):
        if isinstance(node, ast.Lambda) or (isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in called):
            yield node
