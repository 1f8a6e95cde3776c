"""Turns a scenario pair into two programs a reader can compare: the failing one and the corrected one.

A scenario often is one function with a switch, `train(clear)`, called by `main()` and `repaired()`. Here the call is
replaced by the function's body with the switch's value put in and decided, so that each program stands alone. The text
is only read, never run.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_EXPECT = re.compile(r"#\s*expect:\s*(GK\d{3}(?:\s*,\s*GK\d{3})*)")
FOLDERS = ("scenarios", "check/scenarios")
_NEEDS = re.compile(r"^NEEDS\b", re.MULTILINE)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def programs_of(code: str, tests: Path) -> tuple[str, str] | None:
    """The clearest pair of a rule: a plain loop where there is one, else the shortest, without a framework if possible.

    Args:
        code: The rule's code.
        tests: The folder of tests, whose `scenarios` and `check/scenarios` hold the scenario files.

    Returns:
        The failing and the corrected program without a final line break, or None when the rule has no scenario.
    """
    paths = sorted(path for name in FOLDERS for path in (tests / name).glob(f"{code.lower()}_*.py"))
    plain = [path for path in paths if path.stem.endswith("_plain_loop")]
    texts = [path.read_text(encoding="utf-8") for path in plain or paths]
    texts = [text for text in texts if not _NEEDS.search(text)] or texts
    pairs = [pair for text in texts if (pair := programs(text)) is not None]
    return min(pairs, key=lambda pair: (len(pair[0]), pair), default=None)


def programs(text: str) -> tuple[str, str] | None:
    """The failing and the corrected program of one scenario file; None when it is not such a pair."""
    tree = ast.parse(text)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    repaired = next((name for name in functions if name.startswith("repaired")), None)
    if "main" not in functions or repaired is None:
        return None
    marks = {number: found[1] for number, line in enumerate(text.splitlines(), 1) if (found := _EXPECT.search(line))}
    return _program(tree, functions["main"], marks), _program(tree, functions[repaired], {})


def _program(tree: ast.Module, function: ast.FunctionDef, marks: Mapping[int, str]) -> str:
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    module = copy.deepcopy(tree)
    _Marker(marks).visit(module)
    marked = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    carrier = ast.Module(_flat(marked[function.name], marked), [])
    body = _Carrier({}).visit(carrier).body
    needed = _needed(module, body, set(functions) & {"main", "repaired"})
    imports = [node for node in needed if isinstance(node, (ast.Import, ast.ImportFrom))]
    others = [node for node in needed if not isinstance(node, (ast.Import, ast.ImportFrom))]
    text = _text([*imports])
    for node in others:
        text += ("\n\n\n" if hasattr(node, "body") else "\n\n") + _text([node])
    return (text + ("\n\n\n" if others and hasattr(others[-1], "body") else "\n\n") + _text(body)).strip()


# --- the body ---------------------------------------------------------------------------------------------------------


def _flat(function: ast.FunctionDef, functions: Mapping[str, ast.FunctionDef]) -> list[ast.stmt]:
    """The statements of a function as those of a script; a call that is all it does is replaced by the callee's."""
    body = _without_docstring(function.body)
    for _ in range(4):
        call = _only_call(body)
        callee = functions.get(call.func.id) if call is not None and isinstance(call.func, ast.Name) else None
        values = _bound(callee, call) if callee is not None and call is not None else None
        if callee is None or values is None or _returns(callee.body[:-1]):
            break
        body = [_Decided(values).visit(copy.deepcopy(node)) for node in _without_docstring(callee.body)]
        body = [each for node in body for each in (node if isinstance(node, list) else [node]) if each is not None]
    if _returns(body[:-1]):
        return [function, ast.Expr(ast.Call(ast.Name(function.name), [], []))]
    return _without_return(body)


