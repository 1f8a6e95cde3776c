"""Code typed into notebooks: shown by its cell, with its text; clearings of unrelated code are not named."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradkit.observe.program.sites import Site, shown_name
from gradkit.observe.source.clearings import missing
from gradkit.records import Location


@pytest.fixture
def clean_linecache() -> Iterator[None]:
    before = dict(linecache.cache)
    yield
    linecache.cache.clear()
    linecache.cache.update(before)


def test_a_cell_compiled_by_ipython_is_shown_by_its_number_with_its_text(
    monkeypatch: pytest.MonkeyPatch, clean_linecache: None
) -> None:
    compilerop = pytest.importorskip("IPython.core.compilerop")
    compiler = compilerop.CachingCompiler()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(compile=compiler)))
    name = compiler.cache("x = 1\ny = 2\n", number=7)
    place = Site(compile("x = 1\ny = 2\n", name, "exec"), 0).location()
    assert place is not None
    assert place.file == "<cell 7>"
    assert linecache.getline(place.file, 2) == "y = 2\n"
    assert shown_name(__file__) == __file__


def test_the_older_names_of_cells_are_understood(clean_linecache: None) -> None:
    name = "<ipython-input-12-0a1b2c3d4e5f>"
    linecache.cache[name] = (6, None, ["x = 1\n"], name)
    assert shown_name(name) == "<cell 12>"
    assert linecache.getline("<cell 12>", 1) == "x = 1\n"


def test_without_ipython_a_file_keeps_its_name() -> None:
    assert shown_name("<stdin>") == "<stdin>"
    assert shown_name("/somewhere/train.py") == "/somewhere/train.py"


SCRIPT = """\
first.zero_grad()
with watching():
    for epoch in range(3):
        optimizer.zero_grad()
        for batch in batches:
            loss.backward()
            optimizer.step()
other.zero_grad()
loss.backward()
optimizer.step()
"""


def _place(path: Path, line: int) -> Location:
    return Location(str(path), line, "<module>")


def test_in_a_flat_script_only_clearings_of_the_loop_around_the_step_are_named(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    assert [item.location.line for item in missing(_place(path, 6), _place(path, 7))] == [4]
    assert missing(_place(path, 9), _place(path, 10)) == []
