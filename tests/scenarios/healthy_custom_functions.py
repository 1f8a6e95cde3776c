"""Correct programs with custom functions that return None for arguments on purpose: GK203 stays silent."""

import torch
from torch import nn
from torch.nn import functional as F

STEPS = 12


def run(model, steps=STEPS):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        x = torch.randn(8, 6)
        optimizer.zero_grad()
        F.mse_loss(model(x), x.sum(1, keepdim=True)).backward()
        optimizer.step()
    return model


class Body(nn.Module):
    """A layer, what a program does with its result, and a head."""

    def __init__(self, between):
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 1)
        self.extra = nn.Parameter(torch.ones(8))
        self.between = between
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return self.head(self.between(self, self.body(x)))


class Times(torch.autograd.Function):
    """A product whose backward treats the second factor as a constant."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(factor)
        return x * factor

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.strength * gradient, None


class Observed(torch.autograd.Function):
    """The input as it is, and beside it a figure to look at that depends on a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        return x.clone(), (x * factor).mean()

    @staticmethod
    def backward(ctx, gradient, to_figure):
        return gradient, None


class Labelled(torch.autograd.Function):
    """The input as it is; the second argument is carried along and not used."""

    @staticmethod
    def forward(ctx, x, label):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Recompute(torch.autograd.Function):
    """A checkpoint by hand, which passes on what an inner differentiation finds."""

    @staticmethod
    def forward(ctx, function, x, *parameters):
        ctx.function = function
        ctx.save_for_backward(x, *parameters)
        with torch.no_grad():
            return function(x)

    @staticmethod
    def backward(ctx, gradient):
        x, *parameters = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            result = ctx.function(x)
        found = torch.autograd.grad(result, [x, *parameters], gradient, allow_unused=True)
        return None, *found


class Choice(torch.autograd.Function):
    """One of several weights; the others have no gradient this time."""

    @staticmethod
    def forward(ctx, x, chosen, *weights):
        ctx.save_for_backward(x, *weights)
        ctx.chosen = chosen
        return x @ weights[chosen] + 0 * sum(weight.sum() for weight in weights)

    @staticmethod
    def backward(ctx, gradient):
        x, *weights = ctx.saved_tensors
        to_weights = [x.t() @ gradient if index == ctx.chosen else None for index in range(len(weights))]
        return gradient @ weights[ctx.chosen].t(), None, *to_weights


class Warm(torch.autograd.Function):
    """A product that learns its factor once the program says so."""

    learns = False

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x, factor)
        return x * factor

    @staticmethod
    def backward(ctx, gradient):
        x, factor = ctx.saved_tensors
        to_factor = None
        if Warm.learns:
            to_factor = (gradient * x).sum(0)
        return gradient * factor, to_factor


def healthy_frozen_factor():
    torch.manual_seed(1)
    model = Body(lambda net, hidden: Times.apply(hidden, net.extra))
    model.extra.requires_grad_(False)
    return run(model)


def healthy_factor_with_a_second_path():
    torch.manual_seed(2)
    return run(Body(lambda net, hidden: Times.apply(hidden, net.extra) + net.extra))


def healthy_factor_of_a_warm_up():
    torch.manual_seed(3)
    return run(Body(lambda net, hidden: Times.apply(hidden, net.extra) if net.passes < 100 else hidden * net.extra))


def healthy_backward_of_a_warm_up():
    torch.manual_seed(4)
    return run(Body(lambda net, hidden: Warm.apply(hidden, net.extra)))


def healthy_reversed_gradients():
    torch.manual_seed(5)
    model = Body(lambda net, hidden: Reversal.apply(hidden, 0.5) * net.extra)
    return run(model)


def healthy_factor_of_a_figure_beside_the_loss():
    torch.manual_seed(9)
    figures = []

    def between(net, hidden):
        hidden, figure = Observed.apply(hidden, net.extra)
        figures.append((figure * 1.0).item())
        return hidden

    return run(Body(between))


def healthy_argument_that_is_not_used():
    torch.manual_seed(10)
    return run(Body(lambda net, hidden: Labelled.apply(hidden, net.extra)))


def healthy_average_as_a_factor():
    """What something else moves is no trained parameter, whoever holds it."""
    torch.manual_seed(6)

    def between(net, hidden):
        with torch.no_grad():
            net.extra.lerp_(hidden.abs().amax(0), 0.1)
        return Times.apply(hidden, net.extra)

    return run(Body(between))


def healthy_recomputed_block_with_an_idle_head():
    torch.manual_seed(7)
    block, idle = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 2)
    model = Body(
        lambda net, hidden: Recompute.apply(block, hidden * net.extra, *block.parameters(), *idle.parameters())
    )
    model.block, model.idle = block, idle
    return run(model)


def healthy_chosen_weight():
    torch.manual_seed(8)
    weights = nn.ParameterList(0.3 * torch.randn(8, 8) for _ in range(3))
    model = Body(lambda net, hidden: Choice.apply(hidden * net.extra, 1, *weights))
    model.weights = weights
    return run(model)
