"""What a call in the source may run besides a function of its name: one a variable holds, or one that is chosen."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import torch

from gradkit.observe.source import reading

_HARMLESS = frozenset(name for owner in (builtins, list, dict, set, str, torch, torch.Tensor) for name in dir(owner))
"""Names of functions and methods that the program did not write, and that run nothing of its own."""

_HOLDERS = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred, ast.IfExp, ast.BoolOp, ast.Subscript, ast.NamedExpr)


class _Alias(NamedTuple):
    file: str
    value: ast.expr
    variable_of: int | None
    """The function whose own variable the name is, or whose parameter has this default, by identity; `_MODULE` for a
    variable of a module, None for an attribute or a keyword of anybody's."""


_MODULE = 0


class Aliases:
    """What the names of a program may stand for: its functions, where a name is bound to them without a call.

    Assignments, keyword arguments and defaults bind names: to a function, a lambda, a list or dictionary with some,
    what a call like `partial` makes of one, or to a variable of a module that is bound in such a way.

    Args:
        files: The program's.
        known: Names of functions the program defines.
    """

    def __init__(self, files: Iterable[str], known: Collection[str]) -> None:
        self._known = known
        self._found: dict[str, list[_Alias]] = {}
        self._around: dict[int, tuple[int, ...]] = {}  # the functions around a node, all by identity
        self._listed: set[str] = set()  # containers that are written down with what they hold
        self._open: set[str] = set()  # those that something is put into later
        self._variables: dict[int, set[str]] = {}
        self._parameters: dict[int, set[str]] = {}
        self._trees = [(file, tree) for file in files if (tree := reading.parse(file)) is not None]
        tables = {
            target.id
            for _, tree in self._trees
            for node in tree.body
            for target, value in _bindings(node)
            if isinstance(target, ast.Name) and any(_references(value, known))
        }
        functions = {*known, *tables}
        for file, tree in self._trees:
            pending: list[tuple[ast.AST, tuple[int, ...]]] = [(tree, ())]
            while pending:
                node, around = pending.pop()
                self._around[id(node)] = around
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and around:
                    self._variables[around[0]].add(node.id)
                for target, value in _bindings(node):
                    name = (
                        target if isinstance(target, str) else target.id if isinstance(target, ast.Name) else target.arg
                    )
                    of = None if isinstance(target, str) else around[0] if around else _MODULE
                    if isinstance(value, (ast.List, ast.Tuple, ast.Dict)) and any(ast.iter_child_nodes(value)):
                        self._listed.add(name)
                    self._found.setdefault(name, []).extend(
                        _Alias(file, item, of) for item in _references(value, functions)
                    )
                inner = around
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    inner = (id(node), *around)
                    self._variables[id(node)] = set()
                    given = node.args
                    self._parameters[id(node)] = {
                        each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)
                    }
                pending += [(child, inner) for child in ast.iter_child_nodes(node)]

    def of(self, name: str, mention: ast.AST) -> Iterator[tuple[str, ast.expr]]:
        """What a name may stand for where it is mentioned, each with its file.

        Attributes and keywords are told apart by nothing but their names, so they count only where one is called.
        """
        node = _without_index(mention.func if isinstance(mention, ast.Call) else mention)
        owner, is_variable = _MODULE, isinstance(node, ast.Name)
        for function in self._around.get(id(mention), ()) if is_variable else ():
            if name in self._variables[function] or name in self._parameters[function]:
                owner, is_variable = function, name in self._variables[function]
                break
        loosely = isinstance(mention, ast.Call) and not is_variable
        for alias in self._found.get(name, ()):
            if (loosely and alias.variable_of is None) or (isinstance(node, ast.Name) and alias.variable_of == owner):
                yield alias.file, alias.value

    def runs_unknown_code(self, node: ast.AST, handed: Collection[str]) -> bool:
        """Whether a call in `node` runs a function that only running it would tell.

        It does where the function is looked up by `getattr` or in a container of unknown content, or where one of an
        unknown name is given what is in `handed`.

        Args:
            node: A statement, or a function.
            handed: Names of variables.
        """
        for call in ast.walk(node):
            if not isinstance(call, ast.Call):
                continue
            if isinstance(call.func, ast.Call):
                return True
            name = reading.last_name(_without_index(call.func))
            if isinstance(call.func, ast.Subscript):
                if name not in self._listed or name in self._open:
                    return True
                continue
            given = {
                item.id for item in (*call.args, *(item.value for item in call.keywords)) if isinstance(item, ast.Name)
            }
            if name not in self._known and name not in _HARMLESS and not given.isdisjoint(handed):
                return True
        return False


def _without_index(node: ast.AST) -> ast.AST:
    """The container an element is taken from; anything else as it is."""
    return _without_index(node.value) if isinstance(node, ast.Subscript) else node


def _bindings(node: ast.AST) -> Iterator[tuple[str | ast.Name | ast.arg, ast.expr]]:
    """What a piece of source binds, each with the expression it is bound to: variables, and names of other kinds."""
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Attribute):
                yield target.attr, node.value
            elif isinstance(target, ast.Name):
                yield target, node.value
    elif isinstance(node, ast.keyword) and node.arg is not None:
        yield node.arg, node.value
    elif isinstance(node, ast.arguments):
        positional = [*node.posonlyargs, *node.args]
        pairs = zip(positional[len(positional) - len(node.defaults) :], node.defaults, strict=True)
        yield from pairs
        keyword = zip(node.kwonlyargs, node.kw_defaults, strict=True)
        yield from ((argument, value) for argument, value in keyword if value is not None)


def _references(value: ast.expr, functions: Collection[str]) -> Iterator[ast.expr]:
    """The functions, by their names, and the lambdas that an expression stands for or holds."""
    if isinstance(value, ast.Lambda):
        yield value
    elif isinstance(value, (ast.Name, ast.Attribute)):
        if reading.last_name(value) in functions:
            yield value
    elif isinstance(value, (*_HOLDERS, ast.Call)):
        for child in ast.iter_child_nodes(value):
            if isinstance(child, ast.keyword):
                yield from _references(child.value, functions)
            elif isinstance(child, ast.expr) and child is not getattr(value, "func", None):
                yield from _references(child, functions)
