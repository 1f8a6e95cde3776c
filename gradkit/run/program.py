"""Runs a script, module, folder or zip file as `__main__` the way `python` does; knows nothing of gradkit's purpose.

What `python` does in C for a file is done here in Python; modules, folders and zip files go through the very function
that `python -m` calls. What remains different: gradkit's frames lie below the script's on the stack (they are taken out
of tracebacks), `sys.modules` holds gradkit's modules, and `sys.meta_path` holds a finder until torch is imported.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import os
import pkgutil
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.run.imports import forget_shadowed

STDIN = "-"


@dataclass(frozen=True)
class Program:
    """What is to be run.

    Attributes:
        target: As the user wrote it.
        is_module: `target` is the name of a module.
        arguments: What follows the name in `sys.argv`.
        own: How many arguments of the process's command line come before `target` and belong to the runner.
    """

    target: str
    is_module: bool
    arguments: tuple[str, ...]
    own: int = 0

    def check(self) -> None:
        """Refuse what is not there, before anything of the process is changed.

        Raises:
            ConfigError: No such file, folder with `__main__.py`, or module.
        """
        if self.is_module:
            _check_module(self.target)
        elif self.target != STDIN:
            _check_file(Path(self.target))

    def run(self) -> None:
        """Become the program and run it; what it raises comes out unchanged, `SystemExit` included."""
        sys.argv = [self.target, *self.arguments]
        sys.orig_argv = [*self._interpreter(), *(["-m"] if self.is_module else []), self.target, *self.arguments]
        main = _fresh_main()
        if self.is_module:
            if not _has_safe_path():
                forget_shadowed(sys.path[0])
            sys.argv[0] = "-m"  # as packages imported on the way to the module see it; runpy sets the rest
            runpy._run_module_as_main(self.target, alter_argv=True)  # type: ignore[attr-defined]
        elif self.target == STDIN:
            self._first_path("")
            _describe(main, "<stdin>", importlib.machinery.BuiltinImporter)
            _execute(compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True), main)
        else:
            self._run_path(main)

    def _interpreter(self) -> list[str]:
        """Python and its flags: the process's arguments up to `-m gradkit.run` or the script `gradkit-run`."""
        head = sys.orig_argv[: max(1, len(sys.orig_argv) - len(self.arguments) - 1 - self.own)]
        return head[:-2] if head[-2:-1] == ["-m"] else head[:-1] or head

    def _run_path(self, main: ModuleType) -> None:
        path = os.path.join(os.getcwd(), self.target)  # noqa: PTH109, PTH118  `python` does not normalise it either
        if pkgutil.get_importer(path) is not None:  # a folder or a zip file
            # Even under -P: it is what was asked to be run.
            if _has_safe_path():
                sys.path.insert(0, path)
            else:
                sys.path[0] = path
                forget_shadowed(path)
            runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
            return
        self._first_path(str(Path(path).resolve().parent))
        code: CodeType | None
        if path.endswith(".pyc"):
            compiled = importlib.machinery.SourcelessFileLoader("__main__", path)
            code = compiled.get_code("__main__")
            assert code is not None
            _describe(main, path, compiled)
        else:
            _describe(main, path, importlib.machinery.SourceFileLoader("__main__", path))
            code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        _execute(code, main)

    @staticmethod
    def _first_path(folder: str) -> None:
        if not _has_safe_path():
            sys.path[0] = folder
            forget_shadowed(folder)


def _has_safe_path() -> bool:
    """Whether Python put nothing before the standard entries of `sys.path` (`-P`, `-I`)."""
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


def _fresh_main() -> ModuleType:
    main = ModuleType("__main__")
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    return main


def _describe(main: ModuleType, file: str, loader: Any) -> None:
    main.__file__ = file
    main.__cached__ = None  # type: ignore[attr-defined]
    main.__loader__ = loader


def _execute(code: CodeType, main: ModuleType) -> None:
    exec(code, main.__dict__)


def hide_frames(error: BaseException) -> None:
    """Make the uncaught `error` be shown as `python` shows it: without the frames of the runner.

    The interpreter itself still handles the exception, so that exit codes, signals and the script's own
    `sys.excepthook` are what they would have been.
    """
    hook = sys.excepthook

    def shown(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        sys.excepthook = hook
        if value is error:
            traceback = _without_runner(traceback)
            value.__traceback__ = sys.last_traceback = traceback
        try:
            hook(kind, value, traceback)
        except SystemExit:
            raise
        except BaseException as mistake:  # in the script's own hook: what Python says then, less this frame
            sys.stderr.write("Error in sys.excepthook:\n")
            mistake.__traceback__ = mistake.__traceback__ and mistake.__traceback__.tb_next
            sys.__excepthook__(type(mistake), mistake, mistake.__traceback__)
            sys.stderr.write("\nOriginal exception was:\n")
            sys.__excepthook__(kind, value, traceback)

    sys.excepthook = shown


def note_interrupt() -> None:
    """Let the process end as one that Ctrl-C killed, which shells and schedulers tell from a failure.

    CPython notes an unhandled interrupt and kills itself with the signal after everything else. The note is lost
    whenever a string is executed later (making a dataclass does), so the last thing gradkit does is to have it made
    again: by running a string that is interrupted.
    """
    import ctypes

    hook = sys.excepthook
    sys.excepthook = lambda *args: None
    try:
        ctypes.pythonapi.PyRun_SimpleString(b"raise KeyboardInterrupt")
    finally:
        sys.excepthook = hook


_FOLDER = str(Path(__file__).parent) + os.sep


def _without_runner(traceback: TracebackType | None) -> TracebackType | None:
    """What follows the first unbroken run of frames of this folder, which are the runner's own."""
    item = traceback
    while item is not None and not item.tb_frame.f_code.co_filename.startswith(_FOLDER):
        item = item.tb_next
    while item is not None and item.tb_frame.f_code.co_filename.startswith(_FOLDER):
        item = item.tb_next
    return item


def _check_file(path: Path) -> None:
    if not path.exists():
        try:
            near = did_you_mean(path.name, [each.name for each in path.absolute().parent.iterdir()])
        except OSError:
            near = ""
        raise ConfigError(f"There is no file {quoted(str(path))}.{near}")
    if path.is_dir() and not any((path / f"__main__{ending}").exists() for ending in (".py", ".pyc")):
        raise ConfigError(f"The folder {quoted(str(path))} has no __main__.py to run.")
    if path.is_file():
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise ConfigError(f"The file {quoted(str(path))} cannot be read: {error.strerror}.") from None


def _check_module(name: str) -> None:
    """Look for the module without importing any package on the way to it."""
    where: Sequence[str] | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        whole = ".".join(parts[:count])
        # By its last name alone: a namespace package looks its parent up among the imported modules.
        part, spec = parts[count - 1], None
        if part and where is not None:
            spec = importlib.machinery.PathFinder.find_spec(part, list(where))
        elif part:
            specs = (finder.find_spec(part, None) for finder in sys.meta_path)
            spec = next((found for found in specs if found is not None), None)
        if spec is None:
            known = [info.name for info in pkgutil.iter_modules(list(where) if where is not None else None)]
            near = did_you_mean(parts[count - 1], known)
            raise ConfigError(f"There is no module {quoted(whole)}.{near}")
        where = spec.submodule_search_locations
        if where is None and count < len(parts):
            raise ConfigError(f"There is no module {quoted(name)}: {quoted(whole)} is no package.")
