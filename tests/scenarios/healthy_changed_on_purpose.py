"""Old gradients that are kept and changed on purpose, and gradients written by hand."""

import copy

import torch
from torch import nn


def train(before=lambda p: None, after=lambda p: None, zero=False, steps=10):
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        if zero:
            optimizer.zero_grad(set_to_none=False)
        with torch.no_grad():
            for p in model.parameters():
                before(p)
        model(torch.randn(16, 8)).square().mean().backward()
        with torch.no_grad():
            for p in model.parameters():
                after(p)
        optimizer.step()
    return model


def decay(factor):
    def change(p):
        if p.grad is not None:
            p.grad.mul_(factor)

    return change


def healthy_momentum_by_hand():
    return [train(before=decay(factor)) for factor in (0.9, 0.99, 0.5, 0.0)]


def healthy_momentum_by_hand_through_data():
    def change(p):
        if p.grad is not None:
            p.grad.data.mul_(0.9)

    return train(before=change)


def healthy_old_part_taken_out_again():
    """The fresh gradient is the difference; what is consumed is a blend of its own."""
    models = []
    for keep in (0.0, 0.5, 0.9, 0.99):
        old = {}

        def blend(p, old=old, keep=keep):
            fresh = p.grad - old[p] if p in old else p.grad.clone()
            p.grad.copy_(fresh + keep * old[p] if p in old else fresh)
            old[p] = p.grad.clone()

        models.append(train(after=blend))
    return models


def healthy_averaged_with_the_last():
    last = {}

    def average(p):
        fresh = p.grad.clone()
        if p in last:
            p.grad.add_(last[p]).div_(2)
        last[p] = fresh

    return [train(after=average, zero=True)]


def healthy_moving_average_written_back():
    average = {}

    def smooth(p):
        average[p] = 0.9 * average.get(p, torch.zeros_like(p)) + 0.1 * p.grad
        p.grad.copy_(average[p])

    return train(after=smooth, zero=True)


def healthy_amplified_slow_parts():
    """Gradients plus a multiple of their moving average, in place."""
    average = {}

    def amplify(p):
        average[p] = 0.98 * average.get(p, p.grad.clone()) + 0.02 * p.grad
        p.grad.add_(2.0 * average[p])

    return train(after=amplify, zero=True)


def healthy_noise_clipping_and_scaling():
    ways = [
        lambda p: p.grad.add_(0.01 * torch.randn_like(p)),
        lambda p: p.grad.clamp_(-0.01, 0.01),
        lambda p: p.grad.sign_(),
        lambda p: p.grad.mul_(0.5),
        lambda p: p.grad.sub_(p.grad.mean()),
    ]
    return [train(after=way, zero=True) for way in ways]


def healthy_assigned_from_autograd():
    torch.manual_seed(7)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(6):
        loss = model(torch.randn(5, 4)).square().mean()
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p.grad = g
        optimizer.step()
    return model


def healthy_copied_into_place():
    torch.manual_seed(7)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(6):
        loss = model(torch.randn(5, 4)).square().mean()
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p.grad.copy_(g)
        optimizer.step()
    return model


def healthy_from_torch_func():
    torch.manual_seed(7)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss(weights, x):
        return torch.func.functional_call(model, weights, x).square().mean()

    for _ in range(6):
        weights = {name: p.detach() for name, p in model.named_parameters()}
        gradients = torch.func.grad(loss)(weights, torch.randn(5, 4))
        for name, p in model.named_parameters():
            p.grad = gradients[name]
        optimizer.step()
    return model


def healthy_conflicting_gradients_projected():
    """Two tasks, each back-propagated alone, then one gradient written (gradient surgery)."""
    torch.manual_seed(7)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        out = model(torch.randn(5, 4))
        parts = []
        for column in range(2):
            optimizer.zero_grad()
            out[:, column].square().mean().backward(retain_graph=column == 0)
            parts.append([p.grad.clone() for p in model.parameters()])
        optimizer.zero_grad()
        for p, first, second in zip(model.parameters(), *parts, strict=True):
            dot = (first * second).sum()
            p.grad = first + second - (dot < 0) * dot / second.square().sum().clamp(min=1e-12) * second
        optimizer.step()
    return model


def healthy_variance_reduced():
    """SVRG: the gradient at a snapshot is subtracted, the full one added."""
    torch.manual_seed(7)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    data = torch.randn(24, 4)
    for _ in range(2):
        anchor = copy.deepcopy(model)
        anchor.zero_grad()
        anchor(data).square().mean().backward()
        full = [p.grad.clone() for p in anchor.parameters()]
        for start in range(0, 24, 6):
            x = data[start : start + 6]
            optimizer.zero_grad(set_to_none=False)
            model(x).square().mean().backward()
            anchor.zero_grad()
            anchor(x).square().mean().backward()
            for p, q, g in zip(model.parameters(), anchor.parameters(), full, strict=True):
                p.grad += g - q.grad
            optimizer.step()
    return model


def healthy_per_sample_clipping():
    """Gradients of single samples clipped one by one, summed aside and noised (differentially private SGD)."""
    torch.manual_seed(7)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(4):
        total = [torch.zeros_like(p) for p in model.parameters()]
        for x in torch.randn(6, 4):
            model(x).square().sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for whole, p in zip(total, model.parameters(), strict=True):
                whole += p.grad
            model.zero_grad(set_to_none=False)
        for whole, p in zip(total, model.parameters(), strict=True):
            p.grad = (whole + 0.1 * torch.randn_like(whole)) / 6
        optimizer.step()
        optimizer.zero_grad()
    return model
