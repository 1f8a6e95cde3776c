"""The short way through a sound loop: it is gone, and what it leaves behind is what the long way would have known."""

import gc
import threading
import weakref
from contextlib import suppress
from dataclasses import astuple, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gradkit
from gradkit.observe.taps import short_way
from gradkit.observe.taps.short_way import OFF
from gradkit.observe.taps.tap import TAP
from gradkit.observe.windows.sound import SoundWindows
from gradkit.records import Window

ZEROING = ("GK101", "GK102", "GK103")
CALM = 6
"""Sound windows after which the short way is gone, whatever happened before."""


@pytest.fixture(autouse=True, params=[1, 1000], ids=["many", "few"])
def _many(request, monkeypatch):
    """The few parameters of these tests are followed as many are, and as few."""
    monkeypatch.setattr(short_way, "MANY", request.param)


class Loop:
    """A small model and the things a program may do with it in a window."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.5)
        self.x = torch.randn(5, 3)

    def loss(self) -> torch.Tensor:
        return self.model(self.x).square().mean()

    def sound(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    # What may happen instead, once or over and over.

    def not_cleared(self) -> None:
        self.loss().backward()
        self.optimizer.step()

    def partly_cleared(self) -> None:
        self.model[2].zero_grad()
        self.not_cleared()

    def first_cleared_only(self) -> None:
        self.model[0].zero_grad()
        self.not_cleared()

    def cleared_in_place(self) -> None:
        self.optimizer.zero_grad(set_to_none=False)
        self.not_cleared()

    def cleared_before_the_step(self) -> None:
        self.loss().backward()
        self.optimizer.zero_grad()
        self.optimizer.step()

    def replaced_by_zeros_before_the_step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        for parameter in self.model.parameters():
            parameter.grad = None
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()

    def replaced_before_the_backward(self) -> None:
        for parameter in self.model.parameters():
            parameter.grad = None
            parameter.grad = torch.ones_like(parameter)
        self.not_cleared()

    def two_backwards(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.loss().backward()
        self.optimizer.step()

    def no_backward(self) -> None:
        self.optimizer.zero_grad()
        self.optimizer.step()

    def stepped_twice(self) -> None:
        self.sound()
        self.optimizer.step()

    def clipped(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.01)
        self.optimizer.step()

    def clipped_and_not_cleared(self) -> None:
        self.loss().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.01)
        self.optimizer.step()

    def with_a_closure(self) -> None:
        def closure() -> float:
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            return float(loss.detach())

        self.optimizer.step(closure)

    def backward_raises(self) -> None:
        self.optimizer.zero_grad()
        hidden = self.model(self.x)
        hidden.register_hook(lambda gradient: 1 / 0)
        with suppress(ZeroDivisionError):
            hidden.sum().backward()

    def step_raises(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.param_groups[0]["lr"] = "much"
        with suppress(TypeError, RuntimeError):
            self.optimizer.step()
        self.optimizer.param_groups[0]["lr"] = 0.01

    def another_parameter(self) -> None:
        self.model.append(nn.Linear(2, 2))
        self.optimizer.add_param_group({"params": list(self.model[-1].parameters())})
        self.not_cleared()

    def parameters_replaced(self) -> None:
        self.model[0] = nn.Linear(3, 4)
        self.optimizer.param_groups[0]["params"] = list(self.model.parameters())
        self.not_cleared()

    def one_parameter_replaced_in_place(self) -> None:
        self.model[2].bias = nn.Parameter(torch.ones(2))
        self.optimizer.param_groups[0]["params"][3] = self.model[2].bias
        self.not_cleared()

    def backward_inside_a_backward(self) -> None:
        self.optimizer.zero_grad()
        hidden = self.model[:1](self.x)

        @torch.enable_grad()
        def again(gradient: torch.Tensor) -> torch.Tensor:
            self.loss().backward()
            return gradient

        hidden.register_hook(again)
        hidden.sum().backward()
        self.optimizer.step()

    def step_inside_a_backward(self) -> None:
        self.optimizer.zero_grad()
        handle = self.model[0].weight.register_post_accumulate_grad_hook(lambda parameter: self.optimizer.step())
        self.loss().backward()
        handle.remove()

    def differentiated(self) -> None:
        self.optimizer.zero_grad()
        torch.autograd.grad(self.loss(), self.model[0].weight)
        self.not_cleared()

    def another_optimizer(self) -> None:
        self.other = torch.optim.Adam(self.model[2].parameters())
        self.not_cleared()
        self.other.step()


DEEDS = sorted(name for name, item in vars(Loop).items() if callable(item) and name not in ("__init__", "loss"))


def judged(
    deeds: list[str], *, short: bool = True, **options: Any
) -> tuple[list[tuple[object, ...]], object, list[float]]:
    """Findings, counts and weights of a program that does the deeds after a calm stretch."""
    loop = Loop()
    with pytest.MonkeyPatch.context() as patch:
        if not short:
            patch.setenv("GRADKIT_LONG_WAY", "1")
        with gradkit.watch(loop.model, report="never", select=ZEROING, **options) as monitor:
            for _ in range(CALM):
                loop.sound()
            assert (TAP.short.phase() != OFF) == short
            for deed in deeds:
                getattr(loop, deed)()
        info = replace(monitor.info, seconds=0.0, overhead_seconds=0.0)
    findings = [(f.rule, f.message, f.first_step, f.count, f.evidence) for f in monitor.findings]
    weights = torch.cat([parameter.detach().reshape(-1) for parameter in loop.model.parameters()])
    return findings, info, weights.tolist()


@pytest.mark.parametrize("deed", ["sound", "clipped"])
def test_a_sound_loop_is_followed_the_short_way_and_counted_in_full(deed):
    loop = Loop()
    with gradkit.watch(loop.model, loop.optimizer, report="never", select=ZEROING) as monitor:
        for _ in range(50):
            getattr(loop, deed)()
        assert TAP.short.phase() != OFF
        assert TAP.short.windows() > 40
    assert not monitor.findings
    assert (monitor.info.steps, monitor.info.backwards) == (50, 50)


def test_counters_are_up_to_date_inside_a_step_of_the_short_way():
    loop = Loop()
    seen = []
    with gradkit.watch(loop.model, loop.optimizer, report="never", select=ZEROING) as monitor:
        for _ in range(CALM):
            loop.sound()
        assert TAP.short.phase() != OFF
        handle = loop.optimizer.register_step_post_hook(
            lambda optimizer, args, kwargs: seen.append((monitor.place_of(optimizer), monitor.backwards))
        )
        loop.sound()
        handle.remove()
        assert monitor.steps_of(loop.optimizer) == CALM + 1
        assert monitor.deposits_of(loop.optimizer) == CALM + 1
    assert seen == [(("SGD", CALM), CALM + 1)]


def test_a_backward_on_another_thread_beside_one_of_the_short_way_is_counted_as_unseen():
    loop, other = Loop(), Loop()
    with gradkit.watch(loop.model, loop.optimizer, report="never", select=ZEROING) as monitor:
        for _ in range(CALM):
            loop.sound()
        assert TAP.short.phase() != OFF

        def beside(gradient: torch.Tensor) -> torch.Tensor:
            thread = threading.Thread(target=lambda: other.loss().backward())
            thread.start()
            thread.join()
            return gradient

        loop.optimizer.zero_grad()
        hidden = loop.model(loop.x)
        hidden.register_hook(beside)
        hidden.sum().backward()
        assert monitor.backwards_unseen == 1
        assert TAP.backward_depth == 0


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("times", [1, 4])
def test_what_follows_a_calm_stretch_is_judged_as_if_followed_all_along(deed, times):
    deeds = [deed] * times + ["sound"] * 3 + [deed] * times
    assert judged(deeds) == judged(deeds, short=False)


@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        ("not_cleared", "GK101"),
        ("first_cleared_only", "GK101"),
        ("cleared_before_the_step", "GK102"),
        ("stepped_twice", "GK103"),
    ],
)
def test_a_loop_that_turns_bad_after_a_calm_stretch_is_found_from_its_first_bad_step_on(deed, rule):
    findings, _, _ = judged([deed] * 5)
    assert [finding[0] for finding in findings] == [rule]
    assert findings[0] == judged([deed] * 5, short=False)[0][0]


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("deep", [True, False])
def test_every_window_is_recorded_as_if_followed_all_along(deed, deep):
    deeds = [deed] * 2 + ["sound"] * 70 + [deed]
    long: list[Window] = []
    short: list[Window] = []
    judged(deeds, short=False, deep=deep, on_window=long.append)
    judged(deeds, deep=deep, on_window=short.append)
    assert [replace(window, deep=None) for window in short] == [replace(window, deep=None) for window in long]
    assert all((window.deep is None) == (not deep) for window in long)
    lost = [window for window in short if window.deep is None]
    # Of a step that raised nothing is read any more.
    assert len(lost) == (len(short) if not deep else 2 if deed == "step_raises" and short_way.MANY == 1 else 0)
    for mine, theirs in zip(short, long, strict=True):
        if mine.deep is not None and theirs.deep is not None:
            assert astuple(mine.deep) == pytest.approx(astuple(theirs.deep), nan_ok=True)


def test_deep_mode_follows_the_learning_rate_of_a_capturable_optimizer():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.5))
    found: list[Window] = []
    with gradkit.watch(model, optimizer, report="never", select=ZEROING, deep=True, on_window=found.append):
        for number in range(80):
            optimizer.param_groups[0]["lr"].fill_(2.0 ** -(number % 8))
            optimizer.zero_grad()
            model(torch.ones(3, 2)).sum().backward()
            optimizer.step()
    assert [window.deep.effective_learning_rate for window in found] == [2.0 ** -(n % 8) for n in range(80)]


@pytest.mark.parametrize("deep", [True, False])
def test_who_gets_a_record_may_train_another_model_meanwhile(deep):
    main, other = Loop(), Loop()
    steps: list[int] = []

    def train(window: Window) -> None:
        steps.append(window.step)
        other.sound()

    with gradkit.watch(main.optimizer, report="never", deep=deep, on_window=train) as monitor:
        for _ in range(CALM + 70):
            main.sound()
    assert [finding.rule for finding in monitor.findings] == []
    assert steps == list(range(CALM + 70))


@pytest.mark.parametrize("failing", ["before_step", "after_step"])
def test_a_mistake_in_writing_a_record_is_said_and_the_loop_goes_on_being_followed(failing, monkeypatch):
    def mistake(*_: Any) -> None:
        raise ValueError("ours")

    monkeypatch.setattr(SoundWindows, failing, mistake)
    loop = Loop()
    with gradkit.watch(loop.optimizer, report="never", deep=True, select=[*ZEROING, "GK900"]) as monitor:
        for _ in range(CALM + 70):
            loop.sound()
    is_late = short_way.MANY == 1
    assert [finding.rule for finding in monitor.findings] == (["GK900"] if is_late == (failing == "after_step") else [])
    assert monitor.info.steps == monitor.info.backwards == CALM + 70
    assert not monitor._steps.is_stepping


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["sound"] * 12 + DEEDS), max_size=25),
    st.sampled_from([{}, {"accumulate": 1}, {"accumulate": 2}]),
)
def test_any_program_is_judged_as_if_followed_all_along(deeds, options):
    assert judged(deeds, **options) == judged(deeds, short=False, **options)


class Groups(list):
    """An optimizer's groups, which cannot be walked through once."""

    broken = True

    def __iter__(self):
        if self.broken:
            self.broken = False
            raise RuntimeError("broken groups")
        return super().__iter__()


