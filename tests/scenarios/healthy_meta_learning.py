"""Inner steps on copies, outer steps on the model: second order, first order, and Reptile."""

import copy

import torch
from torch import nn
from torch.func import functional_call


def tasks(model):
    x = torch.randn(8, 2)
    return x, x @ torch.randn(2, 1)


def healthy_maml():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        for _ in range(3):
            x, y = tasks(model)
            weights = dict(model.named_parameters())
            loss = nn.functional.mse_loss(functional_call(model, weights, x), y)
            slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            inner = {name: w - 0.1 * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
            (nn.functional.mse_loss(functional_call(model, inner, x), y) / 3).backward()
        optimizer.step()
    return model


def healthy_first_order():
    """Inner optimizer on a copy; its last gradients are written onto the model."""
    torch.manual_seed(1)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(4):
        learner = copy.deepcopy(model)
        inner = torch.optim.SGD(learner.parameters(), lr=0.1)
        x, y = tasks(model)
        for _ in range(3):
            inner.zero_grad()
            nn.functional.mse_loss(learner(x), y).backward()
            inner.step()
        inner.zero_grad()
        nn.functional.mse_loss(learner(x), y).backward()
        for p, q in zip(model.parameters(), learner.parameters(), strict=True):
            p.grad = q.grad.clone()
        optimizer.step()
        optimizer.zero_grad()
    return model


def healthy_reptile():
    torch.manual_seed(1)
    model = nn.Linear(2, 1)
    outer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(4):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        inner = torch.optim.SGD(model.parameters(), lr=0.1)
        x, y = tasks(model)
        for _ in range(3):
            inner.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            inner.step()
        after = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(before)
        for name, p in model.named_parameters():
            p.grad = before[name] - after[name]
        outer.step()
    return model


def healthy_hypergradient():
    """A learning rate that is itself learned through one unrolled step (create_graph in backward)."""
    torch.manual_seed(1)
    weight = torch.randn(3, requires_grad=True)
    rate = torch.tensor(0.1, requires_grad=True)
    outer = torch.optim.Adam([rate], lr=1e-2)
    for _ in range(5):
        x = torch.randn(3)
        (slope,) = torch.autograd.grad((weight * x).sum().square(), weight, create_graph=True)
        outer.zero_grad()
        ((weight - rate * slope) * x).sum().square().backward()
        outer.step()
        weight = (weight - rate * slope).detach().requires_grad_()
    return [weight, rate]
