"""Gradients lost between backward and step in helpers, context managers, hooks, closures and by other objects."""

import contextlib

import torch
from torch import nn


def parts(optimizer=torch.optim.SGD, **options):
    torch.manual_seed(12)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    return model, optimizer(model.parameters(), lr=0.01, **options)


def loss_of(model):
    return model(torch.randn(8, 4)).square().mean()


@contextlib.contextmanager
def clean_gradients(model):
    """Meant to keep the gradients of what runs inside apart."""
    yield
    for parameter in model.parameters():
        parameter.grad = None


def faulty_context_manager():
    model, optimizer = parts()
    for _ in range(4):
        with clean_gradients(model):
            loss_of(model).backward()
        optimizer.step()  # expect: GK102
    return model


def healthy_context_manager():
    model, optimizer = parts()
    for _ in range(4):
        with clean_gradients(model):
            loss_of(model).backward()
            optimizer.step()
    return model


def faulty_finally():
    model, optimizer = parts(torch.optim.Adam)
    for _ in range(4):
        try:
            loss_of(model).backward()
        finally:
            optimizer.zero_grad()
        optimizer.step()  # expect: GK102
    return model


def faulty_evaluation_clears():
    """A monitoring function measures a gradient norm and tidies up after itself."""

    def sharpness(model):
        loss_of(model).backward()
        norm = sum(float(p.grad.norm()) for p in model.parameters())
        model.zero_grad()
        return norm

    model, optimizer = parts()
    for _ in range(4):
        optimizer.zero_grad()
        loss_of(model).backward()
        print(f"{sharpness(model):.4f}")
        optimizer.step()  # expect: GK102
    return model


def healthy_evaluation_restores():
    def sharpness(model):
        kept = [p.grad for p in model.parameters()]
        model.zero_grad()
        loss_of(model).backward()
        norm = sum(float(p.grad.norm()) for p in model.parameters())
        for p, g in zip(model.parameters(), kept, strict=True):
            p.grad = g
        return norm

    model, optimizer = parts()
    for _ in range(4):
        optimizer.zero_grad()
        loss_of(model).backward()
        print(f"{sharpness(model):.4f}")
        optimizer.step()
    return model


def faulty_another_optimizer_over_the_same_weights():
    model, optimizer = parts()
    second = torch.optim.Adam(model.parameters(), lr=1e-4)
    for _ in range(4):
        loss_of(model).backward()
        second.zero_grad(set_to_none=False)
        optimizer.step()  # expect: GK102
    return model


def faulty_new_zeros():
    model, optimizer = parts(momentum=0.9)
    for _ in range(4):
        loss_of(model).backward()
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # expect: GK102
    return model


def faulty_clipped_to_nothing():
    """Clipping whose limit came out as zero."""
    model, optimizer = parts()
    limit = 3 // 4
    for _ in range(4):
        optimizer.zero_grad()
        loss_of(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimizer.step()  # expect: GK102
    return model


def faulty_masked_away():
    model, optimizer = parts()
    mask = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for _ in range(4):
        optimizer.zero_grad()
        loss_of(model).backward()
        for name, parameter in model.named_parameters():
            parameter.grad *= mask[name]
        optimizer.step()  # expect: GK102
    return model


def faulty_closure_clears_last():
    model, optimizer = parts()

    def closure():
        loss = loss_of(model)
        loss.backward()
        optimizer.zero_grad()
        return loss

    for _ in range(4):
        optimizer.step(closure)  # expect: GK102
    return model


def faulty_moved_to_the_wrong_place_in_a_late_epoch():
    """After the tenth step the program goes another way, with clearing and step swapped."""
    model, optimizer = parts()
    for number in range(14):
        loss_of(model).backward()
        if number < 10:
            optimizer.step()
            optimizer.zero_grad()
        else:
            optimizer.zero_grad()
            optimizer.step()  # expect: GK102
    return model


def faulty_scaler():
    model, optimizer = parts()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for _ in range(4):
        scaler.scale(loss_of(model)).backward()
        for parameter in model.parameters():
            parameter.grad.zero_()
        scaler.step(optimizer)  # expect: GK102
        scaler.update()
    return model


def healthy_scaler():
    model, optimizer = parts()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for _ in range(4):
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        scaler.scale(loss_of(model)).backward()
        scaler.step(optimizer)
        scaler.update()
    return model


class Trainer:
    """Accumulates, and clears at the start of what it calls the update."""

    def __init__(self):
        self.model, self.optimizer = parts(torch.optim.AdamW)

    def update(self):
        self.prepare()
        self.optimizer.step()  # expect: GK102

    def prepare(self):
        self.optimizer.zero_grad(set_to_none=True)

    def fit(self):
        for _ in range(4):
            for _ in range(2):
                loss_of(self.model).backward()
            self.update()
        return self.model


class RepairedTrainer(Trainer):
    def update(self):
        self.optimizer.step()
        self.prepare()


def main():
    return Trainer().fit()


def repaired():
    return RepairedTrainer().fit()
