"""GK901 on records built by hand: what was out of sight, and which silence says nothing."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Gap
from gradkit.rules.gk901_observation_incomplete import ObservationIncomplete


def judge(**values):
    record = {"what": "A compiled step hid its forward", "silenced": ("GK201", "GK203")}
    return list(ObservationIncomplete().check([Gap(**{**record, **values})]))


def test_says_everything_about_the_gap():
    (finding,) = judge(remedy="Run once without `torch.compile`.")
    assert finding.message == "A compiled step hid its forward; this silenced GK201, GK203."
    assert finding.evidence == {"what": "A compiled step hid its forward", "silenced": ["GK201", "GK203"]}
    assert finding.remedy == "Run once without `torch.compile`."
    assert finding.severity is Severity.NOTE
    assert (finding.location, finding.first_step, finding.optimizer) == (None, None, None)


def test_a_gap_without_a_remedy_of_its_own_gets_the_one_of_the_page():
    (finding,) = judge()
    assert finding.remedy == "Watch one short run in which that part is visible."


@pytest.mark.parametrize(
    ("silenced", "words"),
    [((), "this silenced no rule."), (("GK101",), "this silenced GK101."), (("a", "b", "c"), "silenced a, b, c.")],
)
def test_names_the_silenced_rules(silenced, words):
    (finding,) = judge(silenced=silenced)
    assert finding.message.endswith(words)
    assert finding.evidence["silenced"] == list(silenced)


def test_only_the_last_record_is_judged():
    first, last = (Gap(what=what, silenced=()) for what in ("first", "last"))
    (finding,) = ObservationIncomplete().check([first, last])
    assert finding.evidence["what"] == "last"
