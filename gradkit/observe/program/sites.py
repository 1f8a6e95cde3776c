"""Finds the user's own line on the call stack, and says when a framework stands between it and the call."""

from __future__ import annotations

import dis
import functools
import linecache
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

from gradkit.records import Location
from gradkit.sources import PACKAGE

_USER, _LIBRARY, _HIDDEN, _OWN = range(4)

MAX_FRAMES = 16
"""User's functions on a stack that are looked at, innermost first."""

# Frameworks whose own loop calls backward and step: what lies outside them on the stack is only the line that started
# the loop. Thin wrappers (Fabric, Accelerate) are called by the user's loop and are simply skipped.
_DRIVERS = {
    "lightning.pytorch.loops": "lightning",
    "lightning.pytorch.trainer": "lightning",
    "pytorch_lightning.loops": "lightning",
    "pytorch_lightning.trainer": "lightning",
    "transformers.trainer": "transformers",
    "transformers.trainer_seq2seq": "transformers",
    "ignite.engine": "ignite",
}
_THIN = (
    "lightning",
    "lightning_fabric",
    "pytorch_lightning",
    "accelerate",
    "transformers",
    "torch",
    "torchmetrics",
    "ignite",
)


def _directory(path: str) -> str:
    return str(Path(path).resolve()) + "/"


