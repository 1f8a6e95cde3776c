"""Every model is the first: what comes before a fault in one process never hides it, and is not accused itself."""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import gradkit
from gradkit.observe import attention

X, Y = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(16, 1)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))


def sgd(model: nn.Module, rate: float = 0.01, **options: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), rate, **options)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        mse_loss(model(X), Y).backward()
        optimizer.step()


def sound(steps: int) -> tuple[object, ...]:
    """A correct run with all that a fault could be mistaken for: evaluation, momentum, a scheduler."""
    model = net()
    optimizer = sgd(model, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 100)
    train(model, optimizer, steps)
    scheduler.step()
    model.eval()
    with torch.no_grad():
        model(X)
        model(Y.expand(16, 8))
    model.train()
    return model, optimizer


def gk101() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(4):
        mse_loss(model(X), Y).backward()
        optimizer.step()


def gk102() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(4):
        mse_loss(model(X), Y).backward()
        optimizer.zero_grad()
        optimizer.step()


def gk103() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(4):
        optimizer.zero_grad()
        mse_loss(model(X), Y).backward()
        optimizer.step()
        optimizer.step()


def gk201() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(3):
        train(model, optimizer, 4)
        model.eval()
        sum(mse_loss(model(part), Y[:4]).item() for part in X.split(4))
        model.train()


