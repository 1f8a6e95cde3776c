"""Two thousand mistakes of gradkit's own, one at a time, anywhere in the observer: contained, told, and never felt."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import math
import pkgutil
import random
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradkit
import gradkit.engine
import gradkit.observe
import gradkit.rules
from gradkit.observe.taps import containment
from tests.observe.leaks import surroundings

IN_EVERY_RUN = 25
ALL = 2000


class Planted(RuntimeError):
    """The mistake."""


# --- programs: what a step of training may be, in a few steps each ----------------------------------------------------


def data(*, size: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 4), torch.randn(size, 1)


def plain(steps: int = 12) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        inputs, targets = data()
        optimizer.zero_grad()
        ((model(inputs) - targets) ** 2).mean().backward()
        optimizer.step()
    return model


def scheduled() -> nn.Module:
    """As Lightning does: closures, clipping, a sanity check before training, a validation and schedules that step."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.ChainedScheduler(
        [torch.optim.lr_scheduler.StepLR(optimizer, 2), torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]
    )
    loader = torch.utils.data.DataLoader(list(zip(*data(size=16), strict=True)), batch_size=8)

    def validate() -> None:
        model.eval()
        with torch.no_grad():
            for inputs, targets in loader:
                nn.functional.mse_loss(model(inputs), targets)
        model.train()

    validate()
    for _ in range(3):
        for inputs, targets in loader:

            def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(inputs), targets)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                return loss

            optimizer.step(closure)
        schedule.step()
        validate()
    return model


def adversarial() -> nn.Module:
    generator, critic = nn.Linear(4, 4), nn.Linear(4, 1)
    first = torch.optim.Adam(generator.parameters(), lr=0.01)
    second = torch.optim.Adam(critic.parameters(), lr=0.01)
    for _ in range(5):
        made = generator(torch.randn(8, 4))
        second.zero_grad()
        gradient = torch.autograd.grad(critic(made).sum(), made, create_graph=True, retain_graph=True)[0]
        (critic(made.detach()).mean() + gradient.pow(2).mean()).backward()
        second.step()
        first.zero_grad()
        (-critic(generator(torch.randn(8, 4))).mean()).backward()
        first.step()
    return nn.ModuleList([generator, critic])


def second_order() -> nn.Module:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    inputs, targets = data()
    for _ in range(4):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            return loss

        optimizer.step(closure)
    return model


def accumulated() -> nn.Module:
    """With what gradkit has findings about: a tail that is not divided, a cut, gradients that are never cleared."""
    body, head = nn.Linear(4, 4), nn.Linear(4, 1)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01)
    kept: list[Tensor] = []
    for number in range(1, 25):
        inputs, targets = data()
        loss = nn.functional.mse_loss(head(body(inputs).detach()), targets) / 3
        loss.backward(retain_graph=number % 5 == 0)
        kept.append(loss)
        if number % 3 == 0:
            optimizer.step()
            if number % 2:
                optimizer.zero_grad()
    return nn.ModuleList([body, head])


PROGRAMS = (plain, scheduled, adversarial, second_order, accumulated)


# --- functions of gradkit's -------------------------------------------------------------------------------------------


def modules() -> Iterator[types.ModuleType]:
    """Everything that runs while a program trains; the containment itself is what is being tested."""
    for package in (gradkit.observe, gradkit.rules):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            if module is not containment:
                yield module
    yield gradkit.engine


def functions() -> list[tuple[Any, str]]:
    """(owner, name) of every function and method that is looked up when it is called."""
    found: list[tuple[Any, str]] = []
    for module in modules():
        for name, item in vars(module).items():
            if isinstance(item, types.FunctionType) and item.__module__ == module.__name__:
                found.append((module, name))
            elif isinstance(item, type) and item.__module__ == module.__name__:
                found += [
                    (item, method)
                    for method, value in vars(item).items()
                    if (isinstance(value, types.FunctionType) and not method.startswith("__")) or method == "__init__"
                ]
    return [(owner, name) for owner, name in found if not _is_public(owner, name)]


_AROUND = ("run_backward", "enter_backward", "leave_backward", "before_step", "after_step")
"""Events of the tap that are their own containment: what they call is broken, not they."""


def _is_public(owner: Any, name: str) -> bool:
    """What a program calls itself and hears its mistakes from, and what the containment consists of."""
    # What takes a wrapper off cannot be broken: nothing else could, and a wrapper without listeners does nothing.
    called = {"Monitor": ("start", "stop"), "Tap": _AROUND, "_Place": ("take_off",)}
    return (owner is gradkit.observe.monitor and name == "watch") or name in called.get(
        getattr(owner, "__name__", ""), ()
    )


