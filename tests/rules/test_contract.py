"""All rules, found on disk, held to one contract; a new rule is covered without an edit here."""

import copy
import dataclasses
import functools
import itertools
import json
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gradkit.findings import Finding, Severity
from gradkit.records import Crash, Record
from gradkit.rules import FIELDS, all_check_rules, all_declared, all_rules
from gradkit.store import plain
from tests.rules.random_records import random_record

ROOT = Path(__file__).resolve().parents[2]
RULES = all_rules()
EVERY_CODE = pytest.mark.parametrize("rule", all_declared().values(), ids=all_declared().keys())
EVERY_RULE = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
SILENT, FIRING, SEARCHED = 60, 6, 20_000

# Codes and names are a promise to suppressions and baselines, and none is ever used again for something else; the
# severity is a rule's highest. Listed are those not built yet as well, so that they cannot be taken by another rule.
PROMISED = """
GK101 stale-gradients error
GK102 gradients-cleared-before-step error
GK103 step-without-new-gradients error
GK104 uneven-accumulation-window warning
GK105 unscaled-accumulation warning
GK106 orphan-gradients warning
GK201 grad-enabled-evaluation warning
GK202 graph-retained-across-steps warning
GK203 severed-gradient-path error
GK204 training-in-eval-mode error
GK205 evaluating-in-train-mode warning
GK206 needless-input-gradient note
GK207 needless-retained-graph warning
GK208 parameter-changed-under-graph error
GK209 stray-gradient-path note
GK301 non-finite-gradients error
GK302 vanishing-gradients warning
GK303 exploding-gradients warning
GK304 double-activation error
GK305 saturated-probability-loss warning
GK306 clipping-without-effect error
GK307 broadcast-loss error
GK308 half-precision-underflow warning
GK401 unoptimized-parameters error
GK402 foreign-parameters error
GK403 weights-never-change error
GK404 update-out-of-range warning
GK405 scheduler-before-optimizer warning
GK406 frozen-parameters-updated error
GK409 weights-not-loaded error
GK501 replicas-diverged error
GK502 unsynchronized-gradients error
GK503 duplicate-batches warning
GK601 wrong-gradient error
GK602 accumulation-not-equivalent error
GK603 batch-leak error
GK604 causality-leak error
GK605 inference-mismatch error
GK606 nondeterministic-gradient note
GK607 compiled-gradient-mismatch error
GK608 document-leak error
GK900 rule-crashed note
GK901 observation-incomplete note
"""
TABLE = {code: (name, Severity(severity)) for code, name, severity in map(str.split, PROMISED.strip().splitlines())}


def source_of(rule) -> Path:
    return Path(sys.modules[rule.__module__].__file__)


def drawn(rule, number: int) -> list:
    """As many records as the rule is handed at once, the same for the same number."""
    rng = random.Random(number)
    return [random_record(rule.kind, rng) for _ in range(rule.lookback + 1)]


def judged(rule, records) -> list[Finding]:
    return list(rule().check(records))


@functools.cache
def firing(rule) -> tuple[int, ...]:
    """Numbers of draws that give findings; a rule of many conditions needs a long search."""
    found = (number for number in range(SEARCHED) if judged(rule, drawn(rule, number)))
    return tuple(itertools.islice(found, FIRING))


def examples(rule) -> list[list]:
    """Ordinary draws, on most of which the rule is silent, and draws on which it fires."""
    return [drawn(rule, number) for number in sorted({*range(SILENT), *firing(rule)})]


def all_findings(rule) -> list[Finding]:
    return [finding for records in examples(rule) for finding in judged(rule, records)]


def test_every_file_named_like_a_rule_is_found_under_a_code_of_its_own():
    codes = [path.name[:5].upper() for path in sorted((ROOT / "gradkit" / "rules").glob("gk*.py"))]
    assert len(codes) >= 19
    assert codes == list(RULES)
    assert len({rule.name for rule in all_declared().values()}) == len(codes) + len(all_check_rules())


def test_every_file_of_a_check_is_found_and_none_of_them_judges_a_run():
    codes = [path.name[:5].upper() for path in sorted((ROOT / "gradkit" / "rules" / "checks").glob("gk*.py"))]
    assert codes == list(all_check_rules()) == [f"GK60{number}" for number in range(1, 9)]
    assert not set(codes) & set(RULES)


@pytest.mark.parametrize("code", all_check_rules())
def test_a_check_is_shown_at_work_by_a_scenario(code):
    assert list((ROOT / "tests" / "check" / "scenarios").glob(f"{code.lower()}_*.py"))


@EVERY_CODE
def test_code_name_and_severity_are_the_promised_ones(rule):
    assert (rule.name, rule.severity) == TABLE[rule.code]


@EVERY_CODE
def test_the_file_is_named_after_code_and_name(rule):
    assert source_of(rule).name == f"{rule.code.lower()}_{rule.name.replace('-', '_')}.py"


