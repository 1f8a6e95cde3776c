"""Networks that differentiate within their forward: evaluation needs gradients, unless it asks for no derivative."""

import torch
from torch import nn


class Field(nn.Module):
    """A scalar of the state, by a network."""

    def __init__(self, size):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(size, 24), nn.Softplus(), nn.Linear(24, 1))

    def forward(self, state):
        return self.layers(state).sum(-1)


class Hamiltonian(nn.Module):
    """Time derivatives of position and momentum as the symplectic gradient of an energy."""

    def __init__(self, size=4):
        super().__init__()
        self.energy = Field(size)

    def forward(self, state, flow=True):
        state = state.detach().requires_grad_()
        energy = self.energy(state)
        if not flow:
            return energy
        slope = torch.autograd.grad(energy.sum(), state, create_graph=True)[0]
        of_position, of_momentum = slope.chunk(2, dim=-1)
        return torch.cat([of_momentum, -of_position], dim=-1)


def states(number, seed):
    return torch.randn(number, 10, 4, generator=torch.Generator().manual_seed(seed))


def wanted(state):
    position, momentum = state.chunk(2, dim=-1)
    return torch.cat([momentum, -position], dim=-1)


def fit(model, optimizer, batches):
    model.train()
    for state in batches:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(state), wanted(state)).backward()
        optimizer.step()


def error(model, batches):
    model.eval()
    return sum((model(state) - wanted(state)).abs().mean().item() for state in batches) / len(batches)


def drift(model, batches):
    model.eval()
    found = [model(state, flow=False).mean().item() for state in batches]  # expect: GK201
    return max(found) - min(found)


def train(judge):
    torch.manual_seed(11)
    model = Hamiltonian()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(3):
        fit(model, optimizer, states(8, epoch))
        print(f"{judge(model, states(5, 100)):.5f}")
    return model


def main():
    return train(drift)


def repaired():
    return train(error)


def repaired_with_no_grad():
    return train(torch.no_grad()(drift))


def repaired_without_a_change_of_mode():
    torch.manual_seed(12)
    model = Hamiltonian()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(4):
        for state in states(6, epoch):
            optimizer.zero_grad()
            nn.functional.l1_loss(model(state), wanted(state)).backward()
            optimizer.step()
        print([round(model(state).norm().item(), 4) for state in states(5, 7)])
    return model


def repaired_when_only_evaluated():
    torch.manual_seed(13)
    model = Hamiltonian().eval()
    return torch.stack([model(state).detach() for state in states(6, 1)])