class Mistake:
    """Raises at one call of one function, before or after its real work."""

    def __init__(self, owner: Any, name: str, call: float, *, late: bool = False) -> None:
        self.owner, self.name = owner, name
        self.call = call
        self.calls = 0
        self.late = late

    @property
    def raised(self) -> bool:
        return self.calls >= self.call

    def __enter__(self) -> None:
        self.original = original = vars(self.owner)[self.name]
        # What the containment stands around is broken inside of it, not instead of it.
        free = dict(zip(original.__code__.co_freevars, original.__closure__ or (), strict=True))
        self.cell = free.get("inner")
        real = original if self.cell is None else self.cell.cell_contents

        @functools.wraps(real)
        def function(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls != self.call:
                return real(*args, **kwargs)
            if self.late:
                real(*args, **kwargs)
            raise Planted(f"in {self.name}")

        function.__code__ = function.__code__.replace(co_filename="<gradkit, with a mistake>")
        self.real = real
        if self.cell is None:
            setattr(self.owner, self.name, function)
        else:
            self.cell.cell_contents = function

    def __exit__(self, *_: object) -> None:
        if self.cell is None:
            setattr(self.owner, self.name, self.original)
        else:
            self.cell.cell_contents = self.real


def ends(
    program: Callable[[], nn.Module], mistakes: Sequence[Mistake] | None = None, *, deep: bool = False
) -> tuple[tuple[Any, ...], list[str]]:
    """What a program computes, the state of the random numbers after it, and the codes that were found."""
    torch.manual_seed(0)
    codes: list[str] = []
    if mistakes is not None:
        monitor = gradkit.watch(report="never", deep=deep)
        with contextlib.ExitStack() as stack:
            for mistake in mistakes:
                stack.enter_context(mistake)
            monitor.start()
            try:
                model = program()
            finally:
                monitor.stop()
        codes = [finding.rule for finding in monitor.findings]
    else:
        model = program()
    weights = tuple(parameter.detach().double().sum().item() for parameter in model.parameters())
    return (*weights, torch.get_rng_state().sum().item()), codes


Places = dict[tuple[int, bool], list[tuple[Any, str, int]]]


@functools.cache
def met() -> Places:
    """The functions that a program meets, and how often, by the number of the program and whether all is measured."""
    found: Places = {}
    for number, program in enumerate(PROGRAMS):
        for deep in (False, True):
            counted = [Mistake(owner, name, math.inf) for owner, name in functions()]
            ends(program, counted, deep=deep)
            found[number, deep] = [(each.owner, each.name, each.calls) for each in counted if each.calls]
    return found


@functools.cache
def bare(number: int) -> tuple[Any, ...]:
    return ends(PROGRAMS[number])[0]


def plant(seed: int) -> str:
    """What went wrong with one mistake; empty when it was contained and told."""
    chance = random.Random(f"mistake {seed}")
    number, deep = chance.randrange(len(PROGRAMS)), chance.random() < 0.2
    while True:
        owner, name, calls = chance.choice(met()[number, deep])
        mistake = Mistake(owner, name, chance.randint(1, calls), late=chance.random() < 0.3)
        gc.collect()  # what died in an earlier run is not told in this one
        before = surroundings()
        path = f"{getattr(owner, '__module__', '')}.{getattr(owner, '__name__', '')}.{name}"
        where = f"{path}, call {mistake.call} in {PROGRAMS[number].__name__}"
        try:
            result, codes = ends(PROGRAMS[number], [mistake], deep=deep)
        except Exception as error:
            return f"{where}: left as {error!r}"
        if not mistake.raised:
            continue  # what is measured depends on the time there is
        if result != bare(number):
            return f"{where}: the program ended otherwise"
        if "GK900" not in codes:
            return f"{where}: not told"
        return f"{where}: something is still attached" if surroundings() != before else ""


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, IN_EVERY_RUN), pytest.param(IN_EVERY_RUN, ALL, marks=pytest.mark.slow)],
    ids=["a few", "all"],
)
def test_a_mistake_anywhere_is_contained_and_told(first: int, last: int) -> None:
    assert min(len(places) for places in met().values()) > 100
    wrong = [found for number in range(first, last) if (found := plant(number))]
    assert wrong == []
