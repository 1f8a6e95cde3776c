"""Follows a value through the text of one function, where Python's numbers and NumPy's arrays carry it out of sight."""

from __future__ import annotations

import ast
import functools

from gradkit.observe.source import reading
from gradkit.records import Location

_LEAVES = frozenset({"item", "tolist", "numpy", "__array__", "float", "int", "asarray", "array"})
"""Calls by which a tensor's value becomes a number or an array."""


@functools.lru_cache(maxsize=256)
def reaches(start: Location, line: int, operation: str | None = None) -> bool:
    """Whether what leaves torch on the line of `start` can be in what the statement on `line` computes.

    Names are followed through assignments, loops and `append` in the order of the text; control flow is not looked at.

    Args:
        start: Where a tensor became a number or an array.
        line: A line of the same function.
        operation: The function called there whose arguments count, such as `from_numpy`; None for the whole statement.
    """
    function = _function_around(start)
    if function is None:
        return False
    carriers: set[str] = set()
    statements = sorted(
        (node for node in ast.walk(function) if isinstance(node, ast.stmt)),
        key=lambda node: (node.lineno, node.col_offset),
    )
    for statement in statements:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        parts = _own_parts(statement)
        if _covers(statement, parts, line) and any(
            _carries(part, carriers, start.line) for part in _looked_at(parts, operation)
        ):
            return True
        if any(_carries(part, carriers, start.line) for part in parts):
            carriers |= _targets(statement)
    return False


def _function_around(place: Location) -> ast.AST | None:
    """The innermost function around a line; the whole text for a script's own code."""
    tree = reading.parse(place.file)
    if tree is None:
        return None
    best: ast.AST = tree
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and reading.node_lines(node, place.line):
            best = node  # inner functions are walked after outer ones
    return best


def _own_parts(statement: ast.stmt) -> list[ast.expr]:
    """The expressions of a statement itself, without those of the statements in it; targets left out."""
    left_out = {id(node) for node in [*getattr(statement, "targets", ()), getattr(statement, "target", None)]}
    parts: list[ast.expr] = [
        node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.expr) and id(node) not in left_out
    ]
    return parts + [item.context_expr for item in getattr(statement, "items", ())]


def _covers(statement: ast.stmt, parts: list[ast.expr], line: int) -> bool:
    return reading.node_lines(statement, line) and (
        not hasattr(statement, "body") or any(reading.node_lines(part, line) for part in parts)
    )


def _looked_at(parts: list[ast.expr], operation: str | None) -> list[ast.expr]:
    """The arguments of the calls of `operation`, or everything."""
    calls = [
        node
        for part in parts
        for node in ast.walk(part)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == operation
    ]
    if operation is None or not calls:
        return parts
    return [argument for call in calls for argument in (*call.args, *(item.value for item in call.keywords))]


def _carries(part: ast.expr, carriers: set[str], line: int) -> bool:
    """Whether an expression holds the value: it is what left on `line`, or names something that holds it."""
    for node in ast.walk(part):
        if isinstance(node, ast.Call) and reading.node_lines(node, line):
            if ast.unparse(node.func).rpartition(".")[2] in _LEAVES:
                return True
        elif isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in carriers:
            return True
    return False


def _targets(statement: ast.stmt) -> set[str]:
    """What a statement gives its value to."""
    found: list[ast.expr] = [*getattr(statement, "targets", ())]
    target = getattr(statement, "target", None)
    if target is not None:
        found.append(target)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        if isinstance(function, ast.Attribute) and function.attr in ("append", "extend", "insert", "add"):
            found.append(function.value)
    names: set[str] = set()
    for item in found:
        names |= {ast.unparse(node) for node in ast.walk(item) if isinstance(node, (ast.Name, ast.Attribute))} - (
            {"self"} if isinstance(item, ast.Attribute) else set()
        )
    return names
