"""Reads the user's source text to name the statements that clear gradients; never runs or imports it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from gradkit.records import Location, Statement
from gradkit.sources import line_of_file, lines_of_file


@dataclass(frozen=True, slots=True)
class Clearing:
    """A statement that clears gradients by its looks: its line, text and function."""

    line: int
    text: str
    function: str


@functools.lru_cache(maxsize=256)
def _tree(file: str, text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):  # a notebook cell with magics, a template, a very deep file
        return None


def parse(file: str) -> ast.Module | None:
    """The syntax tree of a file; None when its text is not available or no Python."""
    lines = lines_of_file(file)
    return _tree(file, "".join(lines)) if lines else None


def last_name(node: ast.AST) -> str | None:
    """The last name of a call, an attribute or a name."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def line_text(file: str, line: int) -> str:
    """One line of a source file without its indentation; empty when the text is not available."""
    return line_of_file(file, line).strip()


def is_clearing(node: ast.AST) -> bool:
    """Whether a statement clears gradients by its looks: zero_grad, `.grad = None`, `.grad.zero_()`, a foreach zero."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Attribute) and target.attr == "grad" for target in node.targets) and (
            isinstance(node.value, ast.Constant) or "zeros" in ast.unparse(node.value)
        )
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called, given = ast.unparse(node.value.func), node.value.args
        if called.endswith(("zero_grad", "_foreach_zero_")):
            return True
        if "grad" not in called:
            return False
        # `fill_` and `copy_` clear only with a zero; copying reduced or averaged gradients does not.
        zero = any(ast.unparse(argument) in ("0", "0.0") or "zeros" in ast.unparse(argument) for argument in given)
        return called.endswith(".zero_") or (called.endswith((".fill_", ".copy_")) and zero)
    return False


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _walk(node: ast.AST, function: str, conditions: frozenset[int]) -> Iterator[tuple[ast.stmt, str, frozenset[int]]]:
    """Statements below `node` with their function and the branches around them."""
    for name, value in ast.iter_fields(node):
        if not isinstance(value, list):
            continue
        for child in value:
            if isinstance(child, ast.ExceptHandler):
                yield from _walk(child, function, conditions | {child.lineno})
            if not isinstance(child, ast.stmt):
                continue
            around = conditions
            if isinstance(node, ast.If):
                around = conditions | {node.lineno if name == "body" else -node.lineno}
            yield child, function, around
            inner = (
                f"{function}.{child.name}".lstrip(".") if isinstance(child, (*_FUNCTIONS, ast.ClassDef)) else function
            )
            yield from _walk(child, inner, frozenset() if isinstance(child, _FUNCTIONS) else around)


def _statements(file: str) -> list[tuple[ast.stmt, str, frozenset[int]]]:
    tree = parse(file)
    return _all_of(tree) if tree is not None else []


@functools.lru_cache(maxsize=64)
def _all_of(tree: ast.Module) -> list[tuple[ast.stmt, str, frozenset[int]]]:
    return list(_walk(tree, "", frozenset()))


def _around(file: str, line: int) -> tuple[str, frozenset[int]] | None:
    """Function and conditions of the innermost statement that holds `line`."""
    best = None
    for statement, function, conditions in _statements(file):
        decorators = [item.lineno for item in getattr(statement, "decorator_list", ())]
        if min([statement.lineno, *decorators]) <= line <= (statement.end_lineno or statement.lineno):
            best = (function, conditions)
    return best


def _block(file: str, line: int) -> range:
    """The lines of the outermost loop around a line of a flat script, else of the innermost `with`, else none."""
    loop = block = range(0)
    for statement, function, _ in _statements(file):
        lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        if function or line not in lines:
            continue
        if isinstance(statement, (ast.For, ast.AsyncFor, ast.While)):
            loop = loop or lines
        elif isinstance(statement, (ast.With, ast.AsyncWith)):
            block = lines
    return loop or block


def clearings(file: str) -> list[Clearing]:
    """All statements of a file that look like clearing gradients, in order."""
    return [
        Clearing(statement.lineno, ast.unparse(statement).split("\n")[0], function)
        for statement, function, _ in _statements(file)
        if is_clearing(statement)
    ]


def statement(file: str, item: Clearing, note: str) -> Statement:
    """The record of a clearing statement."""
    return Statement(Location(file, item.line, item.function or "<module>"), item.text, note)


def missing(backward: Location | None, step: Location | None) -> list[Statement]:
    """Statements that should have cleared stale gradients but did not, in the functions concerned or their class."""
    places = [place for place in (step, backward) if place is not None]
    found: list[Statement] = []
    for file in dict.fromkeys(place.file for place in places):
        functions = {around[0] for place in places if place.file == file and (around := _around(file, place.line))}
        classes = {function.rpartition(".")[0] for function in functions} - {""}
        every = clearings(file)
        near = [item for item in every if item.function in functions - {""}]
        if "" in functions:  # a flat script or a cell: what stands around the loop has nothing to do with it
            blocks = [_block(file, place.line) for place in places if place.file == file]
            near += [item for item in every if not item.function and any(item.line in block for block in blocks)]
        near = near or [item for item in every if item.function.rpartition(".")[0] in classes]
        note = "this stands in the source and did not clear these: it ran on other gradients, too early, or not at all"
        found += [statement(file, item, note) for item in near]
    return found[:3]


def return_line(file: str, first_line: int) -> int | None:
    """The line of the last `return` with a value in the function that starts at `first_line`."""
    function = function_at(file, first_line)
    if function is None:
        return None
    lines = [item.lineno for item in ast.walk(function) if isinstance(item, ast.Return) and item.value is not None]
    return max(lines, default=None)


def function_at(file: str, first_line: int) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The function whose text, its decorators included, starts at `first_line`; None when it is not to be found."""
    tree = parse(file)
    for node in ast.walk(tree) if tree is not None else ():
        starts = getattr(node, "lineno", -1), *(item.lineno for item in getattr(node, "decorator_list", ()))
        if isinstance(node, _FUNCTIONS) and first_line in starts:
            return node
    return None


