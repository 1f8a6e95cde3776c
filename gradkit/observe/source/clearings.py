"""Which statements may have cleared gradients between a backward and a step: read from the source of the calls there.

The functions on the stack when the step is judged are read from the backward on, with the helpers they call: a clearing
in a helper stands under the condition of its call. Names are looked up in the program as it is; nothing is run.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from gradkit.observe.program.sites import Site, framework_of, function_of, is_user_code, line_of, shown_name
from gradkit.observe.source import reading
from gradkit.observe.source.reading import statements_of, surroundings
from gradkit.records import Location, Statement

MAX_DEPTH = 4
"""Calls within calls that are followed."""
MAX_FUNCTIONS = 200
"""Functions that are read for one answer."""
MAX_FRAMES = 8
"""User's frames around the step that are read until the backward is found."""
MAX_KNOWN = 64
"""Places whose answer is kept: a faulty run asks for the same one at every step."""
_HOOKS = (
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "on_pre_optimizer_step",
)
"""Methods of Lightning modules and of callbacks that a framework calls between the backward and the step."""
_NOTE = "the gradients were cleared here"

_Position = tuple[int, int]
_Function = tuple[FunctionType, Any]
"""A function and the object it is bound to, if any."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """A statement that clears by its looks: its place, its text and whether a condition of its own decides about it."""

    location: Location
    text: str
    conditional: bool

    @property
    def statement(self) -> Statement:
        """The record of it."""
        return Statement(self.location, self.text, _NOTE)


@dataclass(slots=True)
class _Reading:
    """What reading a function from its start has come to."""

    found: list[Cleared] = field(default_factory=list)
    began: bool = False
    """The backward has been passed."""


_known: dict[object, list[Cleared]] = {}


def cleared_between(backward: Site | None, frame: FrameType | None) -> list[Cleared]:
    """Statements between the backward and the step that is being judged, in order; none when that cannot be told.

    Args:
        backward: Where the backward was called.
        frame: Where the step is judged.
    """
    if backward is None:
        return []
    frames = list(_stack(frame))
    if backward.framework is not None:
        return _in_hooks(frames)
    users = [item for item in frames if is_user_code(item.f_code.co_filename)][:MAX_FRAMES]
    key = (backward, tuple((item.f_code, item.f_lasti) for item in users))
    if key not in _known:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        _known[key] = _read_outwards(backward, users)
    return _known[key]


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _read_outwards(backward: Site, users: Sequence[FrameType]) -> list[Cleared]:
    inner: list[Cleared] = []
    reader = _Reader(backward)
    for frame in users:
        names = {**frame.f_globals, **frame.f_locals}
        reading = reader.read(frame.f_code, names, end=_position(frame.f_code, frame.f_lasti))
        inner = reading.found + inner
        if reading.began:
            return inner
    return []


def _in_hooks(frames: Sequence[FrameType]) -> list[Cleared]:
    """Clearings in what a framework's trainer on the stack calls between the two."""
    for frame in frames:
        if framework_of(frame) is None:
            continue
        for trainer in (frame.f_locals.get("trainer"), frame.f_locals.get("self")):
            handler = getattr(trainer, "callback_handler", trainer)  # transformers keeps them apart
            callbacks = getattr(handler, "callbacks", None)
            if not isinstance(callbacks, list):
                continue
            found: list[Cleared] = []
            for owner in (getattr(trainer, "lightning_module", None), *callbacks):
                for hook in _HOOKS:
                    function = _function(inspect.getattr_static(type(owner), hook, None), owner)
                    if function is not None:
                        found += _Reader(None).follow(function, 1).found
            return found
    return []


