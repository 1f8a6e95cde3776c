"""Each option of the runner does what it says, and nothing to the script."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gradkit.report.json_report import schema
from tests.forks import Forks
from tests.processes import Ended

STALE = """\
import sys
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for i in range(4):
    model(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
print(f"{model.weight.sum().item():.6f}")
"""
TWICE = STALE.replace(
    "    optimizer.step()\n", "    optimizer.step()\n    optimizer.step()\n    optimizer.zero_grad()\n"
)
CLEAN = STALE.replace("    optimizer.step()\n", "    optimizer.step()\n    optimizer.zero_grad()\n")
WARNED = CLEAN.replace(".backward()", ".backward(retain_graph=True)").replace("range(4)", "range(24)")
TEACHER = STALE.replace("for i", "teacher = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 1))\nfor i").replace(
    "model(torch.randn(8, 3)).pow(2).mean().backward()",
    "optimizer.zero_grad(); x = torch.randn(8, 3); (model(x) - teacher(x)).pow(2).mean().backward()",
)

IN_A_THREAD = (
    f"import threading, sys\ndef f():\n  {STALE.replace(chr(10), chr(10) + '  ')}\nthreading.Thread(target=f).start()"
)


class Project:
    """A folder with a script, run under the runner."""

    def __init__(self, forks: Forks, folder: Path) -> None:
        self.forks, self.folder = forks, folder
        (folder / ".git").mkdir()

    def run(self, text: str, *options: str, arguments: tuple[str, ...] = ()) -> Ended:
        (self.folder / "train.py").write_text(text)
        return self.forks.run(*options, "train.py", *arguments, cwd=self.folder)

    def report(self, text: str, *options: str) -> dict[str, Any]:
        ended = self.run(text, *options, "--report", "out.json")
        assert ended.status in (0, 1), ended.stderr
        return self.read("out.json")

    def read(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / name).read_text())
        return loaded

    def found(self, text: str, *options: str) -> set[tuple[str, str, int]]:
        findings = self.report(text, *options)["findings"]
        return {(each["rule"], each["severity"], each["location"]["line"]) for each in findings}


@pytest.fixture
def project(forks: Forks, tmp_path: Path) -> Project:
    return Project(forks, tmp_path)


def test_the_report_is_json_of_its_schema_and_the_script_is_as_it_was(project: Project) -> None:
    ended = project.run(STALE, "--report", "out.json")
    bare = project.forks.run(cwd=project.folder, module="train")
    assert ended.stdout == bare.stdout != ""
    assert (ended.status, bare.status) == (0, 0)
    report = project.read("out.json")
    jsonschema.Draft202012Validator(schema()).validate(report)
    assert report["run"]["steps"] == 4
    (finding,) = report["findings"]
    assert (finding["rule"], finding["count"]) == ("GK101", 3)
    place = finding["location"]
    assert (place["file"], place["line"], place["function"]) == (str(project.folder / "train.py"), 9, "<module>")


def test_an_error_is_said_at_once_and_everything_at_the_end(project: Project) -> None:
    stop = "    if i == 2: sys.stderr.write('HERE\\n'); sys.stderr.flush()\n"
    ended = project.run(STALE.replace("    optimizer.step()\n", "    optimizer.step()\n" + stop))
    early, _, late = ended.stderr.partition("HERE\n")
    assert early.startswith("gradkit: error[GK101] train.py:9: Step 1 of SGD consumed")
    assert early.count("\n") == 1
    assert ">  9 |     optimizer.step()" in late
    assert "gradkit: 1 error. 4 optimizer steps and 4 backward calls watched" in late
    assert "gradkit.explain GK101" in late
    assert ended.status == 0


def test_a_clean_run_says_what_was_watched(project: Project) -> None:
    ended = project.run(CLEAN)
    assert ended.stderr.startswith("gradkit: no findings. 4 optimizer steps and 4 backward calls watched, 1 optimizer,")
    assert "rules active" in ended.stderr


def test_select_and_ignore_choose_the_rules(project: Project) -> None:
    assert project.found(STALE) == {("GK101", "error", 9)}
    assert project.found(STALE, "--select", "GK2,GK102") == set()
    assert project.found(STALE, "--select=GK1") == {("GK101", "error", 9)}
    assert project.found(STALE, "--ignore", "GK101") == set()
    assert project.found(TWICE, "--ignore", "GK2", "--ignore", "GK101") == {("GK103", "error", 10)}


@pytest.mark.parametrize(
    ("text", "fail_on", "status"),
    [
        (STALE, "error", 1),
        (STALE, "never", 0),
        (WARNED, "error", 0),
        (WARNED, "warning", 1),
        (STALE + "sys.exit(0)\n", "error", 1),
        (STALE + "sys.exit(5)\n", "error", 5),
        (STALE + "1 / 0\n", "error", 1),
        (IN_A_THREAD, "error", 1),
    ],
)
def test_fail_on_changes_the_exit_status_and_nothing_else(
    text: str, fail_on: str, status: int, project: Project
) -> None:
    failing = project.run(text, "--fail-on", fail_on)
    assert failing.status == status
    if status == 1 and "sys.exit(0)" in text:
        plain = project.run(text)
        assert (plain.status, failing.stdout, failing.stderr) == (0, plain.stdout, plain.stderr)


@pytest.mark.parametrize("what", ["error", "GK101", "warning", "GK2,error"])
def test_halt_on_raises_from_the_offending_step(what: str, project: Project) -> None:
    ended = project.run(STALE, "--halt-on", what)
    assert ended.status == 1
    assert ended.stdout == ""
    trace = ended.stderr.partition("Traceback")[2]
    assert f'File "{project.folder / "train.py"}", line 9, in <module>\n    optimizer.step()' in trace
    assert "gradkit.errors.HygieneError: GK101 stale-gradients: Step 1" in trace
    assert "gradkit/run/" not in trace
    assert "2 optimizer steps" in ended.stderr or "1 optimizer step and" in ended.stderr


def test_halt_on_lets_the_script_handle_it(project: Project) -> None:
    caught = STALE.replace(
        "    optimizer.step()", "    try: optimizer.step()\n    except gradkit.HygieneError: print('halted')"
    )
    ended = project.run("import gradkit\n" + caught, "--halt-on=error")
    assert ended.status == 0
    assert "halted" in ended.stdout
    assert project.run(WARNED, "--halt-on=error").status == 0


def test_accumulate_declares_an_intention(project: Project) -> None:
    lost = CLEAN.replace(
        "    optimizer.step()\n",
        "    if i % 2: optimizer.step()\n    else: optimizer.zero_grad(); continue\n",
    ).replace("range(4)", "range(8)")
    without, declared = project.report(lost), project.report(lost, "--accumulate", "2")
    assert [each["rule"] for each in without["findings"]] == []
    assert [each["rule"] for each in declared["findings"]] == ["GK102"]


def test_frozen_declares_parameters_that_are_meant_to_stay(project: Project) -> None:
    assert {rule for rule, _, _ in project.found(TEACHER)} == {"GK106"}
    assert project.found(TEACHER, "--frozen", "nothing,0.*", "--frozen=1.*") == set()


def test_deep_adds_measurements(project: Project) -> None:
    (plain,), (deep,) = project.report(STALE)["findings"], project.report(STALE, "--deep")["findings"]
    assert "cosine" not in plain["evidence"]
    assert -1.0 <= deep["evidence"]["cosine"] <= 1.0


def test_notes_are_shown_when_asked_for(project: Project) -> None:
    # A rule that crashes is a note; nothing but a broken rule gives one in a plain run.
    broken = CLEAN.replace(
        "import sys\n",
        "import sys\nfrom gradkit.rules.gk103_step_without_new_gradients import StepWithoutNewGradients as Rule\n"
        "Rule.check = lambda self, records: 1 / 0\n",
    ).replace("    optimizer.zero_grad()\n", "    optimizer.step()\n    optimizer.zero_grad()\n")
    hidden, shown = project.run(broken), project.run(broken, "--show", "notes")
    assert "1 note not shown" in hidden.stderr
    assert "note[GK900]" not in hidden.stderr
    assert "note[GK900]" in shown.stderr
    assert "ZeroDivisionError" in shown.stderr
    assert (hidden.status, hidden.stdout) == (shown.status, shown.stdout) == (0, hidden.stdout)


def test_github_gets_annotations_on_standard_error(project: Project) -> None:
    ended = project.run(
        STALE.replace("range(4)", "range(24)").replace(".backward()", ".backward(retain_graph=True)"), "--format=github"
    )
    commands = [line for line in ended.stderr.splitlines() if line.startswith("::")]
    assert [line.split("::")[1] for line in commands] == [
        "error file=train.py,line=9,title=GK101 stale-gradients",
        "warning file=train.py,line=8,title=GK207 needless-retained-graph",
    ]
    assert "::" not in ended.stdout


def test_sarif_is_written(project: Project) -> None:
    project.run(STALE, "--sarif", "out.sarif")
    (run,) = project.read("out.sarif")["runs"]
    (result,) = run["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("train.py", 9)


def test_html_is_written_as_a_page_with_the_source_around_a_finding(project: Project) -> None:
    project.run(STALE, "--report", "out.json")
    assert not list(project.folder.glob("*.html"))
    ended = project.run(STALE, "--html", "out.html")
    assert ended.status == 0
    page = (project.folder / "out.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "GK101" in page
    assert "optimizer.step()" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page), "opens offline"


def test_a_baseline_silences_what_was_known_wherever_it_has_moved(project: Project) -> None:
    accepted = project.run(STALE, "--baseline", "known.json", "--write-baseline", "--fail-on", "error")
    assert accepted.status == 0, "what is written down is accepted"
    assert "1 error" in accepted.stderr, "and still shown"
    moved = "# a new line\n" + STALE
    again = project.run(moved, "--baseline", "known.json", "--fail-on", "error", "--halt-on", "error")
    assert (again.status, again.stdout) == (0, accepted.stdout)
    assert "no findings" in again.stderr
    assert "1 finding suppressed" in again.stderr
    report = project.report(moved + "optimizer.step()\n", "--baseline", "known.json")
    assert [each["rule"] for each in report["suppressed"]] == ["GK101"]
    assert [(each["rule"], each["location"]["line"]) for each in report["findings"]] == [("GK103", 12)]


def test_a_comment_silences_its_line(project: Project) -> None:
    text = STALE.replace("optimizer.step()\n", "optimizer.step()  # gradkit: ignore[GK101]\n")
    ended = project.run(text, "--fail-on", "error", "--halt-on", "error")
    assert ended.status == 0
    assert "error[GK101]" not in ended.stderr
    assert "1 finding suppressed" in ended.stderr
    assert project.found(text.replace("GK101", "GK102")) == {("GK101", "error", 9)}


def test_pyproject_gives_the_options_and_its_paths_are_its_own(project: Project) -> None:
    (project.folder / "pyproject.toml").write_text(
        "[tool.gradkit]\nfail-on = 'error'\nreport = 'from_file.json'\n[tool.gradkit.rules.GK101]\nallow = ['bias']\n"
    )
    (project.folder / "inner").mkdir()
    (project.folder / "train.py").write_text(STALE)
    ended = project.forks.run("../train.py", cwd=project.folder / "inner")
    assert ended.status == 1
    assert project.read("from_file.json")["findings"][0]["parameters"] == ["weight"]
    assert project.forks.run("--fail-on=never", "../train.py", cwd=project.folder / "inner").status == 0


def test_a_report_that_cannot_be_written_is_told_and_harms_nothing(project: Project) -> None:
    (project.folder / "gone").mkdir()
    text = STALE + "import shutil; shutil.rmtree('gone')\n"
    ended = project.run(text, "--report", "gone/out.json", "--sarif", "gone/out.sarif")
    assert ended.status == 0
    for name in ("out.json", "out.sarif"):
        assert f"gradkit: cannot write {project.folder / 'gone' / name}: No such file or directory" in ended.stderr


def test_files_go_where_they_were_asked_for_when_the_script_changes_its_folder(project: Project) -> None:
    text = "import os\nos.mkdir('elsewhere'); os.chdir('elsewhere')\n" + STALE
    project.run(text, "--report", "out.json", "--sarif", "out.sarif")
    assert project.read("out.json")["run"]["steps"] == 4
    uri = project.read("out.sarif")["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert uri["uri"] == "train.py"


def test_the_same_run_gives_the_same_report_twice(project: Project) -> None:
    options = (
        "--report",
        "out.json",
        "--sarif",
        "out.sarif",
        "--show",
        "notes",
        "--baseline=b.json",
        "--write-baseline",
    )
    text = STALE.replace("range(4)", "range(24)").replace(".backward()", ".backward(retain_graph=True)")
    seen = []
    for _ in range(2):
        ended = project.run(text, *options)
        report = project.read("out.json")
        for name in ("seconds", "overhead_seconds"):
            assert report["run"].pop(name) >= 0
        files = [(project.folder / name).read_bytes() for name in ("out.sarif", "b.json")]
        seen.append((ended, report, files))
    assert seen[0] == seen[1]
    assert len(seen[0][1]["findings"]) == 2


def test_a_killed_script_leaves_its_report(project: Project) -> None:
    text = STALE.replace("print(", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)\nprint(")
    ended = project.run(text, "--report", "out.json")
    assert (ended.status, ended.stdout) == (-15, "")
    assert ended.stderr.startswith("gradkit: error[GK101] train.py:9")
    assert [each["rule"] for each in project.read("out.json")["findings"]] == ["GK101"]


def test_an_interrupted_script_reports_and_ends_by_the_signal(project: Project) -> None:
    # What starts the tests in the background may have them ignore interrupts, and their children with them.
    interrupt = "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT)"
    text = STALE.replace("print(", f"import os, signal; {interrupt}\nprint(")
    ended = project.run(text)
    assert "KeyboardInterrupt\n" in ended.stderr
    assert "1 error. 4 optimizer steps" in ended.stderr
    assert ended.status == -2
    assert "gradkit/run" not in ended.stderr
