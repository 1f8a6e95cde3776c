"""Every page opens offline, draws its charts, logs nothing, asks for nothing, and no name in it does harm."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from gradkit.compare.comparison import compare
from gradkit.compare.pages import comparison_page, run_page
from gradkit.report.excerpts import excerpt
from gradkit.report.html import watch_page
from gradkit.runs.folders import load_runs
from tests.compare.folders import configured, finding, manifest, steps, write
from tests.report.browser import load, needs_browser

CLOSING = "</script><script>document.title='x'</script>"
HOSTILE = [
    CLOSING,
    "<!--<script>",
    "\"onmouseover=\"document.title='x'\" '&amp;{{7*7}}",
    "\u202egnitteg \u05d0\u05d1\u05d2 \u0627\u0644",
    "z\u0301" * 50 + "\x00\x1b[31m\ud800",
    "n" * 10_000,
    "<img src=http://127.0.0.1:9/x.png onerror=\"document.title='x'\">",
]


def windows(count):
    return [
        {
            "event": "window", "attempt": 1, "step": step, "optimizer": "SGD", "windows_mixed": step + 1,
            "fresh_norm_l2": 1 / (1 + step), "stale_norm_l2": float(step), "grad_norm_l2": 1.0 + step, "cosine": 0.5,
            "effective_learning_rate": 0.1 * (1 + step),
        }
        for step in range(count)
    ]  # fmt: skip


def one_run(base, content=None, events=None):
    events = steps(40) + windows(40) if events is None else events
    write(base / "run", content or manifest(findings=[finding()]), events)
    return load_runs([base / "run"])[0][0]


def saved(base, page):
    path = base / "page.html"
    path.write_bytes(page.encode("utf-8", "backslashreplace"))
    return path


class Elements(HTMLParser):
    """Addresses and handlers in a page, whatever a browser would make of them."""

    def __init__(self, page):
        super().__init__()
        self.outside, self.handlers, self.ids, self.links, self.images = [], [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "action", "data") and not (value or "").startswith(("#", "data:")):
                self.outside.append((tag, value))
            if name.startswith("on"):
                self.handlers.append((tag, name))
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"][1:]] if found.get("href", "").startswith("#") else []
        self.images += [found.get("aria-label")] if found.get("role") == "img" else []


def check_page(page):
    """What must hold of every page, without a browser."""
    elements = Elements(re.sub(r"<script>.*?</script>", "", page, flags=re.S))
    assert elements.outside == []
    assert elements.handlers == []
    assert len(set(elements.ids)) == len(elements.ids)
    assert set(elements.links) <= set(elements.ids)
    assert all(elements.images)
    for wanted in (
        '<html lang="en">',
        "viewport",
        "prefers-color-scheme:dark",
        "@media print",
        'class="skip"',
        "<main",
    ):
        assert wanted in page
    return elements


@needs_browser
def test_the_page_of_a_run_draws_its_charts_offline(tmp_path):
    page = run_page(one_run(tmp_path))
    elements = check_page(page)
    shown = load(saved(tmp_path, page))
    assert shown.charts[0] == shown.charts[1] == len(elements.images) >= 6
    assert shown.complaints == []
    assert shown.requests == []
    assert "GK101" in shown.dom


@needs_browser
def test_the_page_of_a_comparison_draws_its_charts_offline_on_a_phone(tmp_path):
    for fault in ("none", "unzeroed"):
        for seed in range(2):
            content = configured(seed, 0.1, fault__name=fault) | {"findings": [finding()] if fault != "none" else []}
            write(tmp_path / f"{fault}-{seed}", content, steps(300, seed))
    runs, skipped = load_runs([tmp_path])
    page = comparison_page(compare(runs, skipped=skipped))
    check_page(page)
    shown = load(saved(tmp_path, page), width=390)
    assert shown.charts[0] == shown.charts[1] >= 2
    assert (shown.complaints, shown.requests) == ([], [])
    assert "fault=unzeroed" in shown.dom


@needs_browser
def test_hostile_names_do_no_harm_in_any_page(tmp_path):
    for number, name in enumerate(HOSTILE):
        content = configured(number, 0.1, model__name=name) | {"name": name, "error": name}
        content["metrics"][name] = {"log_loss": 0.5, name: 1.0}
        content["environment"] = {name: name}
        content["findings"] = [
            finding()
            | {"message": name, "rule": name, "name": name, "parameters": [name], "evidence": {name: name}}
            | {
                "location": {"file": name, "line": 1, "function": name},
                "labels": [{"file": name, "line": 1, "note": name}],
            }
        ]
        events = [event | {name: 1.0 + event["step"]} for event in steps(5)]
        events += [{"event": name, "step": step, "value": step} for step in range(3)]
        folder = write(tmp_path / f"h{number}", json.dumps(content), [])
        (folder / "events.jsonl").write_bytes("".join(json.dumps(event) + "\n" for event in events).encode())
    runs, skipped = load_runs([tmp_path])
    assert len(runs) == len(HOSTILE)
    pages = [comparison_page(compare(runs, skipped=skipped, metrics=["*"])), *(run_page(run) for run in runs[::2])]
    for number, page in enumerate(pages):
        check_page(page)
        assert len(page) < 3_000_000
        (tmp_path / str(number)).mkdir()
        shown = load(saved(tmp_path / str(number), page))
        assert shown.title != "x"
        assert "49" not in shown.title
        assert shown.charts[0] == shown.charts[1] > 0
        assert (shown.complaints, shown.requests) == ([], [])


def test_a_page_without_charts_needs_no_script_and_escapes_everything(tmp_path):
    document = {
        "schema_version": 1,
        "run": {"steps": 1},
        "environment": {CLOSING: CLOSING},
        "rules": [],
        "suppressed": [],
    }
    page = watch_page(document | {"findings": [finding() | {"message": CLOSING}], "dropped": 2}, title=CLOSING)
    check_page(page)
    assert "<script" not in page
    assert "2 further findings" in page
    assert "&lt;/script&gt;" in page


def test_a_real_watch_report_becomes_a_page():
    from gradkit.findings import Finding, Severity
    from gradkit.records import Location, RunInfo
    from gradkit.report.json_report import to_json
    from gradkit.report.report import Report

    place = Location(file=__file__, line=1, function="main")
    found = Finding(
        rule="GK101", name="stale-gradients", severity=Severity.ERROR, message="Step 1 did.", location=place
    )
    page = watch_page(to_json(Report(findings=[found], info=RunInfo(), rules=[("GK101", "stale-gradients")])))
    check_page(page)
    assert "Every page opens offline" in page


def test_ten_thousand_parameters_and_a_million_steps_stay_under_three_megabytes(tmp_path):
    parameters = [f"encoder.layers.{number}.attention.weight" for number in range(10_000)]
    spike = 765_432
    with_spike = (
        f'{{"event":"step","attempt":1,"step":{step},"epoch":0,"loss":{1e6 if step == spike else 1 / (1 + step)},'
        f'"grad_norm_l2":{2.0 + step % 7}}}\n'
        for step in range(1_000_000)
    )
    folder = write(tmp_path / "run", manifest(findings=[finding() | {"parameters": parameters}]))
    with (folder / "events.jsonl").open("w") as file:
        file.writelines(with_spike)
    page = run_page(load_runs([folder])[0][0])
    assert len(page.encode()) < 3_000_000
    assert "9,960 more" in page
    specifications = json.loads(re.search(r'id="specifications">(.*?)</script>', page, re.S)[1])
    (rows,) = specifications["chart-0"]["datasets"].values()
    assert {"x": spike, "y": 1e6, "arm": "loss"} in rows
    assert (rows[0]["x"], rows[-1]["x"]) == (0, 999_999)


def test_source_is_shown_of_python_files_only(tmp_path):
    source = tmp_path / "train.py"
    source.write_text("one = 1\ntwo = 2\nthree = 3\n")
    assert excerpt({"file": str(source), "line": 2})[1] == (2, "two = 2", True)
    secret = tmp_path / "secret.txt"
    secret.write_text("password\n")
    disguised = tmp_path / "link.py"
    disguised.symlink_to(secret)
    for file in (str(secret), str(disguised), "/etc/passwd", str(tmp_path), "a\0.py", 3, None):
        assert excerpt({"file": file, "line": 1}) == []
    for line in (0, -1, 99, None, "1", True):
        assert excerpt({"file": str(source), "line": line}) == []


def test_without_the_report_packages_one_line_says_what_to_install(tmp_path):
    write(tmp_path / "run", manifest(), steps(3))
    for name in ("altair", "vl_convert"):
        (tmp_path / "blocked").mkdir(exist_ok=True)
        code = f"import sys; sys.path_hooks.clear; import importlib.util as u; real = u.find_spec\n" \
               f"u.find_spec = lambda n, *a: None if n == {name!r} else real(n, *a)\n" \
               "from gradkit.compare.__main__ import main; sys.exit(main(sys.argv[1:]))"  # fmt: skip
        arguments = [sys.executable, "-c", code, str(tmp_path / "run")]
        html = [*arguments, "--html", str(tmp_path / "x.html")]
        refused = subprocess.run(html, capture_output=True, text=True, timeout=60, check=False, env={**os.environ})
        assert refused.returncode == 2
        assert "pip install gradkit[report]" in refused.stderr
        assert refused.stderr.count("\n") == 1
    plain = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert plain.returncode == 0, plain.stderr


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"{", b"[1]", b'{"event": 3, "step": "x"}', b'{"event":"step","step":1e400}']
)
def test_damaged_events_leave_the_rest_of_the_page(tmp_path, line):
    run = one_run(tmp_path)
    events = run.folder / "events.jsonl"
    events.write_bytes(line + b"\n" + events.read_bytes() + line)
    assert "chart-0" in run_page(run)
