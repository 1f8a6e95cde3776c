"""A second step on the same gradients, in the wrong loop, by a helper, a callback, a partial, or with no backward."""

import functools

import torch
from torch import nn


def parts(optimizer=torch.optim.SGD, **options):
    torch.manual_seed(13)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    return model, optimizer(model.parameters(), lr=0.01, **options)


def loss_of(model):
    return model(torch.randn(8, 4)).square().mean()


def faulty_step_in_the_inner_loop():
    """One backward over the summed loss of an epoch, a step for every batch."""
    model, optimizer = parts()
    for _ in range(3):
        optimizer.zero_grad()
        sum(loss_of(model) for _ in range(3)).backward()
        for _ in range(3):
            optimizer.step()  # expect: GK103
    return model


def healthy_step_in_the_outer_loop():
    model, optimizer = parts()
    for _ in range(3):
        optimizer.zero_grad()
        sum(loss_of(model) for _ in range(3)).backward()
        optimizer.step()
    return model


class Trainer:
    def __init__(self, twice):
        self.model, self.optimizer = parts(torch.optim.AdamW)
        self.twice = twice

    def optimize(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def log(self, loss):
        print(f"{loss.item():.5f}")
        if self.twice:
            self.optimizer.step()  # expect: GK103

    def fit(self):
        for _ in range(4):
            loss = loss_of(self.model)
            self.optimize(loss)
            self.log(loss)
        return self.model


def faulty_last_rest_stepped_twice():
    """The accumulation ends with a full window; the flush after the loop steps again on what was not cleared."""
    model, optimizer = parts()
    for number in range(8):
        if number % 4 == 0:
            optimizer.zero_grad()
        (loss_of(model) / 4).backward()
        if number % 4 == 3:
            optimizer.step()
    optimizer.step()  # expect: GK103
    return model


def faulty_backward_only_on_some_batches():
    model, optimizer = parts()
    for number in range(9):
        loss = loss_of(model)
        if number % 2 == 0:
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()  # expect: GK103
    return model


def faulty_partial():
    model, optimizer = parts(torch.optim.Adam)
    update = functools.partial(optimizer.step)
    for _ in range(4):
        optimizer.zero_grad()
        loss_of(model).backward()
        for action in (update, update):
            action()  # expect: GK103
    return model


def faulty_fused():
    model, optimizer = parts(fused=True)
    for _ in range(4):
        model.zero_grad(set_to_none=False)
        loss_of(model).backward()
        optimizer.step()
        optimizer.step()  # expect: GK103
    return model


def faulty_two_optimizers_and_one_loss_forgotten():
    """The second loss is computed and never back-propagated; its optimizer steps on nothing."""
    torch.manual_seed(13)
    first, second = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (first, second)]
    loss_of(first).backward()
    loss_of(second).backward()
    for optimizer in optimizers:
        optimizer.step()
    for _ in range(4):
        optimizers[0].zero_grad()
        loss_of(first).backward()
        loss_of(second)
        optimizers[0].step()
        optimizers[1].step()  # expect: GK103
    return [first, second]


def healthy_two_optimizers_and_two_losses():
    torch.manual_seed(13)
    first, second = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (first, second)]
    for _ in range(4):
        for optimizer, model in zip(optimizers, (first, second), strict=True):
            optimizer.zero_grad()
            loss_of(model).backward()
        for optimizer in optimizers:
            optimizer.step()
    return [first, second]


def healthy_two_optimizers_over_the_same_weights():
    model, optimizer = parts()
    second = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        second.step()
    return model


def main():
    return Trainer(twice=True).fit()


def repaired():
    return Trainer(twice=False).fit()