def gk202() -> None:
    model = nn.Linear(8, 1)
    optimizer = sgd(model)
    kept = []
    for _ in range(40):
        loss = mse_loss(model(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        kept.append(loss)


def gk203() -> None:
    body, head = nn.Linear(8, 8), nn.Linear(8, 1)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        mse_loss(head(body(X).detach()), Y).backward()
        optimizer.step()


def gk204() -> None:
    model = net().eval()
    train(model, sgd(model), 40)


def gk205() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(3):
        train(model, optimizer, 4)
        with torch.no_grad():
            sum(mse_loss(model(part), Y[:4]).item() for part in X.split(4))


def gk207() -> None:
    model = nn.Linear(8, 1)
    optimizer = sgd(model)
    for _ in range(60):
        optimizer.zero_grad()
        mse_loss(model(X), Y).backward(retain_graph=True)
        optimizer.step()


def gk208() -> None:
    model = nn.Linear(8, 1)
    optimizer = sgd(model)
    for _ in range(12):
        loss = mse_loss(model(model(X).square().repeat(1, 8)), Y)
        model.weight.data.mul_(0.999)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def gk401() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = sgd(model)
    model[2] = nn.Linear(16, 1)
    train(model, optimizer, 40)


def gk402() -> None:
    model = nn.Linear(8, 1)
    optimizer = sgd(model)
    train(copy.deepcopy(model), optimizer, 40)


def gk403() -> None:
    model = nn.Linear(8, 1)
    train(model, sgd(model, 0.0), 40)


def gk404() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    train(model, torch.optim.Adam(model.parameters(), 10.0), 80)


def gk405() -> None:
    model = nn.Linear(8, 1)
    optimizer = sgd(model, 0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for _ in range(8):
        optimizer.zero_grad()
        mse_loss(model(X), Y).backward()
        scheduler.step()
        optimizer.step()


def gk406() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    optimizer = sgd(model, momentum=0.9)
    for step in range(24):
        if step == 12:
            optimizer.zero_grad(set_to_none=False)
            model[0].requires_grad_(False)
        optimizer.zero_grad(set_to_none=False)
        mse_loss(model(X), Y).backward()
        optimizer.step()


pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")

FAULTS: dict[str, Callable[[], None]] = {
    name.upper(): program for name, program in sorted(globals().items()) if name.startswith("gk") and name[2:].isdigit()
}


def found_after(before: Callable[[], object], fault: str) -> tuple[list[str], list[str]]:
    """The rules that spoke of what came before, and those that spoke in all."""
    torch.manual_seed(0)
    with gradkit.watch(report="never") as monitor:
        kept = before()
        early = [finding.rule for finding in monitor.findings]
        FAULTS[fault]()
    del kept
    return early, [finding.rule for finding in monitor.findings]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("steps", "alive"), [(12, False), (5, True)])
def test_a_fault_in_the_second_model_is_found_as_in_the_first(fault: str, steps: int, alive: bool) -> None:
    early, found = found_after(lambda: sound(steps) if alive else bool(sound(steps)), fault)
    assert (early, found) == ([], [fault])


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("alive", [False, True], ids=["freed", "alive"])
@pytest.mark.parametrize("steps", [1, 5, 12, 200])
def test_whatever_the_first_model_did(fault: str, steps: int, alive: bool) -> None:
    early, found = found_after(lambda: sound(steps) if alive else bool(sound(steps)), fault)
    assert (early, found) == ([], [fault])


def many(models: int, alive: int, steps: int = 6) -> Callable[[], object]:
    return lambda: [*(bool(sound(steps)) for _ in range(models)), *(sound(steps) for _ in range(alive))]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_eleventh_model_is_found_as_in_the_first(fault: str) -> None:
    early, found = found_after(many(6, alive=4), fault)
    assert (early, found) == ([], [fault])


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("models", "alive"), [(1, 0), (6, 0), (60, 0), (0, 6)])
def test_however_many_came_before(fault: str, models: int, alive: int) -> None:
    early, found = found_after(many(models, alive), fault)
    assert (early, found) == ([], [fault])


# --- phases -----------------------------------------------------------------------------------------------------------


def fine_tuned(phase: str) -> list[str]:
    """Pretraining, of a head where more is unfrozen later, and training at a rate at which it diverges."""
    torch.manual_seed(0)
    with gradkit.watch(report="never") as monitor:
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
        if "unfrozen" in phase:
            model[0].requires_grad_(False)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        train(model, optimizer, 30)
        PHASES[phase](model)
        optimizer.param_groups[0]["lr"] = 10.0
        train(model, optimizer, 60)
    return [finding.rule for finding in monitor.findings]


def by_hand(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.requires_grad = True


PHASES: dict[str, Callable[[nn.Module], object]] = {
    "unfrozen": lambda model: model.requires_grad_(True),
    "unfrozen by hand": by_hand,
    "loaded": lambda model: model.load_state_dict(copy.deepcopy(model.state_dict())),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_new_phase_is_looked_at_as_the_first_was(phase: str) -> None:
    assert fine_tuned(phase) == ["GK404"]


def test_an_added_group_is_a_new_phase() -> None:
    torch.manual_seed(0)
    with gradkit.watch(report="never") as monitor:
        body, head = nn.Linear(8, 8), nn.Linear(8, 1)
        optimizer = sgd(head)
        for step in range(80):
            if step == 30:
                optimizer.add_param_group({"params": list(body.parameters())})
            optimizer.zero_grad()
            mse_loss(head(body(X).detach()), Y).backward()
            optimizer.step()
    assert [finding.rule for finding in monitor.findings] == ["GK203"]


def test_cells_of_one_session_are_watched_alike() -> None:
    """A notebook: one namespace, whose names are bound again by every cell."""
    cell = compile(
        "model = nn.Linear(8, 1)\noptimizer = sgd(model, rate)\ntrain(model, optimizer, 30)\n", "cell.py", "exec"
    )
    names = {"nn": nn, "sgd": sgd, "train": train}
    with gradkit.watch(report="never") as monitor:
        for rate in (0.1, 0.05, 0.02, 0.01, 0.0):
            exec(cell, {**names, "rate": rate})
    assert [finding.rule for finding in monitor.findings] == ["GK403"]


# --- what it costs ----------------------------------------------------------------------------------------------------

ROOT = str(Path(gradkit.__file__).parent)


class Calls:
    """Counts the calls of gradkit's own functions between `start` and `stop`."""

    def __init__(self) -> None:
        self.number = 0

    def _count(self, frame, event, argument) -> None:
        self.number += event == "call" and frame.f_code.co_filename.startswith(ROOT)

    def of(self, program: Callable[[], object]) -> int:
        before = self.number
        gc.collect()
        sys.setprofile(self._count)
        try:
            program()
        finally:
            sys.setprofile(None)
        return self.number - before


def test_a_sound_tenth_model_costs_what_the_second_did() -> None:
    calls = Calls()
    with gradkit.watch(report="never"):
        costs = [calls.of(lambda: sound(30)) for _ in range(10)]
    assert max(costs[1:]) < 1.25 * min(costs[1:])


def test_a_loop_that_makes_an_optimizer_in_every_step_is_not_looked_at_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "FREE_SUBJECTS", 10)
    model = nn.Linear(8, 1)
    calls = Calls()
    with gradkit.watch(report="never", budget=1e-9) as monitor:
        first = calls.of(lambda: [train(model, sgd(model), 1) for _ in range(50)])
        for _ in range(300):
            train(model, sgd(model), 1)
        later = calls.of(lambda: [train(model, sgd(model), 1) for _ in range(50)])
    assert monitor.findings == ()
    assert later < 0.75 * first


def test_later_subjects_have_their_looks_while_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(attention.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(attention, "FREE_SUBJECTS", 2)
    subjects = attention.Subjects(budget=0.01)
    assert not subjects.is_new(0), "nothing has stepped yet: all have just begun"
    assert subjects.is_new(1)
    assert not subjects.is_new(1)
    assert subjects.is_new(2)
    subjects.spent = 1.0
    now[0] = 99.0
    assert not subjects.is_new(3)
    now[0] = 101.0
    assert subjects.is_new(3)
