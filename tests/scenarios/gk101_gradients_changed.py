"""Gradients never cleared and changed in place between backward and step: the old ones are still in there."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_value_


def train(change, clear, micro_batches=1):
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(4):
        if clear:
            optimizer.zero_grad()
        for _ in range(micro_batches):
            model(torch.randn(16, 8)).square().mean().backward()
        change(model)
        optimizer.step()  # expect: GK101
    return model


def each(change):
    @torch.no_grad()
    def over(model):
        for parameter in model.parameters():
            change(parameter)

    return over


def replaced(parameter):
    parameter.grad = parameter.grad / 2


WAYS = [
    lambda model: clip_grad_value_(model.parameters(), 0.01),
    each(lambda p: p.grad.mul_(0.5)),
    each(lambda p: p.grad.neg_()),
    lambda model: torch._foreach_mul_([p.grad for p in model.parameters()], 0.1),
    each(lambda p: p.grad.add_(1e-4 * torch.randn_like(p))),
    each(lambda p: p.grad.add_(p, alpha=1e-2)),
    each(lambda p: p.grad.data.clamp_(-0.01, 0.01)),
    each(lambda p: p.grad.sign_()),
    each(lambda p: p.grad.div_(p.grad.norm() + 1e-8)),
    each(lambda p: torch.nan_to_num_(p.grad)),
    each(replaced),
]


def main():
    return [train(change, clear=False) for change in WAYS]


def repaired():
    return [train(change, clear=True) for change in WAYS]


def repaired_with_micro_batches():
    return train(each(lambda p: p.grad.div_(4)), clear=True, micro_batches=4)
