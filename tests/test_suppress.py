"""Comments and baselines hide exactly the findings they name; fingerprints survive what does not matter."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from gradkit.errors import ConfigError
from gradkit.fingerprints import fingerprint, project_path
from gradkit.suppress import (
    BASELINE,
    INLINE,
    Suppressor,
    baseline_schema,
    ignored_by_comment,
    read_baseline,
    write_baseline,
)
from tests.report.in_sources import SOURCE, finding, project


@pytest.mark.parametrize(
    ("comment", "hidden"),
    [
        ("# gradkit: ignore[GK101]", True),
        ("#gradkit:ignore[GK101]", True),
        ("# gradkit: ignore[GK203, GK101]", True),
        ("# gradkit: ignore[GK1]", True),
        ("# gradkit: ignore", True),
        ("# because  # gradkit: ignore[GK101]  # noqa", True),
        ("# gradkit: ignore[GK102]", False),
        ("# gradkit: ignore[]", False),
        ("# gradkit: ignored", False),
        ("# ignore[GK101]", False),
        ("", False),
    ],
)
def test_a_comment_hides_the_rules_it_names(comment: str, hidden: bool, tmp_path: Path) -> None:
    path = project(tmp_path, f"a.step()\nb.step()  {comment}\nc.step()\n")
    assert ignored_by_comment(finding(path, line=2)) is hidden
    assert not ignored_by_comment(finding(path, line=1))
    assert not ignored_by_comment(finding(path, line=3))


def test_a_comment_counts_on_every_line_of_its_statement(tmp_path: Path) -> None:
    path = project(
        tmp_path, "step(\n    1,\n)  # gradkit: ignore[GK101]\nif x:  # gradkit: ignore[GK101]\n    step()\n"
    )
    assert ignored_by_comment(finding(path, line=1))
    assert ignored_by_comment(finding(path, line=2))
    assert not ignored_by_comment(finding(path, line=5)), "the comment of a condition is not that of its body"


def test_what_is_no_place_in_a_file_is_never_ignored(tmp_path: Path) -> None:
    assert not ignored_by_comment(finding(None))
    assert not ignored_by_comment(finding(tmp_path / "missing.py"))


UNCHANGED = {
    "lines above": ("import os\n\n" + SOURCE, 5 + 2),
    "a comment": (SOURCE.replace("optimizer.step()\n", "optimizer.step()  # why\n", 1), 5),
    "spaces": (SOURCE.replace("optimizer.step()\n", "optimizer.step( )\n", 1), 5),
    "lines around": (SOURCE.replace("        loss.backward()\n", ""), 4),
    "a deeper block": (
        SOURCE.replace("        optimizer.step()\n", "        if x:\n            optimizer.step()\n", 1),
        6,
    ),
}
CHANGED = {
    "another statement": (SOURCE.replace("optimizer.step()", "optimizer.step(1)"), 5),
    "the second of two equal ones": (SOURCE, 6),
    "another line": (SOURCE, 4),
}


@pytest.mark.parametrize("name", [*UNCHANGED, *CHANGED])
def test_a_fingerprint_follows_the_statement_and_not_the_line(name: str, tmp_path: Path) -> None:
    before = fingerprint(finding(project(tmp_path)))
    text, line = {**UNCHANGED, **CHANGED}[name]
    assert (fingerprint(finding(project(tmp_path, text), line=line)) == before) is (name in UNCHANGED)


def test_a_fingerprint_is_the_same_on_another_machine(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b" / "c"
    first.mkdir()
    second.mkdir(parents=True)
    one, other = finding(project(first)), finding(project(second), message="Step 7.", first_step=7, count=1)
    assert project_path(str(project(first))) == "src/train.py"
    assert fingerprint(one) == fingerprint(other)


def test_a_fingerprint_tells_rules_functions_and_files_apart(tmp_path: Path) -> None:
    path = project(tmp_path)
    base = finding(path)
    others = [
        finding(path, rule="GK103"),
        finding(path, location=base.location and type(base.location)(str(path), 5, "Trainer.train")),
        finding(project(tmp_path, name="other.py")),
        finding(None),
        finding(None, optimizer="Adam"),
        finding("<stdin>"),
    ]
    assert len({fingerprint(each) for each in (base, *others)}) == 1 + len(others)


def test_a_source_that_cannot_be_parsed_still_has_fingerprints(tmp_path: Path) -> None:
    path = project(tmp_path, "%matplotlib inline\noptimizer.step()\n")
    moved = project(tmp_path, "%matplotlib inline\n\n\noptimizer.step()\n", name="other.py")
    assert fingerprint(finding(path, line=2)) != fingerprint(finding(path, line=1))
    before = fingerprint(finding(moved, line=4))
    again = project(tmp_path, "%matplotlib inline\n%more\noptimizer.step()\n", name="other.py")
    assert fingerprint(finding(again, line=3)) == before


def test_a_baseline_hides_what_it_lists_and_nothing_new(tmp_path: Path) -> None:
    path, file = project(tmp_path), tmp_path / "known.json"
    known, new = finding(path), finding(path, line=6)
    write_baseline([known, finding(None, rule="GK901")], file)
    data = json.loads(file.read_text())
    jsonschema.Draft202012Validator(baseline_schema()).validate(data)
    assert [entry["rule"] for entry in data["findings"]] == ["GK101"]
    suppressor = Suppressor(str(file))
    assert suppressor.split([new, known]) == ([new], [known])
    assert suppressor.reason(known) == BASELINE
    moved = project(tmp_path, "\n\n" + SOURCE)
    assert suppressor.reason(finding(moved, line=7)) == BASELINE


def test_a_comment_is_named_before_a_baseline(tmp_path: Path) -> None:
    path = project(tmp_path, "step()  # gradkit: ignore[GK101]\n")
    write_baseline([finding(path, line=1)], tmp_path / "known.json")
    assert Suppressor(str(tmp_path / "known.json")).reason(finding(path, line=1)) == INLINE
    assert Suppressor().reason(finding(project(tmp_path))) is None


def test_a_baseline_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    path = project(tmp_path)
    findings = [finding(path), finding(path, line=6), finding(None)]
    write_baseline(findings, tmp_path / "a")
    write_baseline(findings[::-1], tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file"),
        ("{", "cannot be read: it is no JSON"),
        ("[]", "is no baseline of this gradkit"),
        ('{"schema_version": 1, "made_by": "gradkit/v0", "findings": []}', "Write it again with --write-baseline"),
        ('{"schema_version": 1, "made_by": "gradkit/v1", "findings": [1]}', "have no fingerprints"),
    ],
)
def test_what_is_no_baseline_is_refused(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_baseline(file)
