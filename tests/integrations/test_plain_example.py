"""`examples/plain` runs as its page says: its faults pass an ordinary test and are caught by a marked one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.integrations.plugin_runs import ROOT, counts, run_pytest

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "plain"


def test_marked_tests_catch_the_planted_faults(tmp_path: Path) -> None:
    done = run_pytest(EXAMPLE, "-q", "--runxfail", f"--gradkit-report={tmp_path / 'report.json'}")
    assert counts(done.stdout) == {"passed": 9, "failed": 2}, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    found = {
        (item["rule"], Path(item["location"]["file"]).name, item["location"]["line"]) for item in report["findings"]
    }
    lines = (EXAMPLE / "faulty.py").read_text().splitlines()
    steps = [number for number, line in enumerate(lines, 1) if "optimizer.step()" in line]
    assert found == {("GK101", "faulty.py", steps[0]), ("GK102", "faulty.py", steps[1])}
    failed = {test["test"].split("::")[1] for test in report["tests"] if test["outcome"] == "failed"}
    assert failed == {f"test_a_marked_test_does[clears_{name}]" for name in ("once_per_epoch", "every_micro_batch")}
    for line in re.findall(r"^error.*\n.*?-->.*$", (EXAMPLE / "README.md").read_text(), re.MULTILINE):
        assert line in done.stdout


def test_a_changed_learning_rate_leaves_the_golden_as_the_page_says(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = (folder / "loop.py").read_text()
    assert source.count("lr=0.1,") == 1
    (folder / "loop.py").write_text(source.replace("lr=0.1,", "lr=0.101,"))
    done = run_pytest(folder, "-q", "-k", "stays_what_it_was")
    assert counts(done.stdout)["failed"] == 1, done.stdout + done.stderr
    (said,) = re.findall(r"^  likeliest change: .*$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    assert said in done.stdout