@pytest.mark.parametrize("place", ["enter_backward", "before_step", "after_step"])
def test_a_mistake_on_the_short_way_is_said_and_does_not_reach_the_loop(place, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    loop, untouched = Loop(), Loop()
    with gradkit.watch(loop.model, loop.optimizer, report="never", select=ZEROING) as monitor:
        if place == "enter_backward":
            loop.optimizer.param_groups = Groups(loop.optimizer.param_groups)
            loop.optimizer.param_groups.broken = False
        for _ in range(CALM):
            loop.sound()
        assert TAP.short.phase() != OFF
        loop.optimizer.zero_grad()
        loss = loop.loss()
        if place == "enter_backward":
            loop.optimizer.param_groups.broken = True
        loss.backward()
        with monkeypatch.context() as patch:
            if place == "before_step":
                patch.setattr(short_way, "len", broken, raising=False)  # also when the ledger is told of it
            if place == "after_step":
                for name in ("held_state", "reference"):
                    patch.setattr(short_way, name, broken)
            loop.optimizer.step()
        for _ in range(3):
            loop.sound()
    for _ in range(CALM + 4):
        untouched.sound()
    assert {finding.rule for finding in monitor.findings} == {"GK900"}
    assert any(place in finding.message for finding in monitor.findings)
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(loop.model.parameters(), untouched.model.parameters(), strict=True)
    )


def test_nothing_of_the_program_is_kept_once_the_monitor_has_stopped():
    loop = Loop()
    with gradkit.watch(loop.model, loop.optimizer, report="never", select=ZEROING):
        for _ in range(CALM):
            loop.sound()
    weight = weakref.ref(loop.model[0].weight)
    optimizer = weakref.ref(loop.optimizer)
    del loop
    gc.collect()
    assert weight() is None
    assert optimizer() is None


def test_an_optimizer_dropped_on_the_short_way_is_let_go():
    with gradkit.watch(report="never", select=ZEROING):
        gc.collect()
        loop = Loop()
        for _ in range(CALM):
            loop.sound()
        weight = weakref.ref(loop.model[0].weight)
        del loop
        gc.collect()
        assert weight() is None
        assert TAP.short.phase() == OFF


def test_groups_changed_on_the_short_way_show_in_the_totals():
    loop = Loop()
    with gradkit.watch(loop.model, loop.optimizer, report="never", select=ZEROING) as monitor:
        for _ in range(CALM):
            loop.sound()
        loop.model.append(nn.Linear(2, 2))
        loop.optimizer.add_param_group({"params": list(loop.model[-1].parameters())})
        loop.sound()
        assert monitor.info.parameters == 6
