"""What is replaced in torch comes off in any order, is told once, and never takes another tool's wrapper with it."""

from __future__ import annotations

import re
import traceback
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradkit
from gradkit.observe.taps import signals
from gradkit.observe.taps.patches import Patch, telling
from gradkit.observe.witnesses.taint import Taint
from gradkit.sources import PACKAGE


class Place:
    """Something whose attribute is replaced, as a module of torch is."""

    def __init__(self) -> None:
        self.double = lambda number: 2 * number
        self.original = self.double


class Listener:
    def __init__(self, name: str, heard: list[str]) -> None:
        self.name, self.heard = name, heard


def tell(listeners: Any, *_: Any) -> None:
    for listener in listeners:
        listener.heard.append(listener.name)


def patches_of(place: Place, number: int) -> list[Patch]:
    return [Patch(f"double {index}", lambda: place, "double", telling(before=tell)) for index in range(number)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_patches_of_one_attribute_come_off_in_any_order(order):
    place, heard = Place(), []
    patches = patches_of(place, 3)
    listeners = [Listener(str(index), heard) for index in range(3)]
    for patch, listener in zip(patches, listeners, strict=True):
        patch.listen(listener)
    left = {"0", "1", "2"}
    for index in order:
        heard.clear()
        assert place.double(2) == 4
        assert sorted(heard) == sorted(left)
        assert patches[index].leave(listeners[index])
        left.remove(str(index))
    assert place.double is place.original


def test_a_wrapper_stays_until_its_last_listener_leaves():
    place, heard = Place(), []
    (patch,) = patches_of(place, 1)
    first, second = Listener("first", heard), Listener("second", heard)
    patch.listen(first)
    patch.listen(second)
    assert patch.leave(first)
    assert place.double(1) == 2
    assert heard == ["second"]
    assert patch.leave(first), "one that left already has nothing to leave"
    assert patch.leave(second)
    assert place.double is place.original


@pytest.mark.parametrize("lower", [False, True])
def test_under_another_tool_a_wrapper_turns_passive_and_the_next_one_is_told_once(lower):
    place, heard = Place(), []
    below, patch = patches_of(place, 2)
    listener = Listener("heard", heard)
    if lower:
        below.listen(Listener("below", []))
    patch.listen(listener)
    ours = place.double
    place.double = lambda number: ours(number) + 1
    theirs = place.double
    assert not patch.leave(listener)
    assert place.double is theirs
    assert place.double(1) == 3
    assert heard == []
    patch.listen(listener)
    assert place.double(1) == 3
    assert heard == ["heard"]
    assert patch.leave(listener), "this one lies over the other tool's"
    assert place.double is theirs


def test_a_tool_between_two_of_ours_keeps_its_place():
    place, heard = Place(), []
    lower, upper = patches_of(place, 2)
    one, two = Listener("one", heard), Listener("two", heard)
    lower.listen(one)
    ours = place.double
    place.double = lambda number: ours(number) + 1
    theirs = place.double
    upper.listen(two)
    assert not lower.leave(one)
    assert place.double(1) == 3
    assert heard == ["two"]
    assert upper.leave(two)
    assert place.double is theirs


def test_the_signature_and_the_name_of_what_is_replaced_remain():
    plain = (nn.Module.train.__name__, nn.Module.train.__module__)
    with gradkit.watch(report="never"):
        assert nn.Module.train is not signals.MODE  # the wrapper is on
        assert (nn.Module.train.__name__, nn.Module.train.__module__) == plain


class Refused(Exception):
    pass


def raises(*_: Any, **__: Any) -> Any:
    raise Refused


def test_a_traceback_that_the_program_catches_shows_no_frame_of_a_wrapper():
    data = torch.utils.data.DataLoader(SimpleNamespace(__len__=lambda: 1), batch_sampler=[[0]])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    leaf = torch.ones((), requires_grad=True)

    def hooked() -> torch.Tensor:
        result = leaf * 2
        result.register_hook(raises)
        return result * 2

    failing = (
        lambda: torch.optim.SGD([], lr=0.1),
        lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, raises),
        lambda: next(iter(data)),
        lambda: nn.utils.clip_grad_norm_([nn.Parameter(torch.zeros(1))], "none", error_if_nonfinite=True),
        lambda: nn.Linear(1, 1)(torch.ones(1)).sum().backward(gradient=torch.ones(5)),
        lambda: hooked().backward(),
        lambda: torch.autograd.grad(hooked(), leaf),
    )
    for program in failing:
        expected = frames_of(program)
        with gradkit.watch(report="never"):
            assert frames_of(program) == expected


def frames_of(program: Any) -> list[tuple[str, int | None]]:
    try:
        program()
    except Exception as error:
        return [(frame.name, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    return []


def train_with_a_cut(steps: int) -> None:
    torch.manual_seed(0)
    body, head = nn.Linear(8, 8), nn.Linear(8, 1)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01)
    targets = torch.randn(32, 1)
    for _ in range(steps):
        inputs = nn.Parameter(torch.from_numpy(np.ones((32, 8), dtype="float32")), requires_grad=False)
        optimizer.zero_grad()
        ((head(body(inputs).detach()) - targets) ** 2).mean().backward()
        optimizer.step()


def test_two_monitors_that_follow_a_cut_leave_torch_as_it_was():
    original = torch.from_numpy, nn.Parameter.__new__
    with gradkit.watch(report="never") as outer, gradkit.watch(report="never") as inner:
        train_with_a_cut(20)
    assert [finding.rule for finding in (*outer.findings, *inner.findings)] == ["GK203", "GK203"]
    assert (torch.from_numpy, nn.Parameter.__new__) == original


@pytest.mark.parametrize("method", ["array_entered", "parameter_made"])
def test_a_mistake_in_a_way_into_torch_is_told_and_the_program_goes_on(method, monkeypatch):
    monkeypatch.setattr(Taint, method, raises)
    with gradkit.watch(report="never") as monitor:
        train_with_a_cut(20)
    assert "GK900" in [finding.rule for finding in monitor.findings]


def test_a_second_listener_on_clipping_is_no_other_tool():
    heard: list[str] = []
    clipping = torch.nn.utils.clip_grad
    original = clipping._clip_grads_with_norm_
    patch = Patch("clipping", lambda: clipping, "_clip_grads_with_norm_", telling(before=tell))
    monitor = gradkit.watch(report="never", ignore=("GK102",)).start()
    patch.listen(Listener("clipped", heard))
    parameter = nn.Parameter(torch.ones(1))
    parameter.sum().backward()
    nn.utils.clip_grad_norm_([parameter], 1.0)
    monitor.stop()
    nn.utils.clip_grad_norm_([parameter], 1.0)
    assert heard == ["clipped", "clipped"]
    assert patch.leave(patch.listeners[0])
    assert monitor.findings == ()
    assert clipping._clip_grads_with_norm_ is original


SETS = re.compile(r"setattr\(|vars\([^)]*\)\[[^]]*\] = |__dict__\[[^]]*\] = |^\s*(torch|nn)(\.\w+)+ = ", re.MULTILINE)


def test_only_the_registry_sets_attributes_on_torch():
    found = {path.name for path in (Path(PACKAGE) / "observe").rglob("*.py") if SETS.search(path.read_text("utf-8"))}
    assert found == {"patches.py"}
    assert SETS.search('        vars(torch)["from_numpy"] = from_numpy\n')
    assert SETS.search("    torch.optim.Optimizer.step = ours\n")
