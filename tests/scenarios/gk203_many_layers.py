"""One cut behind which layers of several kinds stand, and a generated weight that is wrapped as a new parameter."""

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(2, 8, 3, padding=1),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(8, 12),
        )
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.features(x).relu())


def fit(model):
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(9):
        x = torch.randn(8, 2, 6)
        loss = F.cross_entropy(model(x), (x.mean((1, 2)) > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def faulty_backbone_without_gradients():
    class Cut(Net):
        def forward(self, x):
            with torch.no_grad():  # expect: GK203
                features = self.features(x)
            return self.head(features.relu())

    torch.manual_seed(6)
    return fit(Cut())


def repaired_backbone():
    torch.manual_seed(6)
    return fit(Net())


class Generated(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.head = nn.Linear(1, 4 * 12), nn.Linear(4, 2)

    def weight(self, x):
        return self.generator(x.mean().reshape(1)).view(4, 12)

    def forward(self, x):
        return self.head(torch.tanh(x.flatten(1) @ self.weight(x).T))


def faulty_generated_weight_wrapped():
    class Wrapped(Generated):
        def forward(self, x):
            weight = self.weight(x)
            weight = nn.Parameter(weight)  # expect: GK203
            return self.head(torch.tanh(x.flatten(1) @ weight.T))

    torch.manual_seed(7)
    return fit(Wrapped())


def repaired_generated_weight():
    torch.manual_seed(7)
    return fit(Generated())
