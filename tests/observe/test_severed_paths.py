"""Every way to cut a value off from autograd is named by operation and line; what only looks like one is silent."""

import contextlib
import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import gradkit


class Net(nn.Module):
    def __init__(self, cut):
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)
        self.cut = cut

    def forward(self, x):
        return self.head(self.cut(self, x))


def findings_of(cut, steps=8, prepare=None, **options):
    torch.manual_seed(0)
    model = Net(cut)
    if prepare is not None:
        prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradkit.watch(report="never", select=["GK203"], **options) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            model.step = step
            model(torch.randn(8, 4)).pow(2).mean().backward()
            optimizer.step()
    assert not [f for f in monitor.findings if f.rule == "GK900"], monitor.findings[0].evidence
    return monitor.findings


def detach(net, x):
    return net.body(x).detach()  # cut


def data(net, x):
    return net.body(x).data  # cut


def block(net, x):
    with torch.no_grad():  # cut
        hidden = net.body(x)
    return hidden * 1


def block_by_one_name(net, x):
    off = torch.no_grad()
    with off:  # cut
        hidden = net.body(x)
    return hidden * 1


def block_of_two(net, x):
    with torch.autocast("cpu", enabled=False), torch.no_grad():  # cut
        hidden = net.body(x)
    return hidden * 1


def _cut_always(x):
    return x.detach()  # cut


def helper(net, x):
    return _cut_always(net.body(x))


def _more_than_a_cut(net, x):
    return torch.tanh(net.body(x).detach())  # cut


def helper_of_some_steps(net, x):
    if net.step >= 0:
        return _more_than_a_cut(net, x)
    return x


@torch.no_grad()  # cut
def _hidden(net, x):
    return net.body(x)


def decorated(net, x):
    return _hidden(net, x)


def inference(net, x):
    with torch.inference_mode():
        hidden = net.body(x)  # cut
    return hidden.clone()


def rewrapped(net, x):
    return torch.tensor(net.body(x).tolist())  # cut


def listed(net, x):
    return torch.as_tensor([[value.item() for value in row] for row in net.body(x)])  # cut


def numpy_round_trip(net, x):
    array = np.exp(net.body(x).detach().numpy())  # cut
    return torch.from_numpy(array)


def chosen(net, x):
    return F.one_hot(net.body(x).argmax(1), 6).float()  # cut


def rounded(net, x):
    return net.body(x).int().float()  # cut


def compared(net, x):
    return (net.body(x) > 0).float()  # cut


def reentrant(net, x):
    return checkpoint(net.body, x, use_reentrant=True)  # cut


def buffered(net, x):
    store = torch.zeros(8, 6)
    with torch.no_grad():  # cut
        store.copy_(net.body(x))
    return store


def new_leaf(net, x):
    return net.body(x).detach().requires_grad_()  # cut


def aliased(net, x):
    store = torch.zeros(8, 6)
    store.data.copy_(net.body(x).data)  # cut
    return store


def number_beside(net, x):
    return F.pad(x, (0, 2)) * net.body(x).mean().item()  # cut


def number_doubled_beside(net, x):
    factor = net.body(x).mean().item() * 2.0
    return F.pad(x, (0, 2)) * factor  # cut


def parameter_again(net, x):
    hidden = nn.Parameter(net.body(x))  # cut
    return hidden * 1.0


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight.t(), x.t() @ gradient


class Unconnected(Product):
    @staticmethod
    def forward(ctx, x, weight):
        result = x @ weight  # cut
        ctx.mark_non_differentiable(result)
        return result


def before_a_function(net, x):
    hidden = net.body(x).detach()  # cut
    return Product.apply(hidden, net.head.weight.t()).repeat(1, 3)


def without_a_derivative(net, x):
    return Unconnected.apply(net.body(x), torch.ones(6, 6))


CUTS = {
    detach: "detach",
    data: ".data",
    block: "linear",
    block_by_one_name: "linear",
    block_of_two: "linear",
    helper: "detach",
    helper_of_some_steps: "detach",
    decorated: "linear",
    inference: "linear",
    rewrapped: "tensor",
    listed: "as_tensor",
    numpy_round_trip: "detach",
    chosen: "argmax",
    rounded: "int",
    compared: "gt",
    reentrant: "linear",
    buffered: "linear",
    new_leaf: "detach",
    aliased: ".data",
    parameter_again: "Parameter",
    before_a_function: "detach",
    without_a_derivative: "matmul",
    number_beside: "mul",
    number_doubled_beside: "mul",
}


ELSEWHERE = {
    decorated: _hidden,
    helper: _cut_always,
    helper_of_some_steps: _more_than_a_cut,
    without_a_derivative: Unconnected,
}


def line_of(function):
    lines, first = inspect.getsourcelines(getattr(function, "__wrapped__", function))
    return next(first + index for index, text in enumerate(lines) if "# cut" in text)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
def test_names_operation_and_line(cut):
    (finding,) = findings_of(cut)
    assert finding.rule == "GK203"
    assert finding.evidence["operation"].rstrip("_") == CUTS[cut]
    assert finding.location.line == line_of(ELSEWHERE.get(cut, cut))
    assert finding.parameters == ("body.weight", "body.bias")
    assert finding.modules == ("body",)


def second_path(net, x):
    hidden = net.body(x)
    return hidden + hidden.detach()


def through_a_function(net, x):
    return Product.apply(net.body(x), torch.ones(6, 6))


def straight_through(net, x):
    hidden = net.body(x)
    return hidden + (hidden.round() - hidden).detach()


