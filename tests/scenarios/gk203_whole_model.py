"""The loss itself is cut off, so that no parameter has a gradient, and `requires_grad` silences torch's complaint."""

import torch
from torch import nn
from torch.nn import functional as F


def fit(loss_of):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(10):
        x = torch.randn(16, 6)
        optimizer.zero_grad()
        loss = loss_of(model, x, (x[:, 0] > 0).long())
        loss.backward()
        optimizer.step()
    return model


def faulty_loss_made_again():
    def loss_of(model, x, target):
        loss = F.cross_entropy(model(x), target)
        return torch.tensor(loss.item(), requires_grad=True)  # expect: GK203

    return fit(loss_of)


def faulty_loss_made_again_and_divided():
    def loss_of(model, x, target):
        return torch.tensor(F.cross_entropy(model(x), target).item(), requires_grad=True) / 4  # expect: GK203

    return fit(loss_of)


def faulty_error_rate():
    def loss_of(model, x, target):
        predicted = model(x).argmax(1)  # expect: GK203
        return (predicted != target).float().mean().requires_grad_()

    return fit(loss_of)


def faulty_forward_without_gradients():
    def loss_of(model, x, target):
        with torch.no_grad():  # expect: GK203
            scores = model(x)
        loss = F.cross_entropy(scores, target)
        loss.requires_grad_(True)
        return loss

    return fit(loss_of)


def faulty_loss_from_out_of_sight():
    """Formatted and read again: the value cannot be followed, yet nothing leads from the loss to any parameter."""
    torch.manual_seed(4)
    model = nn.Linear(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(10):
        x = torch.randn(16, 6)
        text = f"{F.mse_loss(model(x), x[:, :2]):.2f}"
        loss = torch.ones((), requires_grad=True) * len(text)
        optimizer.zero_grad()
        loss.backward()  # expect: GK203
        optimizer.step()
    return model


def repaired():
    return fit(lambda model, x, target: F.cross_entropy(model(x), target))


def healthy_model_that_is_not_run():
    """A schedule is tried out with an empty loss: the model takes no part."""
    model = nn.Linear(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4)
    for _ in range(12):
        optimizer.zero_grad()
        torch.zeros(1, requires_grad=True).sum().backward()
        optimizer.step()
        scheduler.step()
    return model
