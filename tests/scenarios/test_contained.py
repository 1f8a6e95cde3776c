"""Mistakes of gradkit's own, at random steps in every place that is called while training: contained, never felt."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gradkit.observe.roster import all_observers
from gradkit.observe.taps.events import TOLD_BY_MONITOR
from gradkit.observe.windows.steps import Steps
from gradkit.rules import all_rules
from tests.scenarios.harness import Scenario, found, run, scenarios

HOOKS = ("enter_backward", "leave_backward", "before_clipping", "before_step", "after_step", "optimizer_created")
_WANTED = {
    "gk101_clipped:main",
    "gk101_trainer_class:main",
    "gk102_plain_loop:main",
    "gk103_plain_loop:main",
    "healthy_accumulation:healthy_with_a_tail",
    "healthy_checkpointing:healthy_reentrant_accumulating",
    "healthy_clearing_idioms:healthy_data_zero",
    "healthy_closures:healthy_lbfgs",
    "healthy_gan:healthy_gan_old_idiom",
    "healthy_mixed_precision:healthy_skipped_steps_clipped_kept_as_zeros",
    "healthy_optimizers:healthy_step_in_backward_hooks",
    "healthy_optimizers:healthy_wrapper_around_another",
    "healthy_sam:healthy_closure",
}
SAMPLE = [scenario for scenario in scenarios() if scenario.id in _WANTED]


class Planted(RuntimeError):
    """The mistake."""


def _as_gradkit(wrapper: Any) -> Any:
    """A wrapper around code of gradkit's that is no line of the program either."""
    wrapper.__code__ = wrapper.__code__.replace(co_filename="<gradkit, with mistakes>")
    return wrapper


class Mistakes:
    """Raises at random calls, before or after the real work; the generator is its own, so no other number changes."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self.raised = 0

    def _perhaps(self) -> None:
        if self.chance.random() < 0.2:
            self.raised += 1
            raise Planted("at random")

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._perhaps()
            result = method(*args, **kwargs)
            self._perhaps()
            return result

        return _as_gradkit(wrapped)

    def around_check(self, check: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
            self._perhaps()
            for finding in check(*args, **kwargs):
                yield finding
                self._perhaps()

        return _as_gradkit(wrapped)


def test_the_sample_is_there() -> None:
    assert {scenario.id for scenario in SAMPLE} == _WANTED


@pytest.mark.parametrize("deep", [False, True], ids=["standard", "deep"])
@pytest.mark.parametrize("scenario", SAMPLE, ids=lambda scenario: scenario.id)
def test_a_mistake_in_any_hook_changes_nothing_and_is_reported(
    scenario: Scenario, deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = run(scenario, watched=False)
    for hook in HOOKS:
        mistakes = Mistakes(f"{scenario.id} {hook}")
        with monkeypatch.context() as patch:
            patch.setattr(Steps, hook, mistakes.around(getattr(Steps, hook)))
            watched = run(scenario, watched=True, deep=deep)
        assert (watched.weights, watched.rng, watched.stdout) == (bare.weights, bare.rng, bare.stdout), hook
        assert watched.attached_after == ()
        codes = {code for code, _ in found(watched)}
        assert ("GK900" in codes) == bool(mistakes.raised), hook
        assert found(watched) - {(code, 0) for code in codes} <= scenario.expected, hook


@pytest.mark.parametrize("scenario", SAMPLE, ids=lambda scenario: scenario.id)
def test_a_mistake_in_any_observer_changes_nothing_and_is_reported(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = run(scenario, watched=False)
    mistakes = Mistakes(scenario.id)
    for kind in all_observers():
        for event in TOLD_BY_MONITOR:
            if event in vars(kind):
                monkeypatch.setattr(kind, event, mistakes.around(vars(kind)[event]))
    watched = run(scenario, watched=True)
    assert (watched.weights, watched.rng, watched.stdout) == (bare.weights, bare.rng, bare.stdout)
    assert mistakes.raised
    assert "GK900" in {code for code, _ in found(watched)}
    assert {(code, line) for code, line in found(watched) if code != "GK900"} <= scenario.expected


@pytest.mark.parametrize("scenario", [s for s in SAMPLE if s.expected], ids=lambda scenario: scenario.id)
def test_a_mistake_in_any_rule_changes_nothing_and_is_reported(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = run(scenario, watched=False)
    mistakes = Mistakes(scenario.id)
    for rule in all_rules().values():
        monkeypatch.setattr(rule, "check", mistakes.around_check(vars(rule)["check"]))
    watched = run(scenario, watched=True, deep=True)
    assert (watched.weights, watched.rng, watched.stdout) == (bare.weights, bare.rng, bare.stdout)
    assert mistakes.raised
    assert "GK900" in {code for code, _ in found(watched)}
    assert {(code, line) for code, line in found(watched) if code != "GK900"} <= scenario.expected
