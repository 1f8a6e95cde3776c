"""Which files belong to the user's program."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from gradkit.observe.program.sites import is_user_code
from gradkit.observe.source import reading
from gradkit.sources import PACKAGE

_BY_NAME = frozenset({"import_module", "__import__"})


_GRADKIT = str(PACKAGE) + os.sep


def program(files: set[str]) -> set[str]:
    """`files` and the user's modules they import, and those import.

    One of `files` that imports by name may mean its neighbours.

    Much else may be loaded: other tests of a session, other cells' helpers. A function of theirs that happens to have
    the name of one of this program's is not called by it.
    """
    loaded = {
        str(file): module
        for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None)) and str(file).endswith(".py") and is_user_code(str(file))
    }
    if not any(file.startswith(_GRADKIT) for file in files):  # a program calls gradkit as it calls a library
        loaded = {file: module for file, module in loaded.items() if not file.startswith(_GRADKIT)}
    known, pending = set(files), list(files)
    while pending:
        file = pending.pop()
        tree = reading.parse(file)
        found: set[str] = set()
        by_name = False
        for node in ast.walk(tree) if tree is not None else ():
            by_name = by_name or reading.last_name(node) in _BY_NAME
            found.update(
                str(getattr(sys.modules.get(name), "__file__", None)) for name in _imports(node, loaded.get(file))
            )
        if by_name and file in files:
            found.update(other for other in loaded if other.startswith(_home(file)))
        pending += (found & loaded.keys()) - known
        known |= found & loaded.keys()
    return known


def _home(file: str) -> str:
    """The folder of the outermost package a file is in, or its own folder, with a separator at the end."""
    folder = Path(file).parent
    while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return str(folder) + os.sep


def _imports(node: ast.AST, module: ModuleType | None) -> Iterator[str]:
    """The modules an import statement names, those included that an imported name may be."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            parts = alias.name.split(".")
            yield from (".".join(parts[: count + 1]) for count in range(len(parts)))
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = str(getattr(module, "__package__", None) or "").split(".")
            base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
