"""The engine: selection of rules, what a rule is handed, merging, limits, and rules that raise. No torch."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkit import engine as engine_module
from gradkit.engine import Engine, select_rules
from gradkit.errors import ConfigError
from gradkit.findings import Finding, Severity
from gradkit.records import Gap, Location, ModeStep, Window
from gradkit.rules import Rule, all_rules
from gradkit.rules.gk900_rule_crashed import RuleCrashed
from gradkit.rules.gk901_observation_incomplete import ObservationIncomplete

ALL = list(all_rules())
ALWAYS = ["GK900", "GK901"]


@dataclass(frozen=True, kw_only=True)
class EveryStep(Rule[Window], code="GK997", severity=Severity.ERROR, since="0.1"):
    """Reports every window, at the line and with the severity that the window's fields stand for."""

    def check(self, records: Sequence[Window]) -> Iterator[Finding]:
        now = records[-1]
        severity = (Severity.NOTE, Severity.WARNING, Severity.ERROR)[min(now.backwards, 2)]
        yield self.finding(
            message=f"Step {now.step}.",
            severity=severity,
            step=now.step,
            where=now.step_line,
            optimizer=now.optimizer,
            remedy="None.",
            evidence={"step": now.step},
        )


@dataclass(frozen=True, kw_only=True)
class LastThree(Rule[Window], code="GK998", severity=Severity.NOTE, since="0.1", lookback=2):
    """Writes down the steps of the records it was handed."""

    def check(self, records: Sequence[Window]) -> Iterator[Finding]:
        steps = [record.step for record in records]
        yield self.finding(message=f"Saw {steps}.", optimizer=records[-1].optimizer, remedy="", evidence={"saw": steps})


@dataclass(frozen=True, kw_only=True)
class Raising(Rule[Window], code="GK999", severity=Severity.ERROR, since="0.1"):
    """Yields one finding and then fails."""

    def check(self, records: Sequence[Window]) -> Iterator[Finding]:
        yield self.finding(message="Before.", step=records[-1].step, remedy="")
        raise ZeroDivisionError(f"step {records[-1].step}")


def window(step=0, *, line=None, **values):
    place = Location("train.py", line, "train") if line else None
    return Window(**{"optimizer": "SGD", "step": step, "step_line": place, "backwards": 2, **values})


def codes(rules):
    return [rule.code for rule in rules]


def summary(engine):
    return [(finding.rule, finding.severity.value, finding.count) for finding in engine.findings()]


# Selection


def test_everything_is_selected_when_nothing_is_said():
    assert codes(select_rules()) == ALL
    assert all(rule == type(rule)() for rule in select_rules())


@pytest.mark.parametrize(
    ("select", "ignore", "expected"),
    [
        (["GK101"], [], ["GK101", *ALWAYS]),
        (["GK10"], [code for code in ALL if code[:4] == "GK10" and code > "GK102"], ["GK101", "GK102", *ALWAYS]),
        (["GK102", "GK101", "GK101"], [], ["GK101", "GK102", *ALWAYS]),
        ([], [], ALWAYS),
        (["GK101"], ["GK9"], ["GK101"]),
        (["GK101"], ["GK900"], ["GK101", "GK901"]),
        (["GK101"], ["GK101"], ALWAYS),
        (["GK900"], [], ALWAYS),
        (None, ["GK"], []),
        (["G"], sorted({code[:3] for code in ALL} - {"GK9"}), ALWAYS),
    ],
)
def test_codes_and_prefixes_select_in_order_of_the_codes(select, ignore, expected):
    assert codes(select_rules(select, ignore)) == expected


def test_settings_reach_the_rule_they_name_and_no_other():
    rules = {rule.code: rule for rule in select_rules(settings={"GK204": {"steps": 7}, "GK101": {}})}
    assert rules["GK204"].steps == 7
    assert rules["GK101"] == type(rules["GK101"])()


def test_settings_of_a_rule_that_is_not_selected_are_checked_and_unused():
    assert codes(select_rules(["GK101"], settings={"GK204": {"steps": 7}})) == ["GK101", *ALWAYS]
    with pytest.raises(ConfigError):
        select_rules(["GK101"], settings={"GK204": {"stepz": 7}})


