"""Gradkit's mistakes stay in, and whatever the program, another thread or a debugger raises passes through."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import gradkit
from gradkit.interruptions import comes_from_outside
from gradkit.observe.windows.steps import Steps


class TimeOut(Exception):
    """The program's own."""


def ring(*_: Any) -> None:
    raise TimeOut


class Bell:
    def ring(self, number: int, frame: Any) -> None:
        del frame
        raise TimeoutError(number)

    def __call__(self, number: int, frame: Any) -> None:
        del number, frame
        raise RuntimeError("the bell rang")


HANDLERS: dict[str, tuple[Any, type[Exception]]] = {
    "function": (ring, TimeOut),
    "lambda": (lambda number, frame: ring(), TimeOut),
    "method": (Bell().ring, TimeoutError),
    "object": (Bell(), RuntimeError),
    "partial": (functools.partial(ring, 1), TimeOut),
}


@pytest.fixture
def loop() -> Callable[[int], None]:
    """Steps on gradients that pile up, or are cleared now and then: gradkit has something to do at every one."""
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(12)])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    inputs = torch.randn(2, 4)

    def step(number: int) -> None:
        model(inputs).sum().backward()
        optimizer.step()
        if number % 2:
            optimizer.zero_grad()

    return step


def struck(strike: Callable[[], Any], kind: type[Exception], step: Callable[[int], None]) -> tuple[int, int]:
    """How often an exception reached the program and how often it did not, struck at every line of gradkit's in turn.

    `strike` is called when a line of gradkit's is about to run, on behalf of a signal handler or another thread.
    """
    caught = lost = 0
    lines = 0
    due = 0

    def follow(frame: Any, event: str, arg: Any) -> Any:
        nonlocal lines
        if "/gradkit/observe/" not in frame.f_code.co_filename or "interruptions" in frame.f_code.co_filename:
            return None
        lines += event == "line"
        if lines == due:
            lines += 1
            strike()
        return follow

    gc.collect()
    gc.disable()  # Python itself loses what is raised while it frees an object
    for number in range(40):
        lines, due = 0, 1 + number * number // 16
        sys.settrace(follow)
        try:
            step(number)
        except kind:
            caught += 1
        else:
            lost += lines >= due
        finally:
            sys.settrace(None)
    gc.enable()
    return caught, lost


@pytest.mark.parametrize("name", HANDLERS)
def test_no_exception_of_a_signal_handler_is_lost(name: str, loop: Callable[[int], None]) -> None:
    handler, kind = HANDLERS[name]
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with gradkit.watch(report="never") as monitor:
            caught, lost = struck(lambda: signal.raise_signal(signal.SIGUSR1), kind, loop)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught > 20
    assert lost == 0
    assert "GK900" not in [finding.rule for finding in monitor.findings]


@pytest.mark.parametrize("kind", [TimeOut, TimeoutError])
def test_no_exception_that_another_thread_injects_is_lost(kind: type[Exception], loop: Callable[[int], None]) -> None:
    ident = ctypes.c_ulong(threading.get_ident())

    def inject() -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(kind))

    with gradkit.watch(report="never") as monitor:
        caught, lost = struck(inject, kind, loop)
    assert caught > 20
    assert lost == 0
    assert "GK900" not in [finding.rule for finding in monitor.findings]


def test_a_debugger_that_quits_inside_gradkit_is_obeyed(loop: Callable[[int], None]) -> None:
    class Quit(Exception):
        pass

    def debugger(frame: Any, event: str, arg: Any) -> Any:
        if "gradkit/observe" in frame.f_code.co_filename and event == "line":
            raise Quit
        return debugger

    with gradkit.watch(report="never") as monitor:
        loop(0)
        sys.settrace(debugger)
        try:
            with pytest.raises(Quit):
                loop(1)
        finally:
            sys.settrace(None)
    assert monitor.findings == ()


