"""Reads the text of a custom function's backward: whether it returns None for an argument whatever the case."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType

from gradkit.observe.program.sites import function_of, shown_name
from gradkit.observe.source import reading
from gradkit.records import Location


def none_place(code: CodeType, argument: int, arguments: int) -> Location | None:
    """Where a backward returns None for an argument, whatever the case; None when it may do so for now, or is unread.

    Conditions that only ask which arguments were given and need a gradient count as no case: None was seen where the
    argument was given and needed one.

    Args:
        code: Of the `backward` that was seen to return None there.
        argument: Index of the argument of its `forward`, from 0, the context not counted.
        arguments: How many arguments the function takes.
    """
    file = shown_name(code.co_filename)
    function = reading.function_at(file, code.co_firstlineno)
    if function is None:
        return None
    assigned = _assignments(function.body)
    line = None
    for statement, _ in _statements(function.body, _ALWAYS):
        if isinstance(statement, ast.Return):
            value = _element(statement.value, argument, arguments)
            if value is None or not _is_none(value, assigned):
                return None
            line = line or value.lineno
    return Location(file, line, function_of(code)) if line is not None else None


_ALWAYS, _BY_ARGUMENTS, _BY_CASE = range(3)
"""When a statement runs: always, as the arguments that were given and need a gradient decide, or as anything else."""

_Assigned = Mapping[str, Sequence[tuple[ast.expr | None, int]]]
"""The values assigned to each name, None for one that is not plain, and when."""


def _element(value: ast.expr | None, argument: int, arguments: int) -> ast.expr | None:
    """The part of a returned value that belongs to the argument; None when the text does not say."""
    if isinstance(value, ast.Tuple):
        plain = not any(isinstance(element, ast.Starred) for element in value.elts)
        return value.elts[argument] if plain and argument < len(value.elts) else None
    return value if arguments == 1 else None


def _is_none(value: ast.expr, assigned: _Assigned) -> bool:
    """Whether a returned value, that was None when it was seen, is so in every case the text knows of."""
    if isinstance(value, ast.Constant):
        return value.value is None
    if isinstance(value, ast.IfExp):
        return _asks_for_arguments(value.test) and isinstance(value.orelse, ast.Constant) and value.orelse.value is None
    if not isinstance(value, ast.Name):
        return False
    values = assigned.get(value.id, ())
    nothing = [item for item, _ in values if isinstance(item, ast.Constant) and item.value is None]
    # A value that is always assigned would have been returned; one that a case assigns may come in another case.
    return bool(nothing) and all(when == _BY_ARGUMENTS for item, when in values if item not in nothing)


def _assignments(body: Sequence[ast.stmt]) -> _Assigned:
    found: dict[str, list[tuple[ast.expr | None, int]]] = {}
    for statement, when in _statements(body, _ALWAYS):
        for target, value in _pairs(statement):
            found.setdefault(target, []).append((value, when))
    return found


def _pairs(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """Names a statement assigns, with their values."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
            elif isinstance(target, (ast.Tuple, ast.List)):
                values = statement.value.elts if isinstance(statement.value, (ast.Tuple, ast.List)) else []
                paired = len(values) == len(target.elts)
                for index, item in enumerate(target.elts):
                    if isinstance(item, ast.Name):
                        yield item.id, values[index] if paired else None
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)) and isinstance(statement.target, ast.Name):
        yield statement.target.id, statement.value if isinstance(statement, ast.AnnAssign) else None


def _statements(body: Sequence[ast.stmt], when: int) -> Iterator[tuple[ast.stmt, int]]:
    """The statements of a function, those of functions in it left out, each with when it runs."""
    for statement in body:
        yield statement, when
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        inner = when
        if isinstance(statement, ast.If):
            inner = max(when, _BY_ARGUMENTS if _asks_for_arguments(statement.test) else _BY_CASE)
        elif isinstance(statement, (ast.For, ast.While, ast.Try, ast.Match)):
            inner = _BY_CASE
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, name, ()), inner)
        for branch in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _statements(branch.body, _BY_CASE)


def _asks_for_arguments(test: ast.expr) -> bool:
    """Whether a condition only asks which arguments were given and need a gradient."""
    if isinstance(test, ast.BoolOp):
        return all(map(_asks_for_arguments, test.values))
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _asks_for_arguments(test.operand)
    if isinstance(test, ast.Compare):
        return all(isinstance(item, (ast.Is, ast.IsNot)) for item in test.ops) and all(
            isinstance(item, ast.Constant) and item.value is None for item in test.comparators
        )
    if isinstance(test, ast.Subscript):
        return isinstance(test.value, ast.Attribute) and test.value.attr == "needs_input_grad"
    return (
        isinstance(test, ast.Call) and ast.unparse(test.func) in ("any", "all") and "needs_input_grad" in ast.dump(test)
    )
