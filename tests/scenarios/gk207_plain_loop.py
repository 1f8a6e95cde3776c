"""A plain script with a retain_graph=True left over from an experiment."""

import torch
from torch import nn

FIRST_STEP = 20


def train(**options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(24):
        x = torch.randn(16, 5)
        loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward(**options)  # expect: GK207
        optimizer.step()
    return model


def main():
    return train(retain_graph=True)


def repaired():
    return train()


def gradient_penalty(model, x):
    """For another kind of run: nothing that follows in these loops calls it."""
    return torch.autograd.grad(model(x).sum(), x, create_graph=True)[0].norm()


def update(loss, adversarial, **options):
    if adversarial:
        loss.backward()
        (2 * loss).backward()
    else:
        loss.backward(**options)


def faulty_beside_branches_that_do_not_run():
    torch.manual_seed(1)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mode = "plain"
    for _ in range(24):
        x = torch.randn(16, 5)
        loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        if mode == "double":
            loss.backward(retain_graph=True)
            loss.backward()
        else:
            loss.backward(retain_graph=True)  # expect: GK207
        optimizer.step()
    return model


def repaired_beside_branches_that_do_not_run():
    torch.manual_seed(1)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(24):
        x = torch.randn(16, 5)
        optimizer.zero_grad()
        update((model(x) - x.sum(1, keepdim=True)).pow(2).mean(), adversarial=False)
        optimizer.step()
    return model


def healthy_second_use_every_twentieth_step():
    torch.manual_seed(1)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(1, 43):
        x = torch.randn(16, 5)
        loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        if step % 20 == 0:
            (0.1 * loss).backward()
        optimizer.step()
    return model
