"""Observers that sleep hear nothing until they are due, and everything again afterwards."""

import torch
from torch import nn

from gradkit.observe.monitor import Monitor
from gradkit.observe.observer import Observer


class Listener(Observer):
    def __init__(self, monitor, pauses):
        super().__init__(monitor)
        self.pauses = dict(pauses)
        self.heard = []

    def enter_backward(self, roots, retain_graph, create_graph):
        self.heard.append(self.monitor.backwards)
        if self.monitor.backwards in self.pauses:
            self.monitor.pause(self, self.pauses[self.monitor.backwards])

    def enter_grad(self, roots, retain_graph, create_graph):
        self.heard.append("grad")


def heard(monkeypatch, pauses, backwards=10, starts=1):
    found = []

    def observers():
        return [lambda monitor: found.append(Listener(monitor, pauses)) or found[-1]]

    class Kind:
        kinds = ()

        def __new__(cls, monitor):
            return observers()[0](monitor)

    Kind.kinds = (object,)
    monkeypatch.setattr("gradkit.observe.roster.all_observers", lambda: [Kind])
    monitor = Monitor(report="never")
    monkeypatch.setattr(monitor.engine, "wants", lambda kind: True)
    weight = nn.Parameter(torch.ones(2))
    for _ in range(starts):
        with monitor:
            for _ in range(backwards):
                weight.sum().backward()
                weight.grad = None
            torch.autograd.grad(weight.sum(), weight)
    assert not monitor.findings
    return found[-1].heard, monitor


def test_a_sleeping_observer_is_called_again_at_the_due_backward(monkeypatch):
    assert heard(monkeypatch, {2: 5})[0] == [1, 2, 7, 8, 9, 10, "grad"]


def test_a_pause_without_end_lasts_and_turns_off_what_only_it_needed(monkeypatch):
    calls, monitor = heard(monkeypatch, {3: float("inf")})
    assert calls == [1, 2, 3]
    assert not monitor._steps.sees_grad


def test_resuming_ends_a_pause_once(monkeypatch):
    _, monitor = heard(monkeypatch, {3: float("inf")})
    (observer,) = monitor._roster._asleep
    monitor.resume(observer)
    monitor.resume(observer)
    assert len(monitor._roster.calls["enter_backward"]) == 1


def test_a_monitor_started_again_has_new_observers_only(monkeypatch):
    last, monitor = heard(monkeypatch, {3: 100}, starts=2)
    assert last == [*range(11, 21), "grad"]
    assert len(monitor._roster.calls["enter_backward"]) == 1
    assert monitor._roster.wakes_at == float("inf")


def test_sleepers_whose_times_are_close_wake_together(monkeypatch):
    monitor = Monitor(report="never")
    first, second, third = (Listener(monitor, {}) for _ in range(3))
    monitor.pause(first, 40)
    monitor.pause(second, 24)  # up to twice as long is near enough
    monitor.pause(third, 8)  # a short sleep is one of the first looks, and kept
    assert monitor._roster.wakes_at == 8
    monitor._roster.wake(8)
    assert monitor._roster.wakes_at == 40
    monitor._roster.wake(40)
    assert monitor._roster.wakes_at == float("inf")
