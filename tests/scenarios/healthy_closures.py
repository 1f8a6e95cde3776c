"""Closures that clear and compute inside the step."""

import torch
from torch import nn


def fit(optimizer_of, steps=4, after=None, **options):
    torch.manual_seed(3)
    x, y = torch.randn(32, 4), torch.randn(32, 1)
    model = nn.Linear(4, 1)
    optimizer = optimizer_of(model.parameters(), **options)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        print(f"{optimizer.step(closure).item():.6f}")
        if after is not None:
            after(optimizer)
    return model


def healthy_lbfgs():
    return fit(torch.optim.LBFGS, lr=0.5, max_iter=5)


def healthy_lbfgs_with_line_search():
    return fit(torch.optim.LBFGS, line_search_fn="strong_wolfe", max_iter=8)


def healthy_sgd():
    return fit(torch.optim.SGD, lr=0.1, momentum=0.9)


def healthy_sgd_kept_as_zeros():
    return fit(torch.optim.SGD, lr=0.1, after=lambda optimizer: optimizer.zero_grad(set_to_none=False))


def healthy_adam_in_a_function():
    def step(optimizer, compute):
        return optimizer.step(closure=compute)

    torch.manual_seed(3)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(4):
        x = torch.randn(8, 4)

        def compute(x=x):
            model.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        step(optimizer, compute)
    return model


class Clearing(torch.optim.SGD):
    """Clears what it consumed at the end of its own step."""

    def step(self, closure=None):
        loss = super().step(closure)
        self.zero_grad()
        return loss


def healthy_optimizer_that_clears_itself():
    return fit(Clearing, lr=0.1)


def healthy_optimizer_that_clears_itself_without_closure():
    torch.manual_seed(3)
    model = nn.Linear(4, 1)
    optimizer = Clearing(model.parameters(), lr=0.1)
    for _ in range(5):
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    return model
