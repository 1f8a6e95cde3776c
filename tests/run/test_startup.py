"""The runner costs a script little, loads no framework, and refuses mistakes before the script runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.processes import NOTHING, python, watched

FRAMEWORKS = {"lightning", "lightning_fabric", "pytorch_lightning", "hydra", "omegaconf", "transformers", "accelerate"}
TRAIN = """\
import torch
from torch import nn
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for i in range(4):
    optimizer.zero_grad()
    model(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
"""
STALE = TRAIN.replace("    optimizer.zero_grad()\n", "")


@pytest.mark.parametrize("options", [(), ("--report=out.json", "--sarif=out.sarif", "--deep")])
def test_a_script_without_torch_is_started_without_any_library(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import json, sys\nprint(json.dumps(sorted(sys.modules)))\n")
    bare, seen = python("script.py", cwd=tmp_path), watched(*options, "script.py", cwd=tmp_path)
    added = {name.partition(".")[0] for name in json.loads(seen.stdout)} - set(sys.stdlib_module_names)
    assert added - {name.partition(".")[0] for name in json.loads(bare.stdout)} == {"gradkit"}


def test_no_framework_is_loaded_for_a_whole_watched_run(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import atexit, json, sys\n" + STALE + "atexit.register(lambda: print(json.dumps(sorted(sys.modules))))\n"
    )
    ended = watched("--report=out.json", "--sarif=out.sarif", "--deep", "script.py", cwd=tmp_path)
    assert "error[GK101]" in ended.stderr
    assert not {name.partition(".")[0] for name in json.loads(ended.stdout)} & FRAMEWORKS


MISTAKES = {
    "no script": ((), "Name a script, a folder or -m module to run."),
    "no module": (("-m",), "Name a module after -m to run."),
    "missing script": (("scirpt.py",), "There is no file 'scirpt.py'. Did you mean 'script.py'?"),
    "missing module": (("-m", "scirpt"), "There is no module 'scirpt'. Did you mean 'script'?"),
    "missing inner module": (("-m", "package.modul"), "There is no module 'package.modul'. Did you mean 'module'?"),
    "module in a module": (("-m", "script.x"), "There is no module 'script.x': 'script' is no package."),
    "empty folder": (("package",), "The folder 'package' has no __main__.py to run."),
    "unknown option": (("--reprot", "x", "script.py"), "Unknown option '--reprot'. Did you mean '--report'?"),
    "option without a value": (("--report",), "Argument --report: expected one argument."),
    "wrong value": (("--fail-on", "eror", "script.py"), "--fail-on: expected never, error or warning, got 'eror'."),
    "wrong rule": (("--select", "GK1O1", "script.py"), "--select: Unknown rule 'GK1O1'. Did you mean 'GK101'?"),
    "wrong count": (("--accumulate=0", "script.py"), "--accumulate: expected a whole number"),
    "file in no folder": (("--report=no/x.json", "script.py"), "--report: expected a file in a folder that exists"),
    "missing baseline": (("--baseline=b.json", "script.py"), "baseline: there is no file"),
    "nothing to write to": (("--write-baseline", "script.py"), "--write-baseline: expected --baseline FILE with it"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_the_script_does_not_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('ran')\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("print('ran')\n")
    (tmp_path / "package" / "module.py").write_text("")
    arguments, said = MISTAKES[name]
    ended = watched(*arguments, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith("gradkit.run: ")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_mistake_in_pyproject_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.gradkit]\nfail_on = 'error'\n")
    (tmp_path / "script.py").write_text("print('ran')\n")
    ended = watched("script.py", cwd=tmp_path)
    assert (ended.status, ended.stdout) == (2, "")
    assert (
        f"{tmp_path / 'pyproject.toml'}, [tool.gradkit]: fail_on: unknown key. Did you mean 'fail-on'?" in ended.stderr
    )


def test_what_stops_gradkit_itself_from_starting_has_a_status_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('ran')\n")
    (tmp_path / "sitecustomize.py").write_text(
        "import gradkit.run.session as s\ndef begin(self): raise RuntimeError('broken')\ns.Session.begin = begin\n"
    )
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    ended = watched("script.py", cwd=tmp_path, PYTHONPATH=path)
    assert (ended.status, ended.stdout) == (3, "")
    assert ended.stderr.endswith("gradkit.run: could not start the script: broken\n")


def test_help_and_version_are_answered(tmp_path: Path) -> None:
    helped, version = watched("--help", cwd=tmp_path), watched("--version", cwd=tmp_path)
    assert (helped.status, version.status) == (0, 0)
    assert helped.stdout.startswith("usage: python -m gradkit.run")
    assert version.stdout.startswith("gradkit ")
    assert helped.stderr == version.stderr == ""


def test_a_script_without_torch_is_told_so_and_leaves_an_empty_report(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('ran')\n")
    ended = watched("--report=out.json", "script.py", cwd=tmp_path)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "ran\n", NOTHING)
    assert json.loads((tmp_path / "out.json").read_text())["run"]["steps"] == 0
