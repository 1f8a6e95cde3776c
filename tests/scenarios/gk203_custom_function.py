"""A plain script with a linear layer of its own, whose backward returns no gradient for the weight."""

import torch
from torch import nn

FIRST_STEP = 5


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return x @ weight.t() + bias

    @staticmethod
    def backward(ctx, gradient):
        _, weight = ctx.saved_tensors
        return gradient @ weight, None, gradient.sum(0)  # expect: GK203


class Complete(Linear):
    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight, gradient.t() @ x, gradient.sum(0)


def train(function):
    torch.manual_seed(1)
    weight, bias = (0.3 * torch.randn(8, 5)).requires_grad_(), torch.zeros(8, requires_grad=True)
    head = nn.Linear(8, 1)
    optimizer = torch.optim.SGD([weight, bias, *head.parameters()], lr=0.1)
    for _ in range(9):
        x = torch.randn(16, 5)
        loss = (head(torch.tanh(function.apply(x, weight, bias))) - x.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


def main():
    return train(Linear)


def repaired():
    return train(Complete)
