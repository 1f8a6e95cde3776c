"""A trainer that reads a gradient beside the loss's, retains the graph for both, and keeps the losses."""

import torch
from torch import nn

FIRST_STEP = 11


class History:
    def __init__(self, keep):
        torch.manual_seed(5)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.keep = keep
        self.losses = []

    def fit(self):
        for _ in range(20):
            x = torch.randn(8, 6)
            loss = (self.model(x) - x[:, :1]).pow(2).mean()  # expect: GK202
            self.optimizer.zero_grad()
            loss.backward(retain_graph=True)
            (gradient,) = torch.autograd.grad(loss, self.model[0].weight)
            self.optimizer.step()
            self.losses.append(self.keep(loss))
            print(f"{gradient.norm():.4f}")
        return self.model


def main():
    return History(lambda loss: loss).fit()


def repaired():
    return History(lambda loss: loss.item()).fit()


def healthy_window_of_twenty_graphs():
    """Truncated back-propagation by hand: a step's graph is kept for twenty steps and differentiated in each."""
    torch.manual_seed(7)
    bias = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([bias], lr=1e-3)
    cells = [(None, torch.zeros(2, 4))]
    for _ in range(60):
        before = cells[-1][1].detach().requires_grad_()
        after = torch.tanh(0.9 * before + torch.randn(2, 4) + bias)
        cells = [*cells, (before, after)][-20:]
        optimizer.zero_grad()
        after.pow(2).mean().backward(retain_graph=True)
        flow = before.grad
        for entry, result in reversed(cells[:-1]):
            if entry is None:
                break
            flow, more = torch.autograd.grad(result, [entry, bias], flow, retain_graph=True)
            bias.grad += more
        optimizer.step()
    return [bias]
