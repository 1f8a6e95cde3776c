"""Truncated back-propagation through time: the state is cut between windows, some sum several backward calls."""

import torch
from torch import nn


def parts():
    torch.manual_seed(8)
    return nn.GRU(3, 6, batch_first=True), nn.Linear(6, 3)


def healthy_tbptt():
    cell, head = parts()
    optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=1e-2)
    text = torch.randn(4, 30, 3)
    state = None
    for start in range(0, 25, 5):
        out, state = cell(text[:, start : start + 5], state)
        state = state.detach()
        loss = nn.functional.mse_loss(head(out), text[:, start + 1 : start + 6])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(cell.parameters(), 1.0)
        optimizer.step()
    return [cell, head]


def healthy_one_step_per_sequence():
    cell, head = parts()
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(4):
        text = torch.randn(4, 16, 3)
        state = None
        optimizer.zero_grad(set_to_none=False)
        for start in range(0, 15, 5):
            out, state = cell(text[:, start : start + 5], None if state is None else state.detach())
            nn.functional.mse_loss(head(out), text[:, start + 1 : start + 6]).backward()
        optimizer.step()
    return [cell, head]


def healthy_overlapping_windows():
    cell, head = parts()
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=1e-3)
    text = torch.randn(4, 24, 3)
    state = torch.zeros(1, 4, 6)
    for start in range(0, 20, 4):
        out, following = cell(text[:, start : start + 4], state.detach())
        first = head(out).square().mean()
        first.backward(retain_graph=True)
        (0.1 * out.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
        state = following
    return [cell, head]
