"""Gradient descent by hand, without any optimizer, that keeps every loss or the state of every step."""

import torch


def descend(keep):
    torch.manual_seed(0)
    x = torch.randn(32, 3)
    y = x @ torch.tensor([1.0, -2.0, 0.5])
    w = torch.zeros(3, requires_grad=True)
    history = []
    for _ in range(30):
        loss = (x @ w - y).pow(2).mean()  # expect: GK202
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
        w.grad.zero_()
        history.append(keep(loss))
    return w


def main():
    return descend(lambda loss: loss)


def repaired():
    return descend(lambda loss: loss.item())


def faulty_state_carried_along():
    torch.manual_seed(0)
    cell = torch.nn.RNNCell(3, 4)
    state = torch.zeros(2, 4)
    for _ in range(60):
        x = torch.randn(2, 3)
        state = cell(x, state)  # expect: GK202
        for parameter in cell.parameters():
            parameter.grad = None
        (state.sum(1) - x.sum(1)).pow(2).mean().backward(retain_graph=True)
        for parameter in cell.parameters():
            parameter.data = parameter.data - 0.01 * parameter.grad
    return cell


def repaired_state():
    torch.manual_seed(0)
    cell = torch.nn.RNNCell(3, 4)
    state = torch.zeros(2, 4)
    for _ in range(60):
        x = torch.randn(2, 3)
        state = cell(x, state.detach())
        for parameter in cell.parameters():
            parameter.grad = None
        (state.sum(1) - x.sum(1)).pow(2).mean().backward()
        for parameter in cell.parameters():
            parameter.data = parameter.data - 0.01 * parameter.grad
    return cell


def healthy_one_window_of_many_backwards():
    """Each step of the sequence is back-propagated through all before it, and the weights move once at its end."""
    torch.manual_seed(0)
    w = (torch.randn(4, 4) * 0.3).requires_grad_()
    for _ in range(4):
        state = torch.ones(2, 4)
        for _ in range(60):
            state = torch.tanh(state @ w + torch.randn(2, 4))
            state.pow(2).mean().backward(retain_graph=True)
        with torch.no_grad():
            w -= 0.01 * w.grad
        w.grad = None
    return w
