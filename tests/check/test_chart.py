"""The chart of a sweep opens offline, and no name or reason in it does harm."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest

from gradkit.check.command.chart import write_chart
from gradkit.errors import ConfigError
from tests.report.browser import load, needs_browser

CLOSING = "</script><script>document.title='x'</script>"


def row(scale, error, **values):
    first = {"target": "mlp", "dtype": "float32", "method": "manual", "verdict": "pass", "bound": 1e-7, "reason": ""}
    return {**first, "scale": scale, "max_rel": error, **values}


HOSTILE = [
    row(1.0, 1e-7, target=CLOSING),
    row(2.0, math.inf, target=CLOSING, verdict="fail", reason=f"<!--<script>{CLOSING}\ud800\\u0041"),
    row(1.0, 0.0, dtype="float16", method="<img src=http://127.0.0.1:9/x.png onerror=\"document.title='x'\">"),
    row(2.0, None, dtype="float16", verdict="skipped"),
]


class Scripts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.others = 0, set()

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.others |= {tag for name, _ in attrs if name.startswith("on")} | {tag for name, _ in attrs if name == "src"}


def test_a_name_that_closes_the_script_stays_a_name(tmp_path):
    write_chart(HOSTILE, tmp_path / "chart.html")
    parser = Scripts()
    parser.feed((tmp_path / "chart.html").read_text(encoding="utf-8"))
    # The specifications, the library and the code that draws; the library is text to a parser that stops at no string.
    assert (parser.scripts, parser.others) == (3, set())


@needs_browser
def test_the_page_draws_one_chart_per_dtype_offline(tmp_path):
    write_chart(HOSTILE, tmp_path / "chart.html")
    found = load(tmp_path / "chart.html")
    assert found.title == "Error of gradients against differences"
    assert found.charts == (2, 2)
    assert found.complaints == []
    assert found.requests == []


def test_a_picture_shows_every_dtype_and_marks_what_is_not_finite(tmp_path):
    write_chart(HOSTILE, tmp_path / "chart.svg")
    drawn = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "float16" in drawn
    assert "float32" in drawn
    assert CLOSING not in drawn
    write_chart(HOSTILE, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"chart: cannot write '.*gone.chart\.svg': No such file or directory\."):
        write_chart(HOSTILE, tmp_path / "gone" / "chart.svg")
