"""Sharpness-aware minimization: two backward calls per step, weights moved and put back, as optimizer and by hand."""

import torch
from torch import nn


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base, rho=0.05, **options):
        super().__init__(params, {"rho": rho, **options})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad=True):
        gradients = [p.grad.norm() for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack(gradients).norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old"] = p.clone()
                p.add_(p.grad * group["rho"] / (norm + 1e-12))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=True):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.copy_(self.state[p]["old"])
        self.base.step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure=None):
        closure = torch.enable_grad()(closure)
        self.first_step()
        closure()
        self.second_step(zero_grad=False)


def parts():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def healthy_two_calls():
    model = parts()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.05)
    for _ in range(6):
        x, y = torch.randn(12, 5), torch.randn(12, 1)
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.first_step()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.second_step()
    return model


def healthy_closure():
    model = parts()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.05)
    for _ in range(6):
        x, y = torch.randn(12, 5), torch.randn(12, 1)

        def closure(x=x, y=y):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)
        optimizer.zero_grad()
    return model


def healthy_by_hand():
    model = parts()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(6):
        x = torch.randn(12, 5)
        optimizer.zero_grad(set_to_none=False)
        model(x).square().mean().backward()
        moved = []
        with torch.no_grad():
            for p in model.parameters():
                moved.append(0.05 * p.grad / (p.grad.norm() + 1e-12))
                p.add_(moved[-1])
        optimizer.zero_grad(set_to_none=False)
        model(x).square().mean().backward()
        with torch.no_grad():
            for p, e in zip(model.parameters(), moved, strict=True):
                p.sub_(e)
        optimizer.step()
    return model


def healthy_wrapper_alive_to_the_end():
    """The wrapper gets every gradient and never steps itself; the optimizer it wraps works on the same parameters."""
    model = parts()
    model.optimizer = SAM(model.parameters(), torch.optim.Adam, lr=0.01)
    for _ in range(6):
        for move in (model.optimizer.first_step, model.optimizer.second_step):
            nn.functional.huber_loss(model(torch.ones(12, 5)), torch.zeros(12, 1)).backward()
            move()
    return model
