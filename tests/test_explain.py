"""Rules are explained in words, settings and programs that do what they say; the stored pages are fresh."""

from __future__ import annotations

import ast
import linecache
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gradkit
from gradkit.check import CheckFailedError
from gradkit.explain.__main__ import main
from gradkit.explain.example import programs, programs_of
from gradkit.explain.page import page, stored_page
from gradkit.rules import all_check_rules, all_declared

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "rules"
TESTS = ROOT / "tests"
CHECK_CODES = list(all_check_rules())
CODES = list(all_declared())
TRAINING_CODES = [code for code in CODES if not code.startswith("GK9") and code not in CHECK_CODES]


def comparable(text: str) -> list[object]:
    """Prose as it is; programs by their meaning, as Python's own printer of code differs between versions."""
    parts = re.split(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return [ast.dump(ast.parse(part)) if number % 2 else part for number, part in enumerate(parts)]


@pytest.mark.parametrize("code", CODES)
def test_the_stored_page_is_what_would_be_written_now(code: str) -> None:
    stored = PAGES / f"{code.lower()}.md"
    hint = "run `python -m gradkit.explain --write-docs`"
    assert stored.is_file(), hint
    now = page(all_declared()[code], programs_of(code, TESTS))
    assert comparable(stored.read_text(encoding="utf-8")) == comparable(now), hint


def test_no_page_is_left_of_a_rule_that_is_gone() -> None:
    assert {path.stem.upper() for path in PAGES.glob("*.md")} == set(CODES)


@pytest.fixture
def source() -> Iterator[None]:
    yield
    for name in [name for name in linecache.cache if name.startswith("<page ")]:
        del linecache.cache[name]


def findings(name: str, program: str) -> set[tuple[str, int]]:
    linecache.cache[name] = (len(program), None, program.splitlines(keepends=True), name)
    with gradkit.watch(report="never") as monitor:
        exec(compile(program, name, "exec"), {"__name__": "__main__"})
    return {(each.rule, each.location.line if each.location else 0) for each in monitor.findings}


@pytest.mark.parametrize("code", TRAINING_CODES)
@pytest.mark.filterwarnings("default")
def test_the_programs_of_a_page_do_what_it_says(code: str, source: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = stored_page(code)
    assert text is not None
    failing, corrected = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    marked = {number for number, line in enumerate(failing.splitlines(), 1) if line.endswith(f"# {code}")}
    assert marked, "the reported line is marked"
    assert findings(f"<page {code} failing>", failing) == {(code, line) for line in marked}
    assert findings(f"<page {code} corrected>", corrected) == set()


@pytest.mark.parametrize("code", CHECK_CODES)
def test_the_checks_of_a_page_fail_and_pass_as_it_says(code: str) -> None:
    text = stored_page(code)
    assert text is not None
    failing, corrected = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert failing.rstrip().endswith(f"result.assert_ok()  # {code}")
    values: dict[str, Any] = {"__name__": "__main__"}
    with pytest.raises(CheckFailedError):
        exec(failing, values)
    assert {finding.rule for finding in values["result"].findings} == {code}
    values = {"__name__": "__main__"}
    exec(corrected, values)
    assert values["result"].verdict == "pass"
    assert not values["result"].findings


def test_a_code_or_a_name_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gk101"]) == 0
    by_code = capsys.readouterr().out
    assert main(["stale-gradients"]) == 0
    assert capsys.readouterr().out == by_code == (PAGES / "gk101.md").read_text(encoding="utf-8")
    for word in ("## Quiet when", "## Remedy", "optimizer.step()  # GK101", "ignore[GK101]"):
        assert word in by_code


def test_without_a_code_every_rule_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in listed] == [
        [code, rule.severity.value, rule.name] for code, rule in all_declared().items()
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["GK1O1"], "'GK101'"), (["stale-gradient"], "'stale-gradients'"), (["--wirte-docs"], "'--write-docs'")],
)
def test_a_mistake_gets_one_line_with_the_nearest(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"Did you mean {named}?" in said.err
    assert said.err.count("\n") == 1


def test_a_switch_is_decided_and_its_call_replaced() -> None:
    text = '''
"""Doc."""
import os
import torch
UNUSED, USED = 1, 2
def helper(n):
    return n + USED
def train(clear, *, keep=None, **options):
    """Doc."""
    model = helper(1)
    if clear:
        model.zero()
    elif keep:
        model.keep()
    else:
        model.leave(**options)  # expect: GK101
    model.run(1 if clear and keep else 2, not clear, keep or model)
    return model
def main():
    return train(clear=False, retain=True)
def repaired():
    return train(True, keep=3)
'''
    failing, corrected = programs(text) or ("", "")
    shared = "UNUSED, USED = (1, 2)\n\n\ndef helper(n):\n    return n + USED\n\n\nmodel = helper(1)\n"
    assert failing == shared + "model.leave(retain=True)  # GK101\nmodel.run(2, True, model)"
    assert corrected == shared + "model.zero()\nmodel.run(1, False, 3)"


def test_a_function_that_returns_early_stays_a_function() -> None:
    text = "def main():\n    for i in x:\n        if i:\n            return i\n    return 0\ndef repaired():\n    f()\n"
    failing, corrected = programs(text) or ("", "")
    assert failing.endswith("return 0\nmain()")
    assert corrected == "f()"


def test_explaining_loads_no_torch() -> None:
    check = "import sys; from gradkit.explain.__main__ import main; main(['GK101']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
def test_the_wheel_has_every_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"gradkit/rules/pages/{code.lower()}.md" for code in CODES} <= names
    assert {f"gradkit/report/{name}.schema.json" for name in ("report", "baseline")} <= names