def outside(function: Callable[[], Any]) -> bool:
    try:
        function()
    except Exception as error:
        return comes_from_outside(error)
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("name", HANDLERS)
def test_a_signal_handler_is_known_by_its_code_or_by_what_it_was_given(name: str) -> None:
    before = signal.signal(signal.SIGUSR1, HANDLERS[name][0])
    try:
        assert outside(lambda: signal.raise_signal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_mistakes_are_told_from_interruptions() -> None:
    def own() -> None:
        raise TimeOut

    def without_words() -> None:
        raise RuntimeError

    def asserted() -> None:
        assert not 1

    for mistake in (own, without_words, asserted, lambda: next(iter(())), lambda: {}["key"], lambda: None.grad):
        assert not outside(mistake)
    assert not outside(lambda: ring(3, None))
    assert outside(lambda: ring(3, sys._getframe(0)))


def test_after_an_interruption_nothing_is_claimed_of_the_window(loop: Callable[[int], None]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = signal.signal(signal.SIGUSR1, ring)
    original = Steps.before_step

    def rung(self: Any, *args: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)

    try:
        with gradkit.watch(report="never") as monitor:
            for number in range(12):
                model(torch.randn(8, 4)).sum().backward()
                Steps.before_step = rung if number == 5 else original  # type: ignore[method-assign]
                try:
                    optimizer.step()
                except TimeOut:
                    continue  # the gradients stay, as they do without gradkit
                finally:
                    Steps.before_step = original  # type: ignore[method-assign]
                optimizer.zero_grad()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert monitor.findings == ()


# --- stepping aside ---------------------------------------------------------------------------------------------------


class Noise(TorchFunctionMode):
    """Draws a number at every call that it sees."""

    calls = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Noise.calls += 1
        torch.rand(())
        return function(*args, **(kwargs or {}))


class Count(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Count.calls += 1
        return function(*args, **(kwargs or {}))


class Seen(nn.Parameter):
    """A parameter that counts what is done with it."""

    calls = 0

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Seen.calls += 1
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))


def faulty(model: nn.Module, steps: int = 16, clear: int = 3) -> Iterator[None]:
    """A loop that gives gradkit something to measure: gradients pile up, a cut, an evaluation, two optimizers."""
    head, side = nn.Linear(8, 1), nn.Linear(8, 1)
    first = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=1e-3)
    second = torch.optim.SGD(side.parameters(), lr=1e-3)
    inputs, targets = torch.randn(16, 3), torch.randn(16, 1)
    for number in range(steps):
        ((head(model(inputs)) - targets) ** 2).mean().backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        first.step()
        side(model(inputs).detach()).mean().backward()
        second.step()
        second.zero_grad()
        if number % clear == 0:
            first.zero_grad()
        if number % 8 == 5:
            model.eval()
            with torch.no_grad():
                model(inputs)
            model.train()
        yield


def ends(program: Callable[[], Any], **options: Any) -> tuple[Any, ...]:
    """What a program computes and saw, and the state of the random numbers after it."""
    Noise.calls = Count.calls = Seen.calls = 0
    torch.manual_seed(0)
    if options.pop("watched"):
        with gradkit.watch(report="never", **options) as monitor:
            result = program()
        assert "GK900" not in [finding.rule for finding in monitor.findings], monitor.findings
        assert monitor.findings, "the loop is faulty"
    else:
        result = program()
    return result, Noise.calls, Count.calls, Seen.calls, torch.get_rng_state().sum().item()


def model_of(parameter: type[nn.Parameter] = nn.Parameter) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 8))
    for layer in (model[0], model[2]):
        layer.weight = parameter(layer.weight.detach())
    return model


def digest(model: nn.Module) -> float:
    with torch._C.DisableTorchFunction():
        return sum(float(parameter.detach().double().sum()) for parameter in model.parameters())


def under(*contexts: Callable[[], Any], parameter: type[nn.Parameter] = nn.Parameter) -> Callable[[], float]:
    def program() -> float:
        with contextlib.ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            model = model_of(parameter)
            for _ in faulty(model):
                pass
        return digest(model)

    return program


@contextlib.contextmanager
def in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


PROGRAMS = {
    "function mode": under(Noise),
    "two function modes": under(Noise, Noise),
    "dispatch mode": under(Count),
    "both modes": under(Noise, Count),
    "subclass": under(parameter=Seen),
    "subclass in modes": under(Noise, Count, parameter=Seen),
    "autocast": under(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "default device": under(lambda: torch.device("cpu")),
    "default dtype": under(in_double),
    "anomaly mode": under(lambda: torch.autograd.set_detect_anomaly(True, check_nan=False)),
}


@pytest.mark.parametrize("deep", [False, True], ids=["standard", "deep"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_program_has_switched_on_sees_nothing_of_gradkit(name: str, deep: bool) -> None:
    program = PROGRAMS[name]
    assert ends(program, watched=True, deep=deep) == ends(program, watched=False)


def test_a_profiler_shows_what_the_program_does_and_nothing_else() -> None:
    def program() -> dict[str, int]:
        model = model_of()
        loop = faulty(model, steps=6)
        next(loop)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in loop:
                pass
        return {event.key: event.count for event in profiler.key_averages()}

    assert ends(program, watched=True)[0] == ends(program, watched=False)[0]


def test_a_sink_of_the_programs_own_runs_under_its_modes() -> None:
    made: list[Tensor] = []
    torch.manual_seed(0)
    with gradkit.watch(report="never", on_window=lambda window: made.append(torch.zeros(1))), torch.device("meta"):
        with torch.device("cpu"):
            model = model_of()
            loop = faulty(model, steps=2)
            next(loop)
        torch.optim.SGD([nn.Parameter(torch.zeros(1, device="cpu"))], lr=0.1).step()
    assert {tensor.device.type for tensor in made} == {"cpu", "meta"}
