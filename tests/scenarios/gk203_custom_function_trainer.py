"""A trainer class over three layers of one custom function whose backward asks for the wrong argument's gradient."""

import torch
from torch import nn
from torch.nn import functional as F


class Scale(torch.autograd.Function):
    """Rows by a scale for each feature."""

    @staticmethod
    def forward(x, scale):
        return x * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        x, scale = ctx.saved_tensors
        to_x = to_scale = None
        if ctx.needs_input_grad[0]:
            to_x = gradient * scale
        elif ctx.needs_input_grad[1]:
            to_scale = (gradient * x).sum(0)
        return (
            to_x,
            to_scale,  # expect: GK203
        )


class Both(Scale):
    @staticmethod
    def backward(ctx, gradient):
        x, scale = ctx.saved_tensors
        to_x = to_scale = None
        if ctx.needs_input_grad[0]:
            to_x = gradient * scale
        if ctx.needs_input_grad[1]:
            to_scale = (gradient * x).sum(0)
        return to_x, to_scale


class Layer(nn.Module):
    def __init__(self, inputs, outputs, function):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.scale = nn.Parameter(torch.ones(outputs))
        self.function = function.apply

    def forward(self, x):
        return self.function(torch.relu(self.linear(x)), self.scale)


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(self):
        loss = F.cross_entropy(self.model(torch.randn(8, 6)), torch.randint(3, (8,)))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def fit(self):
        for _ in range(9):
            self.step()
        return self.model


def fit(function):
    torch.manual_seed(2)
    return Trainer(nn.Sequential(Layer(6, 8, function), Layer(8, 8, function), Layer(8, 3, function))).fit()


def main():
    return fit(Scale)


def repaired():
    return fit(Both)