def logged(net, x):
    hidden = net.body(x)
    net.log = (hidden.argmax(1).sum().item(), hidden.detach().mean(), hidden.mean().item())
    return hidden


def unused_module(net, x):
    return F.pad(x, (0, 2))


def unused_output(net, x):
    net.body(x)
    return F.pad(x, (0, 2))


def _doubled(net, x):
    return net.body(x).mean().item() * 2.0


def number_of_another_function(net, x):
    """Python doubles the number out of sight, and hands it to another function: silence rather than a guess."""
    return F.pad(x, (0, 2)) * _doubled(net, x)


def decorated_for_a_while(net, x):
    if net.step < 100:
        return _hidden(net, x)
    return net.body(x)


def warm_up(net, x):
    hidden = net.body(x)
    if net.step < 100:
        hidden = hidden.detach()
    return hidden


def warm_up_by_switch(net, x):
    with torch.set_grad_enabled(net.step >= 100):
        hidden = net.body(x)
    return hidden * 1


def warm_up_by_expression(net, x):
    hidden = net.body(x)
    return hidden.detach() if net.step < 100 else hidden


def warm_up_by_a_context_chosen_before(net, x):
    context = torch.no_grad() if net.step < 100 else contextlib.nullcontext()
    with context:
        hidden = net.body(x)
    return hidden * 1


def warm_up_by_a_context_of_two(net, x):
    off = torch.enable_grad
    if net.step < 100:
        off = torch.no_grad
    with off():
        hidden = net.body(x)
    return hidden * 1


def _within(context, net, x):
    with context:
        return net.body(x)


def context_handed_in(net, x):
    return _within(torch.no_grad(), net, x) * 1


def _stopped(x):
    """A helper that only cuts."""
    return x.detach()


def warm_up_by_a_helper(net, x):
    hidden = net.body(x)
    if net.step < 100:
        hidden = _stopped(hidden)
    return hidden


def _body_without_gradients(net, x):
    with torch.no_grad():
        return net.body(x)


def warm_up_by_another_way(net, x):
    return (_body_without_gradients(net, x) if net.step < 100 else net.body(x)) * 1


def written_into_slices(net, x):
    out = torch.zeros(8, 6)
    out[:, :3] = net.body(x)[:, :3]
    out[:, 3:] = net.body(x)[:, 3:].detach()
    return out


def logged_array_then_new_data(net, x):
    """Numbers of an unused output leave for a log; the batch made of other numbers afterwards has nothing of them."""
    net.log = (net.body(x).detach().numpy().round(2), net.body(x).argmax(1).tolist(), net.body(x).mean().item())
    labels = torch.tensor([float(index) for index in range(8)])
    batch = torch.from_numpy(np.linspace(0.0, 1.0, 48).reshape(2, 4, 6)).float()
    return batch.reshape(8, 6) + labels[:, None]


QUIET = (
    logged_array_then_new_data,
    second_path,
    straight_through,
    through_a_function,
    logged,
    unused_module,
    unused_output,
    number_of_another_function,
    decorated_for_a_while,
    warm_up,
    warm_up_by_switch,
    warm_up_by_expression,
    warm_up_by_a_context_chosen_before,
    warm_up_by_a_context_of_two,
    context_handed_in,
    warm_up_by_a_helper,
    warm_up_by_another_way,
    written_into_slices,
)


@pytest.mark.parametrize("path", QUIET, ids=lambda path: path.__name__)
def test_stays_silent(path):
    assert findings_of(path, steps=40) == ()


def test_frozen_parameters_are_no_suspects():
    assert findings_of(detach, prepare=lambda model: model.body.requires_grad_(False)) == ()


def test_declared_frozen_parameters_are_meant():
    assert findings_of(detach, frozen=("body.*",)) == ()


def test_what_something_else_moves_is_meant():
    def averaged(net, x):
        with torch.no_grad():
            net.body.weight.mul_(0.9).add_(0.1 * net.head.weight.mean())
            net.body.bias.mul_(0.9).add_(0.1)
        return net.body(x).detach()

    assert findings_of(averaged) == ()


def test_a_copy_of_what_is_trained_is_meant():
    def targets(net, x):
        with torch.no_grad():
            goal = net.target(x)
        return net.body(x) - goal

    def prepare(model):
        model.target = nn.Linear(4, 6)
        model.target.load_state_dict(model.body.state_dict())

    def independent(model):
        model.target = nn.Linear(4, 6)

    assert findings_of(targets, prepare=prepare) == ()
    assert len(findings_of(targets, prepare=independent)) == 1


def test_a_part_that_runs_whole_in_eval_mode_is_a_warning():
    (finding,) = findings_of(block, prepare=lambda model: model.body.eval())
    assert finding.severity.value == "warning"
    assert "requires_grad_(False)" in finding.remedy


@pytest.mark.parametrize(("steps", "count"), [(5, 0), (6, 1)])
def test_needs_five_steps_and_one_to_prove_it(steps, count):
    assert len(findings_of(detach, steps=steps)) == count


def test_a_default_device_and_a_device_context_stay_in_place():
    torch.set_default_device("cpu")
    try:
        with torch.device("cpu"):
            assert len(findings_of(detach)) == 1
        assert len(findings_of(detach)) == 1
    finally:
        torch.set_default_device(None)
    assert torch._C._len_torch_function_stack() == 0


def test_an_optimizer_of_the_cut_part_alone_is_left_to_gk103():
    torch.manual_seed(0)
    model = Net(detach)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.body, model.head)]
    with gradkit.watch(report="never", select=["GK203"]) as monitor:
        for _ in range(12):
            model(torch.randn(8, 4)).pow(2).mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert monitor.findings == ()