def _without_docstring(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return list(body[1:] if documented and len(body) > 1 else body)


def _only_call(body: Sequence[ast.stmt]) -> ast.Call | None:
    if len(body) != 1 or not isinstance(body[0], (ast.Return, ast.Expr)):
        return None
    value = body[0].value
    return value if isinstance(value, ast.Call) else None


def _bound(callee: ast.FunctionDef, call: ast.Call) -> dict[str, ast.expr] | None:
    """The callee's parameters with the call's values; None when that cannot be put in its place."""
    given = callee.args
    if given.vararg or given.posonlyargs or any(isinstance(each, ast.Starred) for each in call.args):
        return None
    names = [each.arg for each in (*given.args, *given.kwonlyargs)]
    values: dict[str, ast.expr] = {}
    defaults = [*given.defaults]
    values.update(zip([each.arg for each in given.args][len(given.args) - len(defaults) :], defaults, strict=True))
    values.update(
        {each.arg: default for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default}
    )
    values.update(zip(names, call.args, strict=False))
    extra: dict[str, ast.expr] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            return None
        (values if keyword.arg in names else extra)[keyword.arg] = keyword.value
    if given.kwarg is not None:
        keys: list[ast.expr | None] = [ast.Constant(name) for name in extra]
        values[given.kwarg.arg] = ast.Dict(keys, list(extra.values()))
    elif extra:
        return None
    stored = {
        node.id for each in callee.body for node in ast.walk(each) if isinstance(node, ast.Name) and _is_store(node)
    }
    return None if set(names) - set(values) or stored & set(values) else values


def _is_store(node: ast.Name) -> bool:
    return isinstance(node.ctx, (ast.Store, ast.Del))


def _returns(body: Sequence[ast.stmt]) -> bool:
    """Whether a statement returns from the function it stands in."""
    for node in body:
        if isinstance(node, ast.Return):
            return True
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            continue
        if _returns([child for child in ast.walk(node) if isinstance(child, ast.Return)]):
            return True
    return False


def _without_return(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    last = body[-1]
    if not isinstance(last, ast.Return):
        return list(body)
    calls = last.value is not None and any(isinstance(node, ast.Call) for node in ast.walk(last.value))
    return [*body[:-1], *([ast.Expr(last.value)] if calls and last.value is not None else [])]


class _Decided(ast.NodeTransformer):
    """Puts values in the place of names and decides what then is decided: conditions, empty keyword dictionaries."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self._values[node.id]) if node.id in self._values else node

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        if not isinstance(node.test, ast.Constant):
            return node
        return node.body if node.test.value else node.orelse

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.test, ast.Constant):
            return node
        return node.body if node.test.value else node.orelse

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Constant):
            return ast.Constant(not node.operand.value)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        decisive = isinstance(node.op, ast.Or)
        rest = []
        for value in node.values:
            if not isinstance(value, ast.Constant):
                rest.append(value)
            elif bool(value.value) is decisive:
                return value if not rest else node
        return node if len(rest) > 1 else rest[0] if rest else node.values[-1]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        keywords: list[ast.keyword] = []
        for keyword in node.keywords:
            if keyword.arg is None and isinstance(keyword.value, ast.Dict):
                pairs = zip(keyword.value.keys, keyword.value.values, strict=True)
                keywords += [
                    ast.keyword(str(key.value), value) for key, value in pairs if isinstance(key, ast.Constant)
                ]
            else:
                keywords.append(keyword)
        node.keywords = keywords
        applied = node.func
        if isinstance(applied, ast.Lambda) and not keywords and len(applied.args.args) == len(node.args):
            names = [each.arg for each in applied.args.args]
            result: ast.expr = _Decided(dict(zip(names, node.args, strict=True))).visit(applied.body)
            if (code := getattr(applied, _CODE, None)) is not None:
                setattr(result, _CODE, code)
            return result
        return node


# --- what it needs ----------------------------------------------------------------------------------------------------


def _needed(module: ast.Module, body: Sequence[ast.stmt], never: set[str]) -> list[ast.stmt]:
    """The top-level statements that the body refers to, directly or through each other, in their order."""
    given: dict[str, ast.stmt] = {}
    for node in module.body:
        for name in _names_made(node):
            if name not in never:
                given[name] = node
    needed: set[str] = set()
    waiting = [*body]
    while waiting:
        used = {each.id for each in ast.walk(waiting.pop()) if isinstance(each, ast.Name)}
        new = (used & set(given)) - needed
        needed |= new
        waiting += [given[name] for name in new]
    chosen = {id(given[name]) for name in needed}
    return [node for node in module.body if id(node) in chosen]


def _names_made(node: ast.stmt) -> list[str]:
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Import):
        return [each.asname or each.name.partition(".")[0] for each in node.names]
    if isinstance(node, ast.ImportFrom):
        return [each.asname or each.name for each in node.names]
    if isinstance(node, ast.Assign):
        return [each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)]
    return []


# --- text -------------------------------------------------------------------------------------------------------------

_CODE = "gradkit_code"
_MARK = "gradkit reports this line: "


class _Marker(ast.NodeTransformer):
    """Puts a text after each statement that must be reported; `_text` makes it a comment on the statement's line."""

    def __init__(self, marks: Mapping[int, str]) -> None:
        self._marks = marks

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        if node.lineno in self._marks:
            setattr(node, _CODE, self._marks[node.lineno])
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, [each for statement in statements for each in self._with_mark(statement)])
        return node

    def _with_mark(self, statement: ast.stmt) -> list[ast.stmt]:
        if hasattr(statement, "body"):
            return [statement]
        code = self._code_of(statement)
        if code is None:
            return [statement]
        mark = ast.Expr(ast.Constant(_MARK + code), lineno=0, end_lineno=0, col_offset=0)
        return [mark, statement] if isinstance(statement, ast.Return) else [statement, mark]

    def _code_of(self, statement: ast.stmt) -> str | None:
        lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        return next((self._marks[line] for line in lines if line in self._marks), None)


class _Carrier(_Marker):
    """Marks the statement into which a marked lambda of the call was put."""

    def _code_of(self, statement: ast.stmt) -> str | None:
        codes = (getattr(node, _CODE, None) for node in ast.walk(statement) if not isinstance(node, ast.Lambda))
        return next((code for code in codes if code is not None), None)


def _text(body: list[ast.stmt]) -> str:
    lines: list[str] = []
    pending = ""
    for line in ast.unparse(ast.fix_missing_locations(ast.Module(body, []))).splitlines():
        found = re.fullmatch(rf"\s*'{re.escape(_MARK)}(.*)'", line)
        if found is None:
            lines.append(line + pending)
            pending = ""
        elif lines and not _opens(lines[-1]):
            lines[-1] += f"  # {found[1]}"
        else:
            pending = f"  # {found[1]}"
    return "\n".join(lines)


def _opens(line: str) -> bool:
    return line.rstrip().endswith(":")
