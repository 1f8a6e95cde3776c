"""Reads the user's source text to name the statements that clear gradients; never runs or imports it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from gradkit.sources import line_of_file, lines_of_file


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


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


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
                f"{function}.{child.name}".lstrip(".") if isinstance(child, (*FUNCTIONS, ast.ClassDef)) else function
            )
            yield from _walk(child, inner, frozenset() if isinstance(child, FUNCTIONS) else around)


def statements_of(file: str) -> list[tuple[ast.stmt, str, frozenset[int]]]:
    """Every statement of a file with its function and the branches around it."""
    tree = parse(file)
    return _all_of(tree) if tree is not None else []


@functools.lru_cache(maxsize=64)
def _all_of(tree: ast.Module) -> list[tuple[ast.stmt, str, frozenset[int]]]:
    return list(_walk(tree, "", frozenset()))


def surroundings(file: str, line: int) -> tuple[str, frozenset[int]] | None:
    """Function and conditions of the innermost statement that holds `line`."""
    best = None
    for statement, function, conditions in statements_of(file):
        decorators = [item.lineno for item in getattr(statement, "decorator_list", ())]
        if min([statement.lineno, *decorators]) <= line <= (statement.end_lineno or statement.lineno):
            best = (function, conditions)
    return best


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
        if isinstance(node, FUNCTIONS) and first_line in starts:
            return node
    return None


def node_lines(node: ast.AST, line: int) -> bool:
    """Whether the lines of a statement or expression include `line`."""
    first = getattr(node, "lineno", None)
    return first is not None and first <= line <= (getattr(node, "end_lineno", None) or first)


def node_covers(node: ast.AST, line: int) -> bool:
    """Whether an expression's lines include `line`."""
    return isinstance(node, ast.expr) and node_lines(node, line)