_GRADKIT = _directory(str(PACKAGE))
# `python -m gradkit.train` is a training program that gradkit watches: its loop is the user's code there.
_GRADKIT_PROGRAMS = tuple(_GRADKIT + name for name in ("train/", "check/"))
_RUNNER = str(PACKAGE / "run" / "program.py")
_STDLIB = tuple({_directory(path) for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib")})


@dataclass(frozen=True, slots=True)
class Site:
    """A place on the stack: code object and instruction, turned into a line only when someone asks.

    Attributes:
        code: The user's code object, or None when none was found.
        instruction: Index of the bytecode instruction.
        framework: Name of the framework whose loop made the call; the site is then the line that started that loop.
    """

    code: CodeType | None
    instruction: int
    framework: str | None = None

    def location(self) -> Location | None:
        """File, line and function; None when there was no user frame."""
        if self.code is None:
            return None
        return Location(
            shown_name(self.code.co_filename),
            line_of(self.code, self.instruction),
            function_of(self.code),
            self.framework,
        )


def shown_name(filename: str) -> str:
    """A code object's file as a reader knows it: a notebook's cell as `<cell 3>`, every other file as it is.

    Notebooks compile a cell under a name made for the machine. The source text is made available under the name shown.
    """
    number = _CELL.fullmatch(filename)
    if number is None:
        # IPython's own table of cells: `format_code_name` answers ("Cell", "In[3]"), or nothing for a file.
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        known = getattr(getattr(shell, "compile", None), "format_code_name", lambda name: None)(filename)
        number = _CELL_LABEL.fullmatch(known[1]) if known else None
    if number is None:
        return filename
    shown = f"<cell {number[1]}>"
    if filename in linecache.cache:
        linecache.cache[shown] = linecache.cache[filename]
    return shown


_CELL = re.compile(r"<ipython-input-(\d+)-\w+>")
_CELL_LABEL = re.compile(r"In\s?\[(\d+)\]")


def line_of(code: CodeType, instruction: int) -> int:
    """The source line of one bytecode instruction of `code`, 1-based."""
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


@functools.lru_cache(maxsize=256)
def drops_result(code: CodeType, instruction: int) -> bool:
    """Whether what the call at `instruction` returns is thrown away, by its statement or as `_`."""
    following = (item for item in dis.get_instructions(code) if item.offset > instruction and item.opname != "CACHE")
    after = next(following, None)
    if after is None:
        return False
    names = after.argval if isinstance(after.argval, tuple) else (after.argval,)  # Python 3.13 joins two instructions
    return after.opname == "POP_TOP" or (after.opname.startswith("STORE_") and names[0] == "_")


def function_of(code: CodeType) -> str:
    """The function's name as a reader knows it, qualified where Python keeps that."""
    return str(getattr(code, "co_qualname", code.co_name))


_kinds: dict[str, int] = {}


def _kind(filename: str) -> int:
    """Whether a file is the user's, a library's, never to be shown, or gradkit's own; cached per file."""
    known = _kinds.get(filename)
    if known is None:
        if len(_kinds) > 10_000:  # generated file names of a long notebook session
            _kinds.clear()
        known = _kinds[filename] = _classify(filename)
    return known


def is_user_code(filename: str) -> bool:
    """Whether a file is the user's own, neither a library's nor torch's nor gradkit's."""
    return _kind(filename) == _USER


def _classify(filename: str) -> int:
    if filename.startswith("<gradkit"):
        return _OWN
    if filename.startswith(("<frozen", "<eval_with_key", "<torch_package", "<__array_function__", "<attrs generated")):
        return _HIDDEN
    if filename.startswith("<"):
        return _USER  # <stdin>, <string>, <ipython-input-...>: code the user typed
    path = str(Path(filename).resolve())
    if path.startswith(_GRADKIT):
        return _USER if path.startswith(_GRADKIT_PROGRAMS) else _OWN
    if "/site-packages/" in path or "/dist-packages/" in path:
        packages = path.replace("/dist-packages/", "/site-packages/").rsplit("/site-packages/", 1)[1]
        return _HIDDEN if packages.split("/", 1)[0] in _THIN else _LIBRARY
    if path.startswith(_STDLIB):
        return _HIDDEN
    return _HIDDEN if path.startswith(_torch_directory()) else _USER


def _torch_directory() -> str:
    torch = sys.modules.get("torch")
    return _directory(str(Path(str(torch.__file__)).parent)) if torch is not None else "\0"


def framework_of(frame: FrameType) -> str | None:
    """The framework whose own loop this frame is part of."""
    module = frame.f_globals.get("__name__", "")
    if not isinstance(module, str) or not module.startswith(
        ("lightning.", "pytorch_lightning.", "transformers.", "ignite.")
    ):
        return None
    return next(
        (name for prefix, name in _DRIVERS.items() if module == prefix or module.startswith(prefix + ".")), None
    )


def caller() -> FrameType:
    """The frame that called into gradkit: the nearest one that is none of the observer's own."""
    frame = sys._getframe()
    while _kind(frame.f_code.co_filename) == _OWN and frame.f_back is not None:
        frame = frame.f_back
    return frame


def find_site(start: FrameType | None = None) -> Site:
    """The nearest user frame on the stack.

    A user frame met before any framework's loop is the user's own call. One met after it is the line that started the
    loop; the site then names the framework. User code that lives in site-packages is taken when there is nothing
    better.

    Args:
        start: Where to begin to look outwards; here when None.
    """
    frame: FrameType | None = start or sys._getframe()
    framework: str | None = None
    fallback: Site | None = None
    while frame is not None:
        code = frame.f_code
        kind = _kinds.get(code.co_filename)  # as `_kind` does, without a call for each frame
        if kind is None:
            kind = _kind(code.co_filename)
        if kind == _USER:
            return Site(code, frame.f_lasti, framework)
        if kind == _LIBRARY:
            if fallback is None:
                fallback = Site(code, frame.f_lasti, framework)
        elif framework is None and kind != _OWN:
            framework = framework_of(frame)
        frame = frame.f_back
    return fallback or Site(None, 0, framework)


def find_caller() -> Site | None:
    """The user's own call of the function that `find_site` finds; None where something else called it, or a script."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and _kind(frame.f_code.co_filename) != _USER:
        frame = frame.f_back
    outer = frame.f_back if frame is not None else None
    if outer is None or outer.f_code.co_name == "<module>" or _kind(outer.f_code.co_filename) != _USER:
        return None
    return Site(outer.f_code, outer.f_lasti)


def is_of_library(filename: str) -> bool:
    """Whether a file belongs to an installed library, other than torch."""
    return "/site-packages/" in filename and not filename.startswith(_torch_directory())


def users_code(frame: FrameType | None) -> Iterator[CodeType]:
    """The user's functions on the stack from `frame` outwards, at most `MAX_FRAMES`.

    What calls a test, or runs a script, shares nothing with it.
    """
    left = MAX_FRAMES
    while frame is not None and left:
        if "/site-packages/_pytest/" in frame.f_code.co_filename or frame.f_code.co_filename == _RUNNER:
            break
        if is_user_code(frame.f_code.co_filename):
            left -= 1
            yield frame.f_code
        frame = frame.f_back


def way_here() -> int:
    """A number for the user's calls on the stack: each function and where it stands."""
    frame: FrameType | None = sys._getframe()
    calls = []
    while frame is not None:
        if is_user_code(frame.f_code.co_filename):
            calls.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(calls))
