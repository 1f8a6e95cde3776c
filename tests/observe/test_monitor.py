"""The monitor's life: options, nesting, exceptions inside, halting and printing."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

import gradkit
from gradkit.errors import ConfigError, HygieneError
from gradkit.records import Window

Pair = tuple[torch.nn.Linear, torch.optim.SGD]


def pair() -> Pair:
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def train(model: torch.nn.Linear, optimizer: torch.optim.SGD, steps: int, clear: bool = True) -> int:
    """Steps finished."""
    done = 0
    try:
        for _ in range(steps):
            if clear:
                optimizer.zero_grad()
            model(torch.ones(4, 2)).pow(2).mean().backward()
            optimizer.step()
            done += 1
    except HygieneError:
        pass
    return done


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accumulate": 0}, "accumulate must be .* not 0"),
        ({"accumulate": 1.5}, "accumulate must be .* not 1.5"),
        ({"budget": 0.0}, "budget .* not 0.0"),
        ({"budget": float("nan")}, "budget .* not nan"),
        ({"report": "alway"}, "report must be .* not 'alway'.*always"),
        ({"halt_on": "eror"}, "halt_on takes"),
        ({"select": ["GK999"]}, "GK999"),
        ({"settings": {"GK101": {"no_such": 1}}}, "no_such"),
    ],
)
def test_a_bad_option_is_one_clear_error(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        gradkit.watch(report=options.pop("report", "never"), **options)


def test_what_is_attached_is_listed_and_gone_afterwards() -> None:
    monitor = gradkit.watch(*pair(), report="never")
    assert monitor.attached == ()
    with monitor:
        assert monitor.attached
    assert monitor.attached == ()


def test_starting_twice_is_refused_and_stopping_twice_is_not() -> None:
    with gradkit.watch(*pair(), report="never") as monitor, pytest.raises(ConfigError, match="already running"):
        monitor.start()
    assert monitor.stop() is monitor


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_inside_passes_through_and_leaves_nothing_attached(error: type[BaseException]) -> None:
    monitor = gradkit.watch(*pair(), report="never")
    with pytest.raises(error), monitor:
        raise error
    assert monitor.attached == ()


def test_nested_and_overlapping_monitors_each_see_their_own_time() -> None:
    model, optimizer = pair()
    first, second = gradkit.watch(report="never").start(), gradkit.watch(report="never")
    train(model, optimizer, 2)
    second.start()
    train(model, optimizer, 3)
    first.stop()
    train(model, optimizer, 4)
    second.stop()
    assert (first.info.steps, second.info.steps) == (5, 7)


def test_a_monitor_judges_only_the_optimizers_it_was_given() -> None:
    good, bad = pair(), pair()
    with gradkit.watch(good[1], report="never") as mine, gradkit.watch(bad[1], report="never") as other:
        train(*good, 3)
        train(*bad, 3, clear=False)
    assert mine.findings == ()
    assert [finding.rule for finding in other.findings] == ["GK101"]


def test_halting_raises_from_the_offending_step_and_only_when_there_is_one() -> None:
    with gradkit.watch(*(bad := pair()), halt_on="GK101", report="never"):
        assert train(*bad, 5, clear=False) < 5
    with gradkit.watch(*(good := pair()), halt_on="note", report="never"):
        assert train(*good, 5) == 5


def test_windows_are_handed_over_in_order_to_every_sink() -> None:
    early: list[Window] = []
    late: list[Window] = []
    model, optimizer = pair()
    with gradkit.watch(model, optimizer, on_window=early.append, report="never") as monitor:
        train(model, optimizer, 2)
        monitor.add_sink(late.append)
        train(model, optimizer, 3)
    assert [window.step for window in early] == [0, 1, 2, 3, 4]
    assert [window.step for window in late] == [2, 3, 4]


@pytest.mark.parametrize(
    ("report", "clear", "printed"),
    [
        ("findings", True, False),
        ("findings", False, True),
        ("always", True, True),
        ("never", False, False),
    ],
)
def test_the_report_is_printed_when_it_was_asked_for(report: str, clear: bool, printed: bool) -> None:
    stream = io.StringIO()
    model, optimizer = pair()
    with gradkit.watch(model, optimizer, report=report, stream=stream):
        train(model, optimizer, 3, clear)
    assert bool(stream.getvalue()) is printed
    assert ("GK101" in stream.getvalue()) is (printed and not clear)


def test_a_closed_stream_costs_nobody_the_training() -> None:
    stream = io.StringIO()
    stream.close()
    model, optimizer = pair()
    with gradkit.watch(model, optimizer, report="always", stream=stream) as monitor:
        train(model, optimizer, 2)
    assert monitor.info.steps == 2


def test_a_model_that_takes_the_place_of_one_in_memory_is_judged_like_any_other():
    """Parameters of a model that is gone leave their identities to those of the next."""
    identities, repeated = set(), 0

    def train():
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            model(torch.ones(8, 3)).sum().backward()
            optimizer.step()
        return id(model.weight), id(model.bias)

    with gradkit.watch(report="never") as monitor:
        for number in range(1, 41):
            both = train()
            repeated += both in identities
            identities.add(both)
            (finding,) = monitor.findings
            assert (finding.rule, finding.count) == ("GK101", 3 * number)
    assert repeated, "no identity was used twice: nothing was tested"
