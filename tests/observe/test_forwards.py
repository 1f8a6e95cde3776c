"""Forwards are watched through global hooks for a while only, never where code is compiled, and survive exceptions."""

import warnings

import pytest
import torch
from torch import nn

import gradkit
from gradkit.observe.taps import events
from gradkit.observe.taps.containment import aside
from gradkit.observe.taps.forwards import FORWARDS
from gradkit.observe.taps.mode import INSTRUMENT
from gradkit.observe.taps.uncompiled import compiled_code_exists
from gradkit.observe.taps.witness import Witness


class Listener(events.Listener):
    def __init__(self, monitor=None):
        self.monitor = monitor
        self.seen = []

    def forward_ended(self, forward):
        self.seen.append(forward)


@pytest.fixture
def listener():
    found = Listener()
    assert FORWARDS.listen(found)
    yield found
    FORWARDS.leave(found)


@pytest.fixture
def fresh_compiler():
    import torch._dynamo

    yield
    torch._dynamo.reset()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))


def test_hears_of_whole_models_only(listener):
    model = network()
    model(torch.randn(8, 3))
    (forward,) = listener.seen
    assert (forward.module, forward.training, forward.recording) == (model, True, True)
    assert forward.active == ["BatchNorm1d", "Dropout"]
    assert [node.name() for node in forward.outputs] == ["AddmmBackward0"]


def test_tells_layers_that_gradients_flow_through(listener):
    model = network().eval()
    model(torch.randn(8, 3))
    model.requires_grad_(False)
    model(torch.randn(8, 3))
    assert [type(layer).__name__ for layer in listener.seen[0].inactive_over_gradients] == ["BatchNorm1d", "Dropout"]
    assert listener.seen[1].inactive_over_gradients == []
    assert listener.seen[1].outputs == []


def test_tells_calls_whose_result_is_dropped(listener):
    model = network()
    with torch.no_grad():
        model(torch.randn(8, 3))
        _ = model(torch.randn(8, 3))
        print(model(torch.randn(8, 3)).shape)
        kept = model(torch.randn(8, 3))
        model[0].register_forward_hook(lambda *_: None)
        model(torch.randn(8, 3))
    assert [forward.dropped for forward in listener.seen] == [True, True, False, False, False], kept


@pytest.mark.parametrize("layer", [nn.Dropout(0.0), nn.BatchNorm1d(3, track_running_stats=False), nn.LayerNorm(3)])
def test_ignores_layers_that_compute_the_same_in_both_modes(listener, layer):
    nn.Sequential(nn.Linear(3, 3), layer)(torch.randn(8, 3))
    assert listener.seen[0].active == []


def test_a_forward_that_raises_is_over(listener):
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError):
            model(torch.randn(8, 5))
    model(torch.randn(8, 3))
    assert [forward.failed for forward in listener.seen] == [True, False]


def test_several_outputs_are_all_seen(listener):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x, *, scale):
            return {"first": self.layer(x) * scale, "rest": [self.layer(x), x]}

    x = torch.randn(2, 3)
    Two()(x, scale=2.0)
    assert sorted(node.name() for node in listener.seen[0].outputs) == ["AddmmBackward0", "MulBackward0"]
    assert listener.seen[0].inputs[0]() is x


def test_no_hook_is_left_when_nobody_listens():
    found = Listener()
    FORWARDS.listen(found)
    FORWARDS.leave(found)
    FORWARDS.leave(found)
    assert not torch.nn.modules.module._global_forward_hooks


def test_compiling_takes_hooks_and_mode_off_before_anything_is_traced(fresh_compiler):
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(), gradkit.watch(report="never") as monitor:
        warnings.simplefilter("error")
        assert FORWARDS.attached
        INSTRUMENT.enter(Witness(monitor))
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        assert not FORWARDS.attached
        assert not INSTRUMENT.attached
        for _ in range(6):
            compiled(torch.randn(8, 3)).pow(2).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert compiled_code_exists()
    assert len(graphs) == 1
    assert monitor.findings == ()


@pytest.mark.parametrize("strict", [False, True])
def test_an_export_sees_no_hook(fresh_compiler, listener, strict):
    model, inputs = network().eval(), (torch.randn(8, 3),)
    before = torch.export.export(model, inputs, strict=strict).graph_module.code
    FORWARDS.listen(listener)
    assert FORWARDS.attached
    assert torch.export.export(model, inputs, strict=strict).graph_module.code == before
    assert not FORWARDS.attached


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_tracing_a_model_gives_the_same_graph_with_hooks(listener):
    model, inputs = network().eval(), torch.randn(8, 3)
    FORWARDS.leave(listener)
    before = torch.jit.trace(model, inputs).code
    FORWARDS.listen(listener)
    assert torch.jit.trace(model, inputs).code == before


def test_torch_disabling_its_compiler_is_no_compiled_code():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    optimizer.step()
    assert not compiled_code_exists()


def test_calls_of_gradkit_itself_are_not_seen_in_an_instrumented_window():
    class Counting(Witness):
        seen = 0

        def called(self, function, args, kwargs, result, before):
            self.seen += 1

    with gradkit.watch(report="never") as monitor:
        witness = Counting(monitor)
        assert INSTRUMENT.enter(witness)
        try:
            ones = torch.ones(())
            with aside():  # as whatever gradkit does in a program
                monitor.reader.read([ones])
            assert witness.seen == 1  # `ones` is this test's own
        finally:
            INSTRUMENT.leave(witness)


def test_a_witness_that_raises_is_contained_and_dropped():
    class Broken(Witness):
        def called(self, function, args, kwargs, result, before):
            raise ValueError("broken on purpose")

    with gradkit.watch(report="never") as monitor:
        witness = Broken(monitor)
        INSTRUMENT.enter(witness)
        assert torch.ones(2).sum().item() == 2.0
        INSTRUMENT.leave(witness)
    assert [finding.rule for finding in monitor.findings] == ["GK900"]


def test_a_monitor_instruments_five_windows_of_an_optimizer_at_most():
    with gradkit.watch(report="never") as monitor:
        entered = []
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
        for number in range(9):
            if number == 7:
                optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
            (optimizer.param_groups[0]["params"][0] * 2).sum().backward()
            optimizer.step()
            witness = Witness(monitor)
            entered.append(INSTRUMENT.enter(witness))
            INSTRUMENT.leave(witness)
    assert entered == [True] * 5 + [False] * 2 + [True] * 2