LISTED = f"The rules are {', '.join(ALL)}."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"select": ["GK1O1"]}, f"Unknown rule 'GK1O1' in select. Did you mean 'GK101'? {LISTED}"),
        ({"select": ["GK101", "GK301x"]}, f"Unknown rule 'GK301x' in select. Did you mean 'GK101'? {LISTED}"),
        ({"ignore": ["stale"]}, f"Unknown rule 'stale' in ignore. {LISTED}"),
        ({"select": [""]}, f"Unknown rule '' in select. {LISTED}"),
        ({"ignore": [""]}, f"Unknown rule '' in ignore. {LISTED}"),
        ({"select": ["GK101 "]}, f"Unknown rule 'GK101 ' in select. Did you mean 'GK101'? {LISTED}"),
        ({"select": ["gk101"]}, None),
        ({"settings": {"GK20": {}}}, None),
        (
            {"settings": {"GK204": {"stpes": 3}}},
            "GK204 has no setting 'stpes'. Did you mean 'steps'? It has ['steps'].",
        ),
        ({"settings": {"GK900": {"steps": 3}}}, "GK900 has no setting 'steps'. It has none."),
    ],
)
def test_a_rule_or_setting_that_does_not_exist_is_refused_in_one_line(arguments, message):
    with pytest.raises(ConfigError) as caught:
        select_rules(**arguments)
    said = str(caught.value)
    assert "\n" not in said
    if message is None:
        assert said.startswith("Unknown rule ")
    elif "Did you mean" in message and "GK301x" in message:
        assert re.fullmatch(re.escape(message).replace("GK101'\\?", "GK\\d+'\\?"), said)
    else:
        assert said == message


@given(st.lists(st.sampled_from([*ALL, "GK1", "GK2", "GK40", "G"])), st.lists(st.sampled_from([*ALL, "GK2", "GK9"])))
def test_a_rule_is_on_when_selected_and_not_ignored(select, ignore):
    chosen = codes(select_rules(select, ignore))
    for code in ALL:
        asked = code in ALWAYS or any(code.startswith(prefix) for prefix in select)
        assert (code in chosen) == (asked and not any(code.startswith(prefix) for prefix in ignore))
    assert chosen == sorted(chosen)


# What a rule is handed


def test_a_record_nobody_asked_for_costs_nothing_and_says_nothing():
    engine = Engine([EveryStep()])
    assert engine.kinds == {Window}
    assert engine.wants(Window)
    assert not engine.wants(ModeStep)
    assert engine.put(ModeStep(optimizer="SGD", step=9, count=9, model="Net")) == []
    assert Engine([]).put(window()) == []
    assert Engine([]).findings() == ()


def test_a_rule_without_lookback_is_handed_the_present_record_alone():
    engine = Engine([EveryStep(), LastThree()])
    for step in range(4):
        found = engine.put(window(step))
    assert [finding.evidence for finding in found] == [{"step": 3}, {"saw": [1, 2, 3]}]


def test_lookback_counts_records_of_the_same_source_only():
    engine = Engine([LastThree()])
    saw = [
        engine.put(window(step, optimizer=source), source)[0].evidence["saw"]
        for step, source in enumerate(["a", "a", "b", "a", "b", "a"])
    ]
    assert saw == [[0], [0, 1], [2], [0, 1, 3], [2, 4], [1, 3, 5]]


@given(st.lists(st.integers(0, 3), max_size=40))
def test_lookback_hands_over_the_last_records_of_a_source_in_any_mixture(sources):
    engine = Engine([LastThree()])
    seen = {}
    for step, source in enumerate(sources):
        seen.setdefault(source, []).append(step)
        (finding,) = engine.put(window(step, optimizer=str(source)), source)
        assert finding.evidence["saw"] == seen[source][-3:]


def test_past_records_of_ever_new_sources_are_bounded(monkeypatch):
    monkeypatch.setattr(engine_module, "MAX_SOURCES", 2)
    engine = Engine([LastThree()])
    for step, source in enumerate(["a", "b", "c", "c", "b", "a"]):
        (finding,) = engine.put(window(step, optimizer=source), source)
    assert len(engine._past) == 2
    assert finding.evidence["saw"] == [5]  # the first source was forgotten, not confused with another


def test_every_window_is_wanted_when_one_rule_says_so():
    @dataclass(frozen=True, kw_only=True)
    class Eager(EveryStep, code="GK996", severity=Severity.NOTE, since="0.1", every_window=True):
        """Wants all of them."""

        __orig_bases__ = (Rule[Window],)

    assert not Engine([EveryStep(), LastThree()]).needs_every_window
    assert Engine([EveryStep(), Eager()]).needs_every_window


# Merging, limits, order


def test_repeats_at_one_line_become_one_finding():
    engine = Engine([EveryStep()])
    for step in (3, 4, 9):
        engine.put(window(step, line=12))
    (finding,) = engine.findings()
    assert (finding.count, finding.first_step, finding.last_step) == (3, 3, 9)
    assert finding.evidence == {"step": 9}
    assert engine.count == 1


def test_lines_and_optimizers_are_told_apart():
    engine = Engine([EveryStep()])
    for line, optimizer in [(12, "SGD"), (13, "SGD"), (12, "Adam"), (None, "SGD"), (12, "SGD")]:
        engine.put(window(line=line, optimizer=optimizer))
    assert [finding.count for finding in engine.findings()] == [2, 1, 1, 1]


