"""Goldens of what users and tools read: help, error messages, reports and their schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradkit
from gradkit.check.__main__ import main as check_main
from gradkit.findings import Finding, Severity
from gradkit.records import Location, RunInfo
from gradkit.report.json_report import schema, to_json
from gradkit.report.report import Report
from gradkit.train.__main__ import main as train_main

Hold = Callable[[str, str], None]


def said(main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Status and text of a command line, run in this process."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.mark.parametrize(
    ("name", "main", "arguments"),
    [
        ("train", train_main, ["--help"]),
        ("train-mlp-adam", train_main, ["--help", "model=mlp", "optimizer=adam"]),
        ("check", check_main, ["--help"]),
    ],
)
def test_help(name: str, main: Any, arguments: list[str], capsys: pytest.CaptureFixture[str], hold_text: Hold) -> None:
    status, text = said(main, arguments, capsys)
    assert status == 0
    hold_text(text, f"help/{name}.txt")


MISTAKES: dict[str, list[list[str]]] = {
    "train": [
        ["trainer.epoch=3"],
        ["optimizer=adma"],
        ["optimizer.lr=-1"],
        ["optimizer.lr=fast"],
        ["trainer.shuffle=sometimes"],
        ["trainer.epochs=1", "trainer.epochs=2"],
        ["gradient=manual", "model=cnn_digits", "data=digits_odd"],
        ["data=csv"],
        ["data=csv", "data.path=none.csv", "data.target=y"],
        ["mode=evaluate"],
        ["model=custom", "model.target=os.system"],
        ["--halp"],
        ["watch.select=[GK1O1]"],
    ],
    "check": [
        ["target=sqare"],
        ["dtype=float23"],
        ["scale=0"],
        ["sclae=1"],
        ["target=os.system"],
        ["--halp"],
    ],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_error_messages(
    name: str,
    capsys: pytest.CaptureFixture[str],
    hold_text: Hold,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    main: Any = {"train": train_main, "check": check_main}[name]
    lines = []
    for arguments in MISTAKES[name]:
        status, text = said(main, arguments, capsys)
        assert status == 2, (arguments, text)
        assert text.count("\n") == 1, text
        text = re.sub(r"(The rules are GK101, ).*", r"\1...", text)  # the list grows with every rule
        lines.append(f"$ python -m gradkit.{name} {' '.join(arguments)}\n{text}")
    assert not [*tmp_path.iterdir()]
    hold_text("\n".join(lines).replace(str(tmp_path), "FOLDER"), f"errors/{name}.txt")


REPORT = Report(
    findings=(
        Finding(
            rule="GK101",
            name="stale-gradients",
            severity=Severity.ERROR,
            message="Step 1 of SGD consumed 2 of 2 gradient(s) that still held what an earlier step had consumed.",
            location=Location("/project/train.py", 14, "train", via="lightning"),
            first_step=1,
            last_step=11,
            count=11,
            optimizer="SGD",
            parameters=("bias", "weight"),
            cost="The update followed the sum of several windows.",
            remedy="Clear the gradients once per optimizer step.",
            evidence={"windows_mixed": 12, "cosine": float("nan"), "share": 0.5},
            labels=((Location("/project/train.py", 13, "train"), "new gradients were added to old ones here"),),
        ),
        Finding(rule="GK402", name="foreign-parameters", severity=Severity.WARNING, message="A model was re-created."),
        Finding(rule="GK901", name="observation-incomplete", severity=Severity.NOTE, message="A graph was captured."),
    ),
    info=RunInfo(steps=12, backwards=12, optimizers=1, parameters=2, overhead_seconds=0.001, reads=3, seconds=1.5),
    rules=(("GK101", "stale-gradients"), ("GK901", "observation-incomplete")),
    dropped=1,
)


def test_the_text_of_a_report(hold_text: Hold) -> None:
    hold_text(REPORT.text(), "reports/report.txt")
    hold_text(REPORT.text(notes=True), "reports/report-notes.txt")
    hold_text(Report(findings=(), info=REPORT.info, rules=REPORT.rules).text(), "reports/quiet.txt")


def test_the_json_of_a_report(hold_text: Hold) -> None:
    document = to_json(REPORT)
    document["environment"] = {"python": "3", "platform": "any"}
    document["gradkit"] = "0.0.0"
    assert gradkit.__version__
    hold_text(json.dumps(document, indent=2, allow_nan=False) + "\n", "reports/report.json")
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(document, schema())


def test_the_published_schema_changes_on_purpose_only(hold_text: Hold) -> None:
    hold_text(json.dumps(schema(), indent=2) + "\n", "reports/report.schema.json")


def test_a_session_of_tests_is_reported_in_the_same_form(hold_text: Hold) -> None:
    from gradkit.integrations._pytest_summary import lines, merge

    report = to_json(REPORT)
    records = [
        {"test": f"test_loop.py::test_{name}", "outcome": "failed", "failed_on": True, "report": report}
        for name in ("a", "b", "c", "d", "e")
    ]
    document = merge(records)
    document["environment"] = {"python": "3", "platform": "any"}
    document["gradkit"] = "0.0.0"
    hold_text(json.dumps(document, indent=2, allow_nan=False) + "\n", "reports/session.json")
    hold_text("\n".join(lines(records, always=True)) + "\n", "reports/session.txt")
