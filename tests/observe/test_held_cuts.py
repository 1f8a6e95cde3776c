"""A proven cut waits for the end of the run: whatever trains or moves what is behind it takes it back."""

import gc
import weakref

import pytest
import torch
from torch import nn

import gradkit

EARLY = 8
"""Steps with the cut: more than are needed to prove it."""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.body(x))

    def head_only(self, x):
        return self.head(self.body(x).detach())


def train(model, optimizer, forward, steps=EARLY):
    for _ in range(steps):
        optimizer.zero_grad()
        forward(torch.randn(8, 4)).pow(2).mean().backward()
        optimizer.step()


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), lr=0.1, **options)


def findings_of(*stages, **options):
    """Findings of a run in which each stage is called with the model and its optimizer, after one with the cut."""
    torch.manual_seed(0)
    with gradkit.watch(report="never", select=["GK203"], **options) as monitor:
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer, model.head_only)
        for stage in stages:
            stage(model, optimizer)
        assert monitor.findings == ()  # nothing is said while a later stage may come
    assert monitor.attached == ()
    assert not [f for f in monitor.findings if f.rule == "GK900"], monitor.findings[0].evidence
    return monitor.findings


def all_of_it(model, optimizer):
    train(model, optimizer, model, steps=1)


def after_a_long_sleep(model, optimizer):
    train(model, optimizer, model.head_only, steps=70)
    train(model, optimizer, model, steps=1)


def by_an_optimizer_of_its_own(model, _):
    optimizer = sgd(model)
    train(model, optimizer, model, steps=2)


def bias_alone(model, optimizer):
    optimizer.zero_grad()
    (model(torch.randn(8, 4)).sum() + model.body.bias.sum()).backward()
    optimizer.step()
    optimizer.zero_grad()


def gradient_set_by_hand(model, optimizer):
    model.body.weight.grad = torch.ones_like(model.body.weight)


def one_number_moved(model, optimizer):
    model.body.weight.data[-1, -1] += 1e-3


def storage_exchanged(model, optimizer):
    model.body.weight.data = model.body.weight.data * 2


def frozen_in_the_end(model, optimizer):
    model.body.requires_grad_(False)


TAKEN_BACK = (
    all_of_it,
    after_a_long_sleep,
    by_an_optimizer_of_its_own,
    bias_alone,
    gradient_set_by_hand,
    one_number_moved,
    storage_exchanged,
    frozen_in_the_end,
)


@pytest.mark.parametrize("stage", TAKEN_BACK, ids=lambda stage: stage.__name__)
def test_is_taken_back(stage):
    assert findings_of(stage) == ()


def more_of_the_same(model, optimizer):
    train(model, optimizer, model.head_only, steps=30)


def evaluated_and_restored(model, optimizer):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model(torch.randn(8, 4))
    model.load_state_dict(state)


@pytest.mark.parametrize(("stage", "steps"), [(more_of_the_same, EARLY + 30), (evaluated_and_restored, EARLY)])
def test_holds_to_the_end(stage, steps):
    (finding,) = findings_of(stage)
    assert (finding.first_step, finding.evidence["steps"]) == (5, steps)
    assert f"had no gradient in {steps} steps" in finding.message


def test_holds_when_training_ends_in_an_exception():
    def raises(model, optimizer):
        raise KeyError("no such batch")

    monitor = gradkit.watch(report="never", select=["GK203"])
    with pytest.raises(KeyError), monitor:
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer, model.head_only)
        raises(model, optimizer)
    assert [finding.rule for finding in monitor.findings] == ["GK203"]


def test_halts_no_run_that_may_go_on_to_another_stage():
    assert findings_of(all_of_it, halt_on="error") == ()
    assert len(findings_of(halt_on="error")) == 1


def test_live_findings_come_at_the_end():
    found = []
    findings_of(all_of_it, on_finding=found.append)
    assert found == []
    findings_of(on_finding=found.append)
    assert [finding.rule for finding in found] == ["GK203"]


def test_the_hooks_are_listed_and_taken_off():
    with gradkit.watch(report="never", select=["GK203"]) as monitor:
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer, model.head_only)
        assert "gradient hooks" in monitor.attached
        assert len(model.body.weight._post_accumulate_grad_hooks) == 1
        train(model, optimizer, model, steps=1)
        assert not model.body.weight._post_accumulate_grad_hooks
    assert not model.body.bias._post_accumulate_grad_hooks


def test_keeps_nothing_alive_beyond_the_optimizer():
    with gradkit.watch(report="never", select=["GK203"]) as monitor:
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer, model.head_only)
        weight = weakref.ref(model.body.weight)
        del model, optimizer
        gc.collect()
        assert weight() is None
    assert [finding.evidence["steps"] for finding in monitor.findings] == [EARLY]


def test_a_movement_is_seen_when_optimizer_and_model_die_together():
    def run(moves):
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer, model.head_only)
        if moves:
            model.body.weight.data = torch.zeros(6, 4)

    for moves in (True, False):
        with gradkit.watch(report="never", select=["GK203"]) as monitor:
            run(moves)
            gc.collect()
        assert len(monitor.findings) == (not moves)


def test_every_cut_is_judged_under_halt_on():
    class Two(Net):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(4, 6)

        def head_only(self, x):
            hidden = self.body(x).detach()
            chosen = self.other(x) > 0
            return self.head(hidden + chosen)

    with gradkit.watch(report="never", select=["GK203"], halt_on="error") as monitor:
        model = Two()
        optimizer = sgd(model)
        train(model, optimizer, model.head_only)
    assert sorted(finding.evidence["operation"] for finding in monitor.findings) == ["detach", "gt"]


class Layers(nn.Module):
    """Trained one layer after the other, each on the features of those before it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))

    def up_to(self, index):
        def forward(x):
            for layer in self.layers[:index]:
                x = layer(x).detach()
            return self.heads[index](self.layers[index](x))

        return forward


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_what_was_trained_while_nobody_looked_counts(kind):
    torch.manual_seed(0)
    with gradkit.watch(report="never", select=["GK203"]) as monitor:
        model = Layers()
        optimizer = kind(model.parameters(), lr=0.1)
        for index, steps in enumerate((32, 50, 300)):
            train(model, optimizer, model.up_to(index), steps=steps)
    assert monitor.findings == ()


@pytest.mark.parametrize(
    ("kind", "options"), [("Adam", {}), ("SGD", {"momentum": 0.9}), ("RMSprop", {}), ("Adagrad", {})]
)
@pytest.mark.parametrize("trained", [True, False])
def test_what_was_trained_before_the_watch_counts(kind, options, trained):
    torch.manual_seed(0)
    model = Net()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01, **options)
    train(model, optimizer, model if trained else model.head_only)
    with gradkit.watch(report="never", select=["GK203"]) as monitor:
        train(model, optimizer, model.head_only)
    assert len(monitor.findings) == (not trained)