def test_optimizers_of_one_class_at_one_line_are_one_finding_and_told_once():
    told = []
    engine = Engine([EveryStep()], on_finding=told.append)
    for step, optimizer in [(2, "SGD"), (5, "SGD#2"), (7, "SGD#2"), (1, "SGD#3"), (1, "Adam")]:
        engine.put(window(step, line=12, optimizer=optimizer, backwards=1 if optimizer == "SGD" else 2))
    merged, other = engine.findings()
    assert (merged.optimizer, merged.count, merged.first_step, merged.last_step) == ("SGD", 4, 2, 7)
    assert merged.severity is Severity.ERROR
    assert merged.evidence["optimizers"] == 3
    assert other.optimizer == "Adam"
    assert "optimizers" not in other.evidence
    assert [finding.optimizer for finding in told] == ["SGD", "Adam"]
    assert engine.count == 4


def test_optimizers_whose_line_is_unknown_are_told_apart():
    engine = Engine([EveryStep()])
    for optimizer in ("SGD", "SGD#2"):
        engine.put(window(line=None, optimizer=optimizer))
    assert len(engine.findings()) == 2


def test_a_merged_finding_takes_the_worst_severity_and_is_listed_there():
    engine = Engine([EveryStep()])
    engine.put(window(0, line=1, backwards=1))
    engine.put(window(1, line=2, backwards=0))
    engine.put(window(2, line=2, backwards=2))
    assert [(f.location.line, f.severity) for f in engine.findings()] == [(2, Severity.ERROR), (1, Severity.WARNING)]


def test_findings_are_told_once_when_new_and_never_again():
    told = []
    engine = Engine([EveryStep()], on_finding=told.append)
    given_back = [engine.put(window(step, line=12)) for step in range(3)]
    assert [(finding.first_step, finding.count) for finding in told] == [(0, 1)]
    assert [finding.count for (finding,) in given_back] == [1, 2, 3]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), max_size=40))
def test_worst_first_then_in_the_order_seen(steps):
    engine = Engine([EveryStep()])
    worst, counts = {}, {}
    for number, (line, rank) in enumerate(steps):
        engine.put(window(number, line=line, backwards=rank))
        worst[line] = max(worst.get(line, 0), rank)
        counts[line] = counts.get(line, 0) + 1
    found = [finding.location.line for finding in engine.findings()]
    assert found == sorted(worst, key=lambda line: -worst[line])  # sorted() is stable and dicts keep their order
    assert {finding.location.line: finding.count for finding in engine.findings()} == counts


def test_findings_beyond_the_limit_are_counted_and_known_ones_still_grow(monkeypatch):
    monkeypatch.setattr(engine_module, "MAX_FINDINGS", 3)
    told = []
    engine = Engine([EveryStep()], on_finding=told.append)
    for line in (1, 2, 3):
        engine.put(window(line=line))
    assert engine.dropped == 0
    for line in (4, 5, 4, 1):
        assert len(engine.put(window(line=line))) == 1
    assert engine.dropped == 3
    assert [(finding.location.line, finding.count) for finding in engine.findings()] == [(1, 2), (2, 1), (3, 1)]
    assert len(told) == 3


def test_the_limit_is_a_thousand():
    engine = Engine([EveryStep()])
    for line in range(1, 1005):
        engine.put(window(line=line))
    assert (engine.count, engine.dropped) == (1000, 4)


def test_evidence_that_arrives_late_takes_the_place_of_the_finding_it_belongs_to():
    engine = Engine([EveryStep()])
    engine.put(window(0, line=1))
    engine.put(window(0, line=2))
    first = engine.findings()[0]
    engine.enrich(dataclasses.replace(first, evidence={"late": True}))
    engine.enrich(dataclasses.replace(first, optimizer="unknown"))
    assert [finding.evidence for finding in engine.findings()] == [{"late": True}, {"step": 0}]


# Precedence


@dataclass(frozen=True, kw_only=True)
class Cause(Rule[Gap], code="GK995", severity=Severity.ERROR, since="0.1"):
    """A rule that takes precedence over `EveryStep` from `steps` before its first finding on."""

    supersedes = ("GK997",)

    def check(self, records: Sequence[Gap]) -> Iterator[Finding]:
        yield self.finding(message="Cause.", step=10, optimizer=records[-1].what, remedy="", evidence={"steps": 3})


@pytest.mark.parametrize(
    ("step", "optimizer", "kept"),
    [(7, "SGD", False), (12, "SGD", False), (6, "SGD", True), (0, "SGD", True), (7, "Adam", True)],
)
def test_a_consequence_of_another_finding_is_left_out(step, optimizer, kept):
    engine = Engine([EveryStep(), Cause()])
    engine.put(window(step, optimizer=optimizer))
    engine.put(Gap(what="SGD", silenced=()))
    assert [finding.rule for finding in engine.findings()] == ["GK997", "GK995"][not kept :]


