"""Tells when a module has been imported, and keeps gradkit's own late imports out of the script's folder."""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class ImportFinder:
    """Stands first in `sys.meta_path` and lets every other finder do the work."""

    def __init__(self) -> None:
        self._waiting: dict[str, Callable[[], None]] = {}

    def wait_for(self, name: str, arrived: Callable[[], None]) -> None:
        """Have a function called once a module has been executed, before its import statement ends.

        Args:
            name: The module; when it is there already the function is called at once.
            arrived: Called without arguments. It must not raise.
        """
        if name in sys.modules:
            arrived()
            return
        self._waiting[name] = arrived
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec the other finders give, its loader made to tell us; None for every module nobody waits for."""
        if name not in self._waiting:
            return None
        spec = None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                break
        if spec is not None and spec.loader is not None:
            _tell_after(spec.loader, lambda: self._done(name))
        return spec

    def _done(self, name: str) -> None:
        arrived = self._waiting.pop(name, None)
        if not self._waiting:
            self.remove()
        if arrived is not None:
            arrived()

    def remove(self) -> None:
        """Stop waiting."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)


def _tell_after(loader: Any, done: Callable[[], None]) -> None:
    """Have `done` called after the loader's next `exec_module`; the loader is then as it was."""
    execute = loader.exec_module

    def _call_with_frames_removed(module: ModuleType) -> None:
        # An attribute of this one loader, not of its class; `module.__loader__` stays the object it always is.
        loader.__dict__.pop("exec_module", None)
        execute(module)
        done()

    # A torch that cannot be imported shall fail with the traceback it always has: Python leaves out frames of its own
    # import system, and this function is one for as long as it lives.
    _call_with_frames_removed.__code__ = _call_with_frames_removed.__code__.replace(
        co_filename="<frozen importlib._bootstrap_external>"
    )
    loader.exec_module = _call_with_frames_removed


# --- names that the script's folder shares with the standard library ------------------------------------------------

# Modules of gradkit itself are found by the package's own path. The entry module has taken away what Python put first
# for `-m gradkit.run`; in a spawned process it is still there.
_OWN_PATH = [entry for entry in sys.path if entry]
_forgotten: dict[str, ModuleType] = {}


@contextlib.contextmanager
def own_path() -> Iterator[None]:
    """Import as if the script's folder were not on `sys.path`: its `random.py` is the script's, not gradkit's."""
    path, theirs = sys.path, {name: sys.modules.get(name) for name in _forgotten}
    sys.path = list(_OWN_PATH)
    sys.modules.update(_forgotten)
    try:
        yield
    finally:
        sys.path = path
        for name, module in theirs.items():
            if module is not None:
                sys.modules[name] = module
            else:
                sys.modules.pop(name, None)


# Imported by Python itself before any script begins, so that a file of that name never takes their place.
_ALWAYS_THERE = frozenset(
    ["abc", "codecs", "encodings", "genericpath", "importlib", "io", "ntpath", "os", "posixpath", "site", "stat"]
).union(["sitecustomize", "usercustomize", "zipimport", "__main__", "gradkit"], sys.builtin_module_names)


def forget_shadowed(folder: str) -> None:
    """Let the script find its own modules where it has some of the names that the runner imported before it began.

    Args:
        folder: What is first on `sys.path`.
    """
    try:
        own = {Path(name).stem for name in os.listdir(folder or ".")}  # noqa: PTH208  names only
    except OSError:
        return  # a zip file: it comes with its own names, and Python looks there first only for what is not loaded
    for name in [name for name in sys.modules if name.partition(".")[0] in own - _ALWAYS_THERE]:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or not os.path.realpath(file).startswith(os.path.realpath(folder or ".") + os.sep):
            _forgotten[name] = sys.modules.pop(name)
