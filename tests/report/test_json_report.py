"""The report for tools: valid against its published schema whatever a program is called or computes."""

import json
import math
import subprocess
import sys

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

import gradkit
from gradkit.findings import Severity
from gradkit.records import Location, RunInfo
from gradkit.report.json_report import environment, from_json, schema, to_json, write_json
from gradkit.report.report import Report
from tests.report.findings import HOSTILE, finding, reports

VALIDATOR = jsonschema.Draft202012Validator(schema())
HERE = Location("train.py", 12, "train", "lightning")


def strict(document):
    """The document after a trip through JSON text that knows no NaN."""
    return json.loads(json.dumps(document, allow_nan=False))


def errors(document):
    return [error.message for error in VALIDATOR.iter_errors(document)]


def test_the_schema_is_itself_valid_and_refuses_what_it_does_not_know():
    jsonschema.Draft202012Validator.check_schema(schema())
    good = to_json(Report(findings=[finding()]))
    assert errors(good) == []
    assert errors({**good, "extra": 1})
    assert errors({**good, "schema_version": 2})
    assert errors({key: value for key, value in good.items() if key != "run"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("severity", "fatal"), ("rule", "GK1"), ("count", 0), ("message", ""), ("ranks", [-1]), ("fingerprint", "x"),
     ("name", "Stale Gradients"), ("location", {"file": "a.py", "line": 0, "function": "f"}), ("first_step", -1)],
)  # fmt: skip
def test_the_schema_refuses_a_finding_that_is_wrong(key, value):
    document = to_json(Report(findings=[finding()]))
    document["findings"][0][key] = value
    assert errors(document)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reports())
def test_every_report_is_strict_json_that_follows_the_schema_and_is_read_back_unchanged(report):
    document = strict(to_json(report))
    assert errors(document) == []
    again = strict(to_json(from_json(document)))
    assert {**again, "environment": None} == {**document, "environment": None}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_come_back_as_the_finding_has_them(tmp_path, text):
    place = Location("train.py", 3, text, text)
    bad = finding(
        message=text, parameters=(text,), modules=(text,), optimizer=text, location=place, evidence={text: text}
    )
    write_json(Report(findings=[bad]), tmp_path / "report.json")
    document = json.loads((tmp_path / "report.json").read_bytes())
    assert errors(document) == []
    read = from_json(document).findings[0]
    assert (read.message, read.parameters, read.modules, read.optimizer) == (
        bad.message,
        bad.parameters,
        bad.modules,
        bad.optimizer,
    )
    assert (read.location, read.evidence) == (bad.location, bad.evidence)


def test_numbers_that_json_lacks_become_words_at_every_depth():
    bad = finding(evidence={"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": (1.5, None)})
    entry = strict(to_json(Report(findings=[bad])))["findings"][0]
    assert entry["evidence"] == {"a": "NaN", "b": ["Infinity", {"c": "-Infinity"}], "d": [1.5, None]}


def test_a_finding_is_written_in_full():
    other = Location("train.py", 4, "train")
    whole = finding(
        location=HERE,
        labels=((other, "cleared here"),),
        count=3,
        last_step=9,
        parameters=("w",),
        ranks=(0, 2),
        cost="Time.",
    )
    (entry,) = to_json(Report(findings=[whole]))["findings"]
    assert len(entry.pop("fingerprint")) == 32
    assert entry == {
        "rule": "GK101",
        "name": "stale-gradients",
        "severity": "error",
        "message": "Step 1 of SGD consumed 1 of 2 gradient(s).",
        "cost": "Time.",
        "location": {"file": "train.py", "line": 12, "function": "train", "via": "lightning"},
        "labels": [{"file": "train.py", "line": 4, "function": "train", "via": None, "note": "cleared here"}],
        "first_step": 1,
        "last_step": 9,
        "count": 3,
        "parameters": ["w"],
        "modules": [],
        "optimizer": "SGD",
        "ranks": [0, 2],
        "evidence": {},
        "remedy": "Clear them.",
        "docs": "docs/rules/gk101.md",
    }


def test_a_run_without_findings_says_what_was_watched():
    info = RunInfo(steps=8, backwards=16, optimizers=1, parameters=4, reads=2, seconds=1.23456789, overhead_seconds=0.5)
    document = to_json(Report(findings=[], info=info, rules=[("GK101", "stale-gradients")]))
    assert errors(document) == []
    assert document["run"] == {
        "steps": 8,
        "backwards": 16,
        "optimizers": 1,
        "parameters": 4,
        "ranks": 1,
        "reads": 2,
        "seconds": 1.234568,
        "overhead_seconds": 0.5,
    }
    assert (document["findings"], document["suppressed"], document["dropped"]) == ([], [], 0)
    assert document["rules"] == [{"code": "GK101", "name": "stale-gradients"}]
    assert document["gradkit"] == gradkit.__version__


def test_notes_and_suppressed_findings_are_always_in_it():
    note, hidden = finding(severity=Severity.NOTE), finding(rule="GK102")
    document = to_json(Report(findings=[note], suppressed=[hidden], dropped=7))
    assert [entry["severity"] for entry in document["findings"]] == ["note"]
    assert [entry["rule"] for entry in document["suppressed"]] == ["GK102"]
    assert document["dropped"] == 7


def test_writing_replaces_the_old_file_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("x" * 100_000)
    write_json(Report(findings=[]), path)
    assert json.loads(path.read_text())["findings"] == []
    assert path.read_text().endswith("}\n")
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="none"):
        write_json(Report(findings=[]), tmp_path / "none" / "report.json")


def test_value_errors_tell_a_document_that_is_no_report():
    document = to_json(Report(findings=[finding()]))
    document["findings"][0]["severity"] = "fatal"
    with pytest.raises(ValueError, match="fatal"):
        from_json(document)
    with pytest.raises(KeyError, match="run"):
        from_json({})


def test_frameworks_are_named_only_when_the_program_loaded_them(monkeypatch):
    import types

    for name in ("torch", "lightning", "transformers", "accelerate"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert set(environment()) == {"python", "platform"}
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(__version__="9.9"))
    monkeypatch.setitem(sys.modules, "accelerate", types.SimpleNamespace())
    assert environment() == {
        "python": environment()["python"],
        "platform": environment()["platform"],
        "transformers": "9.9",
        "accelerate": "unknown",
    }


def test_making_a_report_loads_no_torch():
    program = (
        "import sys; from gradkit.report.json_report import to_json; from gradkit.report.report import Report;"
        "to_json(Report(findings=[])); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