def test_a_consequence_at_one_of_several_optimizers_is_left_out_before_they_are_joined():
    engine = Engine([EveryStep(), Cause()])
    for optimizer in ("SGD", "SGD#2"):
        engine.put(window(12, line=3, optimizer=optimizer))
    engine.put(Gap(what="SGD", silenced=()))
    assert [(f.rule, f.optimizer, f.count) for f in engine.findings()] == [("GK997", "SGD#2", 1), ("GK995", "SGD", 1)]


def test_a_consequence_is_listed_when_the_rule_that_explains_it_is_off():
    engine = Engine([EveryStep()])
    engine.put(window(7))
    assert summary(engine) == [("GK997", "error", 1)]


# Rules that raise


def test_a_rule_that_raises_becomes_one_note_with_the_first_traceback():
    engine = Engine([Raising(), EveryStep(), RuleCrashed()])
    for step in range(3):
        engine.put(window(step))
    assert summary(engine) == [("GK999", "error", 3), ("GK997", "error", 3), ("GK900", "note", 3)]
    note = engine.findings()[-1]
    assert note.message == "Rule GK999 raising raised ZeroDivisionError: step 0; training went on without it."
    assert note.evidence["error"] == "ZeroDivisionError: step 0"
    assert "in check" in note.evidence["traceback"]
    assert "ZeroDivisionError: step 0" in note.evidence["traceback"]


def test_the_note_is_given_even_when_gk900_is_deselected():
    engine = Engine([Raising(), ObservationIncomplete()])
    engine.put(window(1))
    assert summary(engine) == [("GK999", "error", 1), ("GK900", "note", 1)]
    assert engine.findings()[-1].message == "Rule GK999 raising raised ZeroDivisionError: step 1."


def test_places_that_raise_are_told_apart():
    engine = Engine([RuleCrashed()])
    for where in ("the hook of step", "the hook of backward", "the hook of step"):
        engine.crashed(where, KeyError("a"))
    assert [(finding.evidence["where"], finding.count) for finding in engine.findings()] == [
        ("the hook of step", 2),
        ("the hook of backward", 1),
    ]
    assert engine.findings()[0].evidence["error"] == "KeyError: 'a'"


def test_a_crash_elsewhere_is_said_with_gk900_deselected_too():
    engine = Engine([])
    engine.crashed("the hook of step", KeyError("a"))
    assert summary(engine) == [("GK900", "note", 1)]


def test_an_interrupt_is_not_a_rules_bug():
    @dataclass(frozen=True, kw_only=True)
    class Interrupted(Rule[Window], code="GK994", severity=Severity.NOTE, since="0.1"):
        """The user pressed Ctrl-C while it ran."""

        def check(self, records: Sequence[Window]) -> Iterator[Finding]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Engine([Interrupted(), RuleCrashed()]).put(window())


class BrokenReporter(RuleCrashed, code="GK900", severity=Severity.NOTE, since="0.1"):
    """A GK900 that raises itself."""

    __orig_bases__ = RuleCrashed.__orig_bases__

    def check(self, records):
        raise RuntimeError("the reporter broke")


def test_training_goes_on_and_the_crash_is_said_when_gk900_itself_raises():
    engine = Engine([Raising(), BrokenReporter()])
    engine.put(window(0))
    engine.crashed("the hook of step", KeyError("a"))
    notes = [finding for finding in engine.findings() if finding.rule == "GK900"]
    assert "Rule GK999 raising raised ZeroDivisionError: step 0." in [note.message for note in notes]
    assert "the hook of step raised KeyError: 'a'." in [note.message for note in notes]


class Unprintable(Exception):
    """An exception whose own text raises, as of a library that formats a tensor in it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("rules", [[RuleCrashed()], []], ids=["GK900 on", "GK900 off"])
def test_an_exception_without_a_text_is_reported_by_its_type(rules):
    engine = Engine(rules)
    engine.crashed("the hook of step", Unprintable())
    (note,) = engine.findings()
    assert "Unprintable" in note.message


def test_gaps_are_told_apart_by_what_was_out_of_sight():
    engine = Engine([ObservationIncomplete()])
    for what in ("compiled", "captured", "compiled"):
        engine.put(Gap(what=what, silenced=("GK203",)))
    assert [finding.count for finding in engine.findings()] == [2, 1]


@settings(max_examples=50)
@given(st.lists(st.text(max_size=50), max_size=10))
def test_whatever_an_exception_says_it_never_reaches_the_loop(texts):
    engine = Engine([RuleCrashed()])
    for text in texts:
        engine.crashed("a hook", ValueError(text))
    assert sum(finding.count for finding in engine.findings()) == len(texts)
