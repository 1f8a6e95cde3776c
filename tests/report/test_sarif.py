"""The SARIF file follows the published schema and says what code-scanning services and editors need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradkit.findings import Severity
from gradkit.fingerprints import VERSION, fingerprint
from gradkit.records import Location
from gradkit.report.sarif import to_sarif, write_sarif
from gradkit.rules import all_rules
from tests.report.in_sources import finding, project, report

# The normative schema of the OASIS Standard with its first errata, as published under the `$schema` address.
SCHEMA = json.loads(Path(__file__).with_name("sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft4Validator(SCHEMA)


def valid(document: dict[str, Any]) -> dict[str, Any]:
    VALIDATOR.validate(json.loads(json.dumps(document, allow_nan=False)))
    run: dict[str, Any] = document["runs"][0]
    return run


def test_every_field_stands_where_readers_look_for_it(tmp_path: Path) -> None:
    path = project(tmp_path)
    found = finding(path, labels=((Location(str(path), 4, "train"), "added here"),))
    run = valid(to_sarif(report(found), tmp_path))
    (result,) = run["results"]
    assert (result["ruleId"], result["level"], result["occurrenceCount"]) == ("GK101", "error", 3)
    assert result["message"]["text"] == f"{found.message} It cost. Mend it."
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "src/train.py", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 5, "snippet": {"text": "        optimizer.step()"}}
    assert result["locations"][0]["logicalLocations"] == [{"name": "train", "kind": "function"}]
    related = result["relatedLocations"][0]
    assert (related["message"]["text"], related["physicalLocation"]["region"]["startLine"]) == ("added here", 4)
    assert result["partialFingerprints"] == {VERSION: fingerprint(found)}
    assert result["properties"]["evidence"] == {"share": 0.5, "norm": "Infinity"}
    assert "suppressions" not in result
    root = run["originalUriBaseIds"]["%SRCROOT%"]["uri"]
    assert Path(unquote(urlparse(root).path)) == tmp_path
    assert root.endswith("/")


def test_rules_are_described_and_pointed_to(tmp_path: Path) -> None:
    other = finding(None, rule="GK202", name="graph-retained-across-steps", severity=Severity.WARNING)
    run = valid(to_sarif(report(finding(project(tmp_path)), other), tmp_path))
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        described = rules[result["ruleIndex"]]
        assert described["id"] == result["ruleId"]
        assert described["defaultConfiguration"]["level"] == all_rules()[result["ruleId"]].severity.value
        assert all_rules()[result["ruleId"]].page()["Remedy"] in described["help"]["text"]


def test_every_rule_can_be_described() -> None:
    everything = [finding(None, rule=code, name=rule.name) for code, rule in all_rules().items()]
    assert len(valid(to_sarif(report(*everything)))["tool"]["driver"]["rules"]) == len(everything)


def test_suppressed_findings_are_there_and_say_why(tmp_path: Path) -> None:
    path = project(tmp_path, "step()  # gradkit: ignore[GK101]\nstep()\n")
    suppressed = [finding(path, line=1), finding(path, line=2)]
    results = valid(to_sarif(report(suppressed=suppressed), tmp_path))["results"]
    assert [result["suppressions"][0]["kind"] for result in results] == ["inSource", "external"]


def test_a_file_outside_the_root_and_code_without_a_file_have_addresses_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    path = project(tmp_path, name="my script.py")
    outside, typed = valid(to_sarif(report(finding(path), finding("<stdin>")), tmp_path / "root"))["results"]
    uri = outside["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert Path(unquote(urlparse(uri).path)) == path
    assert typed["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "memory:stdin"}


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize(
    ("name", "uri"), [("\udcff.py", "%FF.py"), ("\ud800.py", "%5Cud800.py"), ("a\0b.py", "a%00b.py")]
)
def test_a_name_that_is_no_text_has_an_address_too(tmp_path: Path, name: str, uri: str, outside: bool) -> None:
    root = tmp_path / "root" if outside else tmp_path
    (result,) = valid(to_sarif(report(finding(tmp_path / name)), root))["results"]
    found = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert found == (f"{tmp_path.as_uri()}/{uri}" if outside else uri)


def test_a_report_without_findings_is_valid() -> None:
    assert valid(to_sarif(report()))["results"] == []


def test_the_file_is_the_same_twice(tmp_path: Path) -> None:
    written = report(finding(project(tmp_path)))
    for name in ("first", "second"):
        write_sarif(written, tmp_path / name, tmp_path)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    valid(json.loads((tmp_path / "first").read_text()))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40), severity=st.sampled_from(Severity), step=st.none() | st.integers(0, 9))
@pytest.mark.parametrize("file", ["a b%20#.py", "<ipython-input-3>", "ünï.py"])
def test_any_words_make_a_valid_file(text: str, severity: Severity, step: int | None, file: str) -> None:
    odd = finding(file, message=text or "x", optimizer=text, severity=severity, first_step=step, remedy=text)
    valid(to_sarif(report(odd, suppressed=(odd,))))
