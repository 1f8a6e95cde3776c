"""Whether a line runs in every step, by its text."""

from __future__ import annotations

import ast

from gradkit.observe.source.reading import FUNCTIONS, function_at, node_covers, node_lines, parse, surroundings
from gradkit.records import Location


def stands_under_condition(place: Location) -> bool:
    """Whether a line stands in a branch of an `if`, or holds a conditional expression or a switch that is computed."""
    around = surroundings(place.file, place.line)
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
        node for node in ast.walk(tree) if isinstance(node, FUNCTIONS) and node_lines(node, context.lineno)
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
