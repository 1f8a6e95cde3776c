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


class ClearsItself(torch.optim.SGD):
    def step(self, closure=None):
        value = super().step(closure)
        self.zero_grad(set_to_none=False)
        return value


def value_only(make, after=lambda optimizer: None):
    """The closure, as a framework hands one in, computes nothing: the gradients are there before the step."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = make(model.parameters())
    for _ in range(6):
        loss = model(torch.randn(8, 3)).square().mean()
        loss.backward()
        optimizer.step(loss.detach)
        after(optimizer)
    return model


def healthy_closure_that_computes_nothing():
    return value_only(lambda p: torch.optim.Adam(p, lr=0.01), torch.optim.Optimizer.zero_grad)


def healthy_closure_that_computes_nothing_and_self_clearing():
    return value_only(lambda p: ClearsItself(p, lr=0.01, momentum=0.9))


def healthy_closure_that_computes_nothing_in_a_line_search():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    for _ in range(6):
        x = torch.randn(8, 3)
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        for rate in (2.0, 0.5, 0.1):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step(loss.detach)
            with torch.no_grad():
                if model(x).square().mean() < loss:
                    break
                for p, old in zip(model.parameters(), before, strict=True):
                    p.copy_(old)
    return model
