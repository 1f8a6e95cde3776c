"""GK208 on records built by hand: one proof is enough, and what the finding says."""

from gradkit.findings import Severity
from gradkit.records import HiddenWrite, Location
from gradkit.rules.gk208_parameter_changed_under_graph import ParameterChangedUnderGraph

WRITE, USE, BACK = (Location("train.py", line, "train") for line in (12, 10, 13))


def test_names_the_write_the_use_and_the_backward():
    record = HiddenWrite(
        optimizer="SGD",
        step=4,
        parameters=("a", "b", "c", "d"),
        operation="mul_",
        location=WRITE,
        forward_line=USE,
        backward_line=BACK,
    )
    (finding,) = ParameterChangedUnderGraph().check([record])
    assert (finding.severity, finding.location, finding.first_step) == (Severity.ERROR, WRITE, 4)
    assert finding.message == (
        "4 parameter(s) of SGD (a, b, c, ...) were overwritten by `mul_` between their forward and its backward."
    )
    assert [place for place, _ in finding.labels] == [USE, BACK]


def test_places_that_are_not_known_are_left_out():
    record = HiddenWrite(optimizer="SGD", step=4, parameters=("a",), operation=".data =")
    (finding,) = ParameterChangedUnderGraph().check([record])
    assert finding.labels == ()