def stands_under_condition(place: Location) -> bool:
    """Whether a line stands in a branch of an `if`, or holds a conditional expression or a switch that is computed."""
    around = _around(place.file, place.line)
    tree = parse(place.file)
    if around is None or tree is None:
        return True
    if around[1]:
        return True
    for node in ast.walk(tree):
        if isinstance(node, (ast.With, ast.AsyncWith)):
            contexts = [item.context_expr for item in node.items if node_covers(item.context_expr, place.line)]
            if contexts and not any(_switches_off(context, tree) for context in contexts):
                return True
        if not node_covers(node, place.line):
            continue
        if isinstance(node, ast.IfExp):
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("set_grad_enabled", "inference_mode")):
            return any(not isinstance(argument, ast.Constant) for argument in node.args)
    return False


_SWITCHES = ("no_grad", "inference_mode", "set_grad_enabled")


def _switches_off(context: ast.expr, tree: ast.Module) -> bool:
    """Whether a context manager is one of torch's that switch gradients off, by its name or by the one value it has.

    One that comes in by an argument, from a helper or from one of several assignments was chosen elsewhere.
    """
    held = ast.unparse(context.func if isinstance(context, ast.Call) else context)
    if held.endswith(_SWITCHES):
        return True
    around = [
        node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and node_lines(node, context.lineno)
    ]  # inner functions are walked after outer ones
    values = next((found for scope in (*reversed(around), tree) if (found := _values(held, scope))), [])
    if len(values) != 1 or any(isinstance(item, ast.IfExp) for item in ast.walk(values[0])):
        return False
    return any(name in ast.unparse(values[0]) for name in _SWITCHES)


def _values(name: str, scope: ast.AST) -> list[ast.expr]:
    """What is assigned to a name or attribute below `scope`, or imported under it."""
    found: list[ast.expr] = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            found.append(node.value)
        elif isinstance(node, ast.ImportFrom):
            found += [ast.Name(alias.name) for alias in node.names if alias.asname == name]
    return found


def only_returns(file: str, first_line: int, operation: str) -> bool:
    """Whether the function whose text starts at `first_line` only returns what an operation or a `with` gives."""
    function = function_at(file, first_line)
    body = function.body if function is not None else []
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # its documentation
    if len(body) != 1:
        return False
    statement = body[0]
    if isinstance(statement, ast.With):
        return len(statement.body) == 1 and isinstance(statement.body[0], ast.Return)
    value = statement.value if isinstance(statement, ast.Return) else None
    called = value.func if isinstance(value, ast.Call) else value
    return isinstance(called, ast.Attribute) and called.attr == operation.lstrip(".")


def is_unconditional(place: Location, name: str) -> bool:
    """Whether a call of `name` on this line gives no `training` at all, or the constant True."""
    tree = parse(place.file)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
            if not node_covers(node, place.line):
                continue
            given = [item.value for item in node.keywords if item.arg in ("training", "train", None)] + node.args[2:3]
            if name == "scaled_dot_product_attention":
                given = []
            return all(isinstance(value, ast.Constant) and value.value is True for value in given)
    return False


def node_lines(node: ast.AST, line: int) -> bool:
    """Whether the lines of a statement or expression include `line`."""
    first = getattr(node, "lineno", None)
    return first is not None and first <= line <= (getattr(node, "end_lineno", None) or first)


def node_covers(node: ast.AST, line: int) -> bool:
    """Whether an expression's lines include `line`."""
    return isinstance(node, ast.expr) and node_lines(node, line)
