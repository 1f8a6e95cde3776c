"""Findings: order of severities, what makes two findings the same one, and how repeats are merged."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkit.findings import Finding, Severity
from gradkit.records import Location

HERE, THERE = Location("train.py", 12, "train"), Location("train.py", 13, "train")


def finding(**values):
    first = {"rule": "GK101", "name": "stale-gradients", "severity": Severity.ERROR, "message": "It happened."}
    return Finding(**{**first, **values})


@st.composite
def findings(draw):
    step = draw(st.none() | st.integers(0, 10**9))
    places = st.builds(Location, st.text(max_size=9), st.integers(1, 10**6), st.text(max_size=9))
    return finding(
        severity=draw(st.sampled_from(Severity)),
        first_step=step,
        last_step=step,
        count=draw(st.integers(1, 10**6)),
        evidence=draw(st.dictionaries(st.text(max_size=3), st.integers() | st.floats(allow_nan=False), max_size=3)),
        labels=draw(st.lists(st.tuples(places, st.text(max_size=9)), max_size=3).map(tuple)),
    )


def test_severities_are_ordered_note_warning_error():
    assert sorted([Severity.ERROR, Severity.NOTE, Severity.WARNING]) == [
        Severity.NOTE,
        Severity.WARNING,
        Severity.ERROR,
    ]
    assert [severity.rank for severity in Severity] == [0, 1, 2]
    assert Severity.NOTE < Severity.ERROR
    assert Severity.ERROR > Severity.WARNING
    assert not Severity.NOTE < Severity.NOTE
    assert Severity.NOTE <= Severity.NOTE
    assert not Severity.ERROR <= Severity.WARNING


def test_a_finding_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding().count = 2


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"message": "Other words.", "severity": Severity.NOTE, "first_step": 9, "evidence": {"a": 1}}, True),
        ({"location": Location("train.py", 12, "other", "lightning")}, True),
        ({"location": THERE}, False),
        ({"location": Location("other.py", 12, "train")}, False),
        ({"location": None}, False),
        ({"optimizer": "Adam"}, False),
        ({"rule": "GK102"}, False),
    ],
)
def test_rule_optimizer_file_and_line_make_two_findings_the_same(values, same):
    first = finding(location=HERE, optimizer="SGD")
    assert (first.key == finding(**{"location": HERE, "optimizer": "SGD", **values}).key) is same


def test_a_repeat_adds_to_the_count_and_moves_the_last_step():
    merged = finding(first_step=3, last_step=3).merged(finding(first_step=8, last_step=8))
    assert (merged.first_step, merged.last_step, merged.count) == (3, 8, 2)


def test_a_repeat_that_belongs_to_no_step_keeps_the_last_one():
    assert finding(first_step=3, last_step=3).merged(finding()).last_step == 3


@pytest.mark.parametrize("first", Severity)
@pytest.mark.parametrize("second", Severity)
def test_the_worse_severity_is_kept(first, second):
    worse = Severity.ERROR if Severity.ERROR in (first, second) else max(first, second)
    assert finding(severity=first).merged(finding(severity=second)).severity is worse


def test_the_words_stay_the_first_ones_and_the_numbers_become_the_last_ones():
    first = finding(message="First.", cost="cost", parameters=("a",), evidence={"kept": 1, "grown": 1})
    merged = first.merged(finding(message="Second.", cost="other", parameters=("b",), evidence={"grown": 2, "new": 3}))
    assert (merged.message, merged.cost, merged.parameters) == ("First.", "cost", ("a",))
    assert merged.evidence == {"kept": 1, "grown": 2, "new": 3}
    assert first.evidence == {"kept": 1, "grown": 1}


@pytest.mark.parametrize(("first", "second", "kept"), [(0, 1, 2), (1, 1, 2), (2, 1, 1)])
def test_later_labels_replace_earlier_ones_unless_fewer(first, second, kept):
    old, new = ((HERE, "old"),) * first, ((THERE, "new"),) * second
    merged = finding(labels=old).merged(finding(labels=new))
    assert merged.labels == (old if kept == 1 else new)


@given(findings(), findings(), findings())
def test_merging_loses_no_occurrence_no_severity_and_no_evidence_in_any_grouping(a, b, c):
    left, right = a.merged(b).merged(c), a.merged(b.merged(c))
    assert left == right
    assert left.count == a.count + b.count + c.count
    assert left.severity.rank == max(each.severity.rank for each in (a, b, c))
    assert set(left.evidence) == {*a.evidence, *b.evidence, *c.evidence}
    assert left.key == a.key
    assert left.first_step == a.first_step


EVIL = "SGD\x1b]0;owned\x07\x1b[31m\n::error file=a.py::injected\u202e\ud800"


def test_names_are_made_safe_before_a_finding_leaves_by_any_way():
    place = Location("a.py", 3, EVIL)
    found = Finding(
        rule="GK101",
        name="stale-gradients",
        severity=Severity.ERROR,
        message=f"Step 1 of {EVIL} went wrong.",
        optimizer=EVIL,
        parameters=(EVIL,),
        modules=(EVIL,),
        location=place,
        evidence={"model": EVIL, "traceback": "first\n  second\x1b", "names": [EVIL, 3], EVIL: 1.5},
    )
    texts = [found.message, found.optimizer, *found.parameters, *found.modules, found.location.function]
    texts += [found.evidence["model"].replace("\n", ""), found.evidence["names"][0].replace("\n", "")]
    assert all(text.replace("\ufffd", "").isprintable() for text in texts)
    assert found.evidence["traceback"] == "first\n  second\u241b"
    assert found.evidence["names"][1] == 3


def test_plain_names_of_any_script_stay_as_they_are():
    found = Finding(rule="GK101", name="n", severity=Severity.NOTE, message="Größe 数 é", parameters=("слой.вес",))
    assert (found.message, found.parameters) == ("Größe 数 é", ("слой.вес",))
