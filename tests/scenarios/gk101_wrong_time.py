"""Clearing that comes too seldom: per epoch, under a condition, in a `finally` around the loop, every other step."""

import torch
from torch import nn


def parts(optimizer=torch.optim.SGD):
    torch.manual_seed(9)
    model = nn.Linear(5, 2)
    return model, optimizer(model.parameters(), lr=0.01)


def loss_of(model):
    return model(torch.randn(6, 5)).square().mean()


def faulty_after_every_epoch():
    model, optimizer = parts()
    for _ in range(3):
        for _ in range(4):
            loss_of(model).backward()
            optimizer.step()  # expect: GK101
        optimizer.zero_grad()
    return model


def faulty_under_a_condition_that_never_holds():
    model, optimizer = parts(torch.optim.Adam)
    accumulate = 4
    for number in range(6):
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
        if number % accumulate == accumulate + 1:
            optimizer.zero_grad()
    return model


def faulty_every_other_step():
    model, optimizer = parts()
    for number in range(8):
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
        if number % 2 == 0:
            optimizer.zero_grad(set_to_none=False)
    return model


def healthy_every_other_step_both_together():
    model, optimizer = parts()
    for number in range(8):
        loss_of(model).backward()
        if number % 2 == 1:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    return model


def faulty_finally_around_the_loop():
    model, optimizer = parts()
    try:
        for _ in range(4):
            loss_of(model).backward()
            optimizer.step()  # expect: GK101
    finally:
        optimizer.zero_grad()
    return model


def healthy_finally_inside_the_loop():
    model, optimizer = parts()
    for number in range(6):
        try:
            loss_of(model).backward()
            if number == 2:
                raise ValueError("a bad batch")
            optimizer.step()
        except ValueError:
            continue
        finally:
            optimizer.zero_grad()
    return model


def faulty_forgotten_after_a_skip():
    """A `continue` jumps over the clearing at the end of the loop."""
    model, optimizer = parts()
    for number in range(6):
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
        if number >= 2:
            continue
        optimizer.zero_grad()
    return model


def faulty_only_while_warming_up():
    model, optimizer = parts(torch.optim.RMSprop)
    for number in range(40):
        if number < 30:
            optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model


def faulty_accumulation_step_in_the_wrong_loop():
    """Steps after every micro-batch, clears once per window."""
    model, optimizer = parts()
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(4):
            (loss_of(model) / 4).backward()
            optimizer.step()  # expect: GK101
    return model


def healthy_accumulation_step_after_the_loop():
    model, optimizer = parts()
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(4):
            (loss_of(model) / 4).backward()
        optimizer.step()
    return model
