"""What a finding is recognised by in a later run, on another machine, after lines have moved; imports no torch.

A fingerprint is made of the rule, the file's path below its project, the function, and the text of the statement with
its spaces and trailing comment left out. Line numbers, steps, counts and messages are not in it. Equal statements of
one function are told apart by their order.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradkit.findings import Finding
from gradkit.records import Location
from gradkit.sources import line_of_file, lines_of_file

VERSION = "gradkit/v1"
"""Name of this way to make fingerprints; another way gets another name, so that old baselines are not misread."""
_MARKERS = ("pyproject.toml", ".git", "setup.py", "setup.cfg")


def fingerprint(finding: Finding) -> str:
    """32 hexadecimal digits that stay the same while the statement, its function and its file's path do."""
    place = finding.location
    if place is None:
        parts = [finding.rule, finding.optimizer or "", *finding.modules]
    else:
        text, order = _statement_at(place)
        parts = [finding.rule, project_path(place.file), place.function, text, str(order)]
    return hashlib.sha256("\0".join([VERSION, *parts]).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def project_path(file: str) -> str:
    """The path below the nearest folder that looks like a project's, with forward slashes; else the file's name."""
    if file.startswith("<"):
        return file
    path = Path(file).absolute()
    root = project_of(path)
    return path.relative_to(root).as_posix() if root is not None else path.name


@functools.cache
def _project(folder: Path) -> Path | None:
    return next((each for each in (folder, *folder.parents) if any((each / name).exists() for name in _MARKERS)), None)


def project_of(path: Path) -> Path | None:
    """The nearest folder above a file that holds a `pyproject.toml`, `.git`, `setup.py` or `setup.cfg`."""
    return _project(path.parent)


@dataclass(frozen=True, slots=True)
class _Statement:
    first: int
    last: int
    owner: int
    """Line of the function around it, 0 for none."""
    text: str


@functools.lru_cache(maxsize=256)
def _statements(source: str) -> tuple[_Statement, ...]:
    """The statements without a body of their own, in order."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # a notebook cell with magics, a template, a very deep file
        return ()
    lines = source.splitlines(keepends=True)
    found: list[_Statement] = []

    def walk(node: ast.AST, owner: int) -> None:
        for child in ast.iter_child_nodes(node):
            inside = child.lineno if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else owner
            if isinstance(child, ast.stmt) and not hasattr(child, "body") and not isinstance(child, ast.Match):
                last = child.end_lineno or child.lineno
                found.append(_Statement(child.lineno, last, owner, _bare("".join(_segment(lines, child)))))
            else:
                walk(child, inside)

    walk(tree, 0)
    return tuple(found)


def _segment(lines: Sequence[str], node: ast.stmt) -> list[str]:
    """The node's own text; offsets are in UTF-8 bytes."""
    last = node.end_lineno or node.lineno
    own = [line.encode("utf-8") for line in lines[node.lineno - 1 : last]]
    own[-1] = own[-1][: node.end_col_offset]
    own[0] = own[0][node.col_offset :]
    return [line.decode("utf-8", "replace") for line in own]


def _bare(text: str) -> str:
    return "".join(text.split())


def _around(place: Location) -> _Statement | None:
    lines = lines_of_file(place.file)
    every = _statements("".join(lines)) if lines else ()
    return next((each for each in every if each.first <= place.line <= each.last), None)


def lines_of(place: Location) -> range:
    """The lines of the simple statement around a place; the line alone where there is none."""
    found = _around(place)
    return range(found.first, found.last + 1) if found is not None else range(place.line, place.line + 1)


def _statement_at(place: Location) -> tuple[str, int]:
    """Text of the statement at a place, and how many equal ones come before it in the same function."""
    found = _around(place)
    lines = lines_of_file(place.file)
    if found is None:  # the head of a loop or a condition, or a source that cannot be parsed
        text = _bare(line_of_file(place.file, place.line))
        return text, sum(_bare(line) == text for line in lines[: place.line - 1])
    before = [each for each in _statements("".join(lines)) if each.first < found.first]
    return found.text, sum(each.text == found.text and each.owner == found.owner for each in before)