class _Reader:
    """Reads functions for clearings after a backward.

    Args:
        backward: Where the backward was called; None to read whole functions.
    """

    def __init__(self, backward: Site | None) -> None:
        self._code = backward.code if backward is not None else None
        self._instruction = backward.instruction if backward is not None else 0
        self._read: dict[CodeType, _Reading] = {}

    def follow(self, function: _Function, depth: int) -> _Reading:
        """Read a function that is called."""
        called, owner = function
        known = self._read.get(called.__code__)
        if known is not None or len(self._read) >= MAX_FUNCTIONS:
            return known or _Reading()
        self._read[called.__code__] = _Reading()  # what a recursive call of it comes to
        cells = zip(called.__code__.co_freevars, called.__closure__ or (), strict=False)
        names = {**called.__globals__, **{name: _content(cell) for name, cell in cells}}
        if owner is not None and called.__code__.co_argcount:
            names[called.__code__.co_varnames[0]] = owner
        reading = self._read[called.__code__] = self.read(called.__code__, names, depth=depth)
        return reading

    def read(self, code: CodeType, names: Mapping[str, Any], end: _Position | None = None, depth: int = 0) -> _Reading:
        """Read a function, up to a place in it."""
        reading = _Reading()
        file = shown_name(code.co_filename)
        body = _body(file, code)
        statements = list(_walk(body, frozenset()))
        start = _position(code, self._instruction) if code is self._code else None
        shared = _around(statements, end) | _around(statements, start)
        for statement, conditions in statements:
            place = (statement.lineno, statement.col_offset)
            if end is not None and place >= end:
                continue
            if start is not None and not reading.began and place > start:
                reading.began, reading.found = True, []
            conditional = bool(conditions - shared)
            if is_clearing(statement):
                where = Location(file, statement.lineno, function_of(code))
                reading.found.append(Cleared(where, ast.unparse(statement).split("\n")[0], conditional))
            elif depth < MAX_DEPTH:
                self._follow_calls(reading, statement, names, conditional, end, depth)
        if start is not None and not reading.began:
            reading.began, reading.found = True, []
        return reading

    def _follow_calls(
        self,
        reading: _Reading,
        statement: ast.stmt,
        names: Mapping[str, Any],
        conditional: bool,
        end: _Position | None,
        depth: int,
    ) -> None:
        for call, guarded in _calls(statement):
            if end is not None and (call.lineno, call.col_offset) >= end:
                continue
            function = _function(_value(call.func, names), None)
            if function is None:
                continue
            inner = self.follow(function, depth + 1)
            if inner.began:
                reading.began, reading.found = True, inner.found  # the backward itself is what the condition decides
            else:
                reading.found += [
                    replace(item, conditional=item.conditional or conditional or guarded) for item in inner.found
                ]


# --- the text -----------------------------------------------------------------------------------------------------


def _body(file: str, code: CodeType) -> list[ast.stmt]:
    if code.co_name == "<module>":
        tree = reading.parse(file)
        return tree.body if tree is not None else []
    function = reading.function_at(file, code.co_firstlineno)
    return function.body if function is not None else []


_Conditions = frozenset[int]


def _walk(body: Sequence[ast.stmt], conditions: _Conditions) -> Iterator[tuple[ast.stmt, _Conditions]]:
    """The statements of a function in order, each with what decides whether it runs; nested functions are left out."""
    for statement in body:
        yield statement, conditions
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for name, value in ast.iter_fields(statement):
            if name == "handlers" or name == "cases":
                for branch in value:
                    yield from _walk(branch.body, conditions | {id(branch)})
            elif isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                decides = isinstance(statement, ast.If) and not _asks_for_gradient(statement.test)
                branch_of = id(statement) if name == "body" else -id(statement)
                yield from _walk(value, conditions | {branch_of} if decides else conditions)
        if isinstance(statement, ast.If) and not _asks_for_gradient(statement.test) and _may_leave(statement):
            conditions = conditions | {id(statement.test)}  # what follows runs when the branch was not taken


def _may_leave(statement: ast.If) -> bool:
    last = [branch[-1] for branch in (statement.body, statement.orelse) if branch]
    return any(isinstance(item, (ast.Return, ast.Continue, ast.Break, ast.Raise)) for item in last)


