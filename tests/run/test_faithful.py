"""A script finds the same world under the runner as under `python`, and ends the same way."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.processes import ENVIRONMENT, NOTHING, python, unwatched_part, watched

SURROUNDINGS = r"""
import sys as _sys
_names = list(globals())
import builtins, gc, os, re, signal, threading, warnings, locale
import json, pickle

class Own:
    def __eq__(self, other):
        return type(self) is type(other)

def text(value):
    return re.sub(r"0x[0-9a-f]+|started \d+", "", repr(value))

main = _sys.modules["__main__"]
loader = main.__loader__
print(json.dumps({
    "globals at first": _names,
    "main": {name: text(getattr(main, name, "absent")) for name in (
        "__name__", "__doc__", "__file__", "__cached__", "__package__", "__spec__", "__loader__", "__annotations__")},
    "main is here": main.__dict__ is globals(),
    "builtins": __builtins__ is builtins,
    "argv": _sys.argv, "orig_argv": _sys.orig_argv, "path": _sys.path, "flags": text(_sys.flags),
    "code": [text.__code__.co_filename, _sys._getframe().f_code.co_name],
    "environment": dict(os.environ), "folder": os.getcwd(), "umask": os.umask(0o22), "locale": locale.setlocale(0),
    "threads": text(threading.enumerate()),
    "signals": {str(number): text(signal.getsignal(number)) for number in signal.valid_signals()},
    "hooks": [text(each) for each in (_sys.excepthook, _sys.displayhook, _sys.unraisablehook, threading.excepthook,
        _sys.breakpointhook, _sys.getprofile(), _sys.gettrace(), builtins.__import__, builtins.print)],
    # One finder waits for torch; the others are Python's.
    "finders": [text(each) for each in _sys.meta_path if type(each).__module__ != "gradkit.run.imports"],
    "path hooks": [text(each) for each in _sys.path_hooks],
    "limits": [_sys.getrecursionlimit(), _sys.getswitchinterval(), gc.get_threshold(), gc.isenabled()],
    "warnings": [text(warnings.filters), _sys.warnoptions, text(_sys._xoptions)],
    "streams": [text((each.name, each.encoding, each.errors, each.line_buffering, each.isatty(), each is original))
        for each, original in ((_sys.stdin, _sys.__stdin__), (_sys.stdout, _sys.__stdout__),
            (_sys.stderr, _sys.__stderr__))],
    "input": _sys.stdin.read(),
    "pickled": [pickle.loads(pickle.dumps(Own())) == Own(), pickle.dumps(Own()).hex()],
    "framework": sorted({"torch", "lightning", "hydra", "omegaconf", "rich", "numpy"} & set(_sys.modules)),
    "descriptors": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else [],
}, indent=1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "script.py").write_text(SURROUNDINGS)
    (folder / "link.py").symlink_to("elsewhere/real.py")
    (folder / "space" / "inner").mkdir(parents=True)
    (folder / "space" / "inner" / "module.py").write_text(SURROUNDINGS)
    for name in ("directory", "elsewhere", "package", "package/inner"):
        (folder / name).mkdir()
        (folder / name / "__main__.py").write_text(SURROUNDINGS)
    (folder / "elsewhere" / "real.py").write_text(SURROUNDINGS)
    (folder / "package" / "__init__.py").write_text("import sys\nprint(sys.argv, sys.modules['__main__'].__name__)\n")
    (folder / "package" / "inner" / "__init__.py").write_text("")
    (folder / "package" / "module.py").write_text(SURROUNDINGS)
    with zipfile.ZipFile(folder / "program.zip", "w") as archive:
        archive.writestr("__main__.py", SURROUNDINGS)
    return folder


PROGRAMS = {
    "file": ("script.py", "--report", "a b", "-m", ""),
    "file given with a dot": ("./elsewhere/../script.py",),
    "symbolic link": ("link.py", "1"),
    "module": ("-m", "script", "--deep", "-m"),
    "module of a package": ("-m", "package.module", "x"),
    "package": ("-m", "package", "x"),
    "package in a package": ("-m", "package.inner"),
    "package without an __init__.py": ("-m", "space.inner.module", "x"),
    "directory": ("directory", "--select", "GK1"),
    "zip file": ("program.zip", "x"),
}


@pytest.mark.parametrize("arguments", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_program_sees_the_same_surroundings(arguments: tuple[str, ...], folder: Path) -> None:
    bare = python(*arguments, cwd=folder, stdin="some input\n")
    seen = unwatched_part(watched(*arguments, cwd=folder, stdin="some input\n"))
    assert bare.status == 0, bare.stderr
    assert seen == bare


@pytest.mark.parametrize("arguments", [("script.py",), ("-m", "script"), ("directory",)], ids=["file", "module", "dir"])
def test_flags_of_the_interpreter_hold(arguments: tuple[str, ...], folder: Path) -> None:
    flags = ("-O", "-P", "-W", "error::UserWarning", "-X", "dev", "-B")
    if arguments[0] == "-m":
        flags = ("-OO", "-W", "ignore")
    assert unwatched_part(watched(*arguments, cwd=folder, flags=flags)) == python(*arguments, cwd=folder, flags=flags)


def test_an_absolute_path_and_options_of_the_runner_change_nothing(folder: Path) -> None:
    script = str(folder / "script.py")
    bare = python(script, "x", cwd=folder.parent)
    options = ("--select", "GK101", "--fail-on=error", "--deep")
    assert unwatched_part(watched(*options, script, "x", cwd=folder.parent)) == bare


def test_a_program_on_standard_input_is_run(folder: Path) -> None:
    text = "import sys; print(__file__, sys.argv, sys.path[0], __name__, __spec__); raise SystemExit(4)"
    bare = python("-", "x", cwd=folder, stdin=text)
    assert bare.status == 4
    assert unwatched_part(watched("-", "x", cwd=folder, stdin=text)) == bare


ENDINGS = {
    "exception": "def f():\n    return 1 / 0\nf()",
    "exception in a chain": "try:\n    1 / 0\nexcept Exception as error:\n    raise ValueError('x') from error",
    "syntax error": "x = = 1",
    "syntax error in an import": "import broken",
    "bad indentation": "if 1:\nx = 2",
    "exception of the script's own": "class Own(BaseException): pass\nraise Own(1)",
    "exit status": "import sys; sys.exit(3)",
    "exit with a text": "import sys; sys.exit('bye')",
    "exit with nothing": "import sys; sys.exit()",
    "exit with an object": "import sys; sys.exit([1, 2])",
    "immediate exit": "import os; print('x', flush=True); os._exit(5)",
    "interrupt": "raise KeyboardInterrupt",
    "SIGINT": "import os, signal, time\nprint('x', flush=True)\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)",
    "SIGINT that is handled": (
        "import os, signal, sys\nsignal.signal(signal.SIGINT, lambda *a: sys.exit(7))\n"
        "os.kill(os.getpid(), signal.SIGINT)\nfor i in range(10**7): pass"
    ),
    "SIGTERM": "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(9)",
    "SIGKILL": "import os, signal, time\nos.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(9)",
    "own hook": (
        "import sys, traceback\ndef hook(kind, value, trace):\n    print('hook')\n"
        "    traceback.print_exception(kind, value, trace)\n"
        "    print(sys.last_traceback is trace, sys.excepthook is hook)\n"
        "sys.excepthook = hook\ndef f(): raise RuntimeError('x')\nf()"
    ),
    "own hook that raises": (
        "import sys\ndef hook(*args): raise KeyError('hook')\nsys.excepthook = hook\nraise RuntimeError('x')"
    ),
    "own hook that exits": "import sys\ndef hook(*args): sys.exit(9)\nsys.excepthook = hook\nraise RuntimeError('x')",
    "atexit": "import atexit\natexit.register(print, 'last')\natexit.register(print, 'first')\nprint('x')",
    "atexit after a failure": "import atexit\natexit.register(print, 'last')\n1 / 0",
    "atexit that raises": "import atexit\natexit.register(lambda: 1 / 0)",
    "objects that say goodbye": "class A:\n    def __del__(self): print('gone', A)\na = A()",
    "thread": (
        "import threading, time\ndef f():\n    time.sleep(.1); print('t'); 1 / 0\nthreading.Thread(target=f).start()"
    ),
    "pool of threads": "from concurrent.futures import ThreadPoolExecutor as T\nT(2).submit(print, 'x')",
    "runpy": "import runpy\nrunpy.run_path('failing.py')",
    "warning": "import warnings\ndef f(): warnings.warn('w', stacklevel=2)\nf()\nwarnings.warn('v')",
    "missing module": "import torch_that_is_not_there",
    "torch that cannot be imported": "import sys\nsys.path.insert(0, 'fake')\nimport torch",
    "traceback printed by the script": (
        "import sys, traceback\nsys.path.insert(0, 'fake')\ntry:\n    import torch\n"
        "except ImportError:\n    traceback.print_exc(file=sys.stdout)"
    ),
    "recursion": "def f(): f()\ntry:\n    f()\nexcept RecursionError as error:\n    print(error)",
    "processes": (
        "import multiprocessing as mp\nclass A:\n    def __init__(self, x): self.x = x\ndef f(a): return A(a.x + 1)\n"
        "if __name__ == '__main__':\n    for how in ('spawn', 'fork', 'forkserver'):\n"
        "        with mp.get_context(how).Pool(2) as pool:\n"
        "            print(how, [a.x for a in pool.map(f, [A(1), A(2)])])"
    ),
    "process that fails": (
        "import multiprocessing as mp, os\ndef f(how):\n    print(sorted(os.environ), flush=True)\n"
        "    raise ValueError(how)\nif __name__ == '__main__':\n    for how in ('spawn', 'fork', 'forkserver'):\n"
        "        p = mp.get_context(how).Process(target=f, args=(how,)); p.start(); p.join()\n"
        "        print(p.exitcode, flush=True)"
    ),
    "fork": (
        "import os, atexit\natexit.register(print, 'bye', flush=True)\nchild = os.fork()\n"
        "if child: print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)\nelse: raise SystemExit(6)"
    ),
    "names of the standard library": "import argparse, json, settings\nprint(argparse.own, json.own, settings.own)",
}


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endings")
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "failing.py").write_text("def g():\n    raise OSError(1, 'x')\ng()\n")
    (folder / "fake" / "torch").mkdir(parents=True)
    (folder / "fake" / "torch" / "__init__.py").write_text("from torch import _C\n")
    (folder / "fake" / "torch" / "_C.py").write_text("raise ImportError('no such library')\n")
    return folder


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends_the_same_way(name: str, endings: Path) -> None:
    folder = endings
    if name == "names of the standard library":
        folder = endings / "shadows"
        folder.mkdir()
        for own in ("argparse", "json", "settings", "difflib", "tempfile", "pickle", "shutil"):
            (folder / f"{own}.py").write_text("print(__name__)\nown = 1\n")
    script = folder / f"{name.replace(' ', '_')}.py".replace("'", "")
    script.write_text(textwrap.dedent(ENDINGS[name]) + "\n")
    bare, seen = python(script.name, cwd=folder), watched(script.name, cwd=folder)
    assert unwatched_part(seen) == bare
    killed = ("SIGTERM", "SIGKILL", "immediate exit")
    assert seen.stderr.endswith(NOTHING) is (name not in killed)


def test_an_uncaught_exception_of_a_module_has_the_same_traceback(endings: Path) -> None:
    bare = python("-m", "failing", cwd=endings)
    assert "runpy" in bare.stderr
    assert unwatched_part(watched("-m", "failing", cwd=endings)) == bare


FAULTY = """\
import contextlib, gradkit, sys, torch
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with gradkit.watch() if len(sys.argv) > 1 else contextlib.nullcontext():
    for _ in range(4):
        model(torch.ones(8, 3)).sum().backward()
        optimizer.step()
open("went_on", "w").close()
sys.exit(3)
"""


@pytest.mark.parametrize(
    "arguments", [("-m", "gradkit.run", "script.py"), ("script.py", "watched")], ids=["run", "watch"]
)
@pytest.mark.parametrize("stream", ["left", "closed"])
def test_a_reader_of_the_findings_who_leaves_changes_nothing(
    arguments: tuple[str, ...], stream: str, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(FAULTY)
    reading, writing = os.pipe()
    os.close(reading)
    close = ["sh", "-c", 'exec "$@" 2>&-', "sh"] if stream == "closed" else []
    done = subprocess.run(
        [*close, sys.executable, *arguments], cwd=tmp_path, env=ENVIRONMENT, stderr=writing, stdout=subprocess.PIPE
    )
    os.close(writing)
    assert (done.returncode, done.stdout) == (3, b"")
    assert (tmp_path / "went_on").exists()
