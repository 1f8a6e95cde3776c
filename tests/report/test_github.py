"""Annotations are workflow commands that GitHub reads back as they were meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkit.findings import Severity
from gradkit.fingerprints import fingerprint
from gradkit.report.github import annotation, annotations
from tests.report.in_sources import finding, project, report


def read(command: str) -> tuple[str, dict[str, str], str]:
    """A command the way GitHub's runner reads it: split at `::`, properties at commas, then decoded."""
    assert command.startswith("::")
    assert "\n" not in command
    assert "\r" not in command
    head, _, message = command[2:].partition("::")
    kind, _, listed = head.partition(" ")

    def decoded(text: str) -> str:
        return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")

    properties = dict(each.split("=", 1) for each in listed.split(","))
    named = {name: decoded(value.replace("%3A", ":").replace("%2C", ",")) for name, value in properties.items()}
    return kind, named, decoded(message)


def test_an_annotation_stands_at_the_line_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(tmp_path)
    monkeypatch.chdir(tmp_path)
    kind, properties, message = read(annotation(finding(path)))
    assert kind == "error"
    assert properties == {"file": "src/train.py", "line": "5", "title": "GK101 stale-gradients"}
    assert message == "Step 1 consumed 50% stale gradients: 2, of 4. It cost. Mend it."


def test_a_file_elsewhere_keeps_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project(tmp_path)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert read(annotation(finding(path)))[1]["file"] == str(path)


@pytest.mark.parametrize(("severity", "kind"), [("error", "error"), ("warning", "warning"), ("note", "notice")])
def test_each_severity_has_its_command(severity: str, kind: str) -> None:
    assert read(annotation(finding(None, severity=Severity(severity))))[0] == kind


@given(message=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), file=st.text("a:,%\n é/=", min_size=1))
def test_no_words_break_out_of_a_command(message: str, file: str) -> None:
    found = finding("/x/" + file, message=message, cost="", remedy="")
    _, properties, said = read(annotation(found))
    assert said == found.message
    assert properties["file"].removeprefix("/x/") == file
    assert properties["title"] == "GK101 stale-gradients"


def test_notes_are_asked_for_and_nothing_is_said_twice(tmp_path: Path) -> None:
    path = project(tmp_path)
    error, note = finding(path), finding(path, line=6, severity=Severity.NOTE)
    assert [line[:8] for line in annotations(report(error, note))] == ["::error ", "gradkit:"]
    assert [line[:8] for line in annotations(report(error, note), notes=True)] == ["::error ", "::notice", "gradkit:"]
    assert [line[:8] for line in annotations(report(error), said={fingerprint(error)})] == ["gradkit:"]