def _asks_for_gradient(test: ast.expr) -> bool:
    """Whether a condition only asks whether a gradient exists, as `if p.grad is not None` does before a clearing."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (ast.Is, ast.IsNot)):
        test = test.left
    return isinstance(test, ast.Attribute) and test.attr == "grad"


def _around(statements: Sequence[tuple[ast.stmt, _Conditions]], place: _Position | None) -> _Conditions:
    """What decides about the innermost statement at a place."""
    found: _Conditions = frozenset()
    if place is None:
        return found
    for statement, conditions in statements:
        last = (statement.end_lineno or statement.lineno, statement.end_col_offset or 0)
        if (statement.lineno, statement.col_offset) <= place <= last:
            found = conditions
    return found


def _calls(statement: ast.stmt) -> Iterator[tuple[ast.Call, bool]]:
    """Calls in a statement's own expressions, each with whether something in the expression decides about it."""
    for _, value in ast.iter_fields(statement):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.expr):
                yield from _calls_in(child, guarded=False)
            elif isinstance(child, ast.withitem):
                yield from _calls_in(child.context_expr, guarded=False)


def _calls_in(node: ast.AST, guarded: bool) -> Iterator[tuple[ast.Call, bool]]:
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Call):
        yield node, guarded
    for number, child in enumerate(ast.iter_child_nodes(node)):
        decided = isinstance(node, ast.IfExp) and child is not node.test
        # The first child of `a and b` is the operator, the second `a`.
        decided = decided or (isinstance(node, ast.BoolOp) and number > 1)
        yield from _calls_in(child, guarded or decided)


def _position(code: CodeType, instruction: int) -> _Position:
    """Line and column where the expression of an instruction begins."""
    positions = code.co_positions() if hasattr(code, "co_positions") else ()  # columns are known since Python 3.11
    for number, (line, _, column, _) in enumerate(positions):
        if number == instruction // 2 and line is not None:
            return line, column or 0
    return line_of(code, instruction), 0


# --- the program --------------------------------------------------------------------------------------------------


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What a dotted name stands for, without running anything; None when it cannot be told."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = _value(node.value, names)
    if owner is None:
        return None
    if isinstance(owner, ModuleType):
        return vars(owner).get(node.attr)
    modules = _attributes(owner).get("_modules")
    if isinstance(modules, dict) and node.attr in modules:
        return modules[node.attr]
    found = inspect.getattr_static(owner, node.attr, None)
    if isinstance(found, FunctionType) and not isinstance(owner, type) and node.attr not in _attributes(owner):
        return MethodType(found, owner)
    return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found


def _attributes(owner: Any) -> Mapping[str, Any]:
    found = getattr(owner, "__dict__", {})
    return found if isinstance(found, Mapping) else {}


def _function(value: Any, owner: Any) -> _Function | None:
    """The user's function that a call of `value` runs; None when there is none."""
    if isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, MethodType):
        value, owner = value.__func__, value.__self__
    if not isinstance(value, FunctionType):
        return None
    try:
        value = inspect.unwrap(value)  # under `torch.no_grad()` and other decorators
    except ValueError:
        return None
    if not isinstance(value, FunctionType) or not is_user_code(value.__code__.co_filename):
        return None
    return value, owner


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty still
        return None


@dataclass(frozen=True, slots=True)
class Clearing:
    """A statement that clears gradients by its looks: its line, text and function."""

    line: int
    text: str
    function: str


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


def _block(file: str, line: int) -> range:
    """The lines of the outermost loop around a line of a flat script, else of the innermost `with`, else none."""
    loop = block = range(0)
    for statement, function, _ in statements_of(file):
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
        for statement, function, _ in statements_of(file)
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
        functions = {around[0] for place in places if place.file == file and (around := surroundings(file, place.line))}
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