@EVERY_CODE
def test_the_docstring_answers_the_five_fields_in_order_after_one_sentence(rule):
    text = sys.modules[rule.__module__].__doc__
    summary, _, rest = text.partition("\n\n")
    assert re.fullmatch(r"[A-Z][^\n]*\.", summary)
    assert re.findall(r"^([A-Z][a-z ]+):", rest, re.MULTILINE) == list(FIELDS)
    page = rule.page()
    assert page["Summary"] == summary
    for field in FIELDS:
        assert page[field].endswith("."), field
        assert len(page[field].split()) >= 2, field


@EVERY_RULE
def test_the_rule_declares_since_when_it_exists_and_a_kind_of_record_that_exists(rule):
    assert re.fullmatch(r"\d+\.\d+", rule.since)
    assert issubclass(rule.kind, Record)
    assert rule.kind is not Record
    assert isinstance(rule.lookback, int)
    assert rule.lookback >= 0
    assert set(rule.supersedes) <= set(RULES) - {rule.code}


@EVERY_RULE
def test_the_rule_is_a_frozen_value_whose_settings_have_defaults(rule):
    instance = rule()
    assert instance == rule()
    assert rule.__dataclass_params__.frozen
    for field in dataclasses.fields(rule):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, field.name, getattr(instance, field.name))
        json.dumps(getattr(instance, field.name), allow_nan=False)


@EVERY_RULE
def test_every_setting_is_described_in_the_class_docstring_and_nothing_else_is(rule):
    listed = rule.__doc__.partition("Attributes:")[2]
    described = re.findall(r"^ {8}(\w+): \S", listed, re.MULTILINE)
    assert described == [field.name for field in dataclasses.fields(rule)]


@EVERY_RULE
def test_the_rule_fires_on_some_records_and_is_silent_on_others(rule):
    assert firing(rule)
    # A rule without settings states what the observer has proven: each of its records is a finding.
    assert not dataclasses.fields(rule) or not all(judged(rule, records) for records in examples(rule))


@EVERY_RULE
def test_judging_leaves_the_records_as_they_were(rule):
    for records in examples(rule):
        before = pickle.dumps(records)
        judged(rule, records)
        assert pickle.dumps(records) == before


@EVERY_RULE
def test_the_same_records_give_the_same_findings_twice(rule):
    for records in examples(rule):
        instance = rule()
        first = list(instance.check(records))
        # As text: NaN in the evidence is not equal to itself.
        assert repr(first) == repr(list(instance.check(records)))
        assert repr(first) == repr(judged(rule, copy.deepcopy(records)))


@EVERY_RULE
def test_findings_carry_the_rule_and_are_complete(rule):
    for finding in all_findings(rule):
        assert (finding.rule, finding.name) == (rule.code, rule.name)
        assert finding.severity <= rule.severity
        assert finding.message.endswith(".")
        assert "\n" not in finding.message
        assert finding.remedy
        assert (finding.count, finding.ranks) == (1, ())
        assert finding.first_step == finding.last_step
        for name in ("parameters", "modules", "labels"):
            assert type(getattr(finding, name)) is tuple


@EVERY_RULE
def test_evidence_is_ready_for_json(rule):
    for finding in all_findings(rule):
        assert all(type(key) is str for key in finding.evidence)
        read = json.loads(json.dumps(finding.evidence))
        assert json.dumps(read) == json.dumps(finding.evidence)
        json.dumps(plain(dict(finding.evidence)), allow_nan=False)


@EVERY_RULE
def test_the_rule_has_a_test_file_of_its_own(rule):
    assert (ROOT / "tests" / "rules" / f"test_{source_of(rule).name}").is_file()


@EVERY_RULE
def test_the_rule_is_shown_at_work_by_a_scenario(rule):
    scenarios = list((ROOT / "tests" / "scenarios").glob(f"{rule.code.lower()}_*.py"))
    # Notes about gradkit itself have no loop that is at fault.
    assert scenarios or rule.code.startswith("GK9")


@EVERY_CODE
def test_the_rule_has_a_page(rule):
    page = ROOT / "docs" / "rules" / f"{rule.code.lower()}.md"
    assert page.read_text(encoding="utf-8").startswith(f"# {rule.code}")


def test_rules_load_no_torch_and_no_framework():
    program = (
        "import sys; from gradkit.rules import all_rules; all_rules();"
        "print(sorted({'torch', 'numpy', 'lightning', 'hydra', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_a_crash_reaches_the_user_with_its_place_and_traceback():
    (finding,) = judged(RULES["GK900"], [Crash(where="Rule GK101", error="ValueError: x", traceback="Traceback ...")])
    assert finding.evidence == {"where": "Rule GK101", "error": "ValueError: x", "traceback": "Traceback ..."}
