"""Values that leave torch and come back: as a constant, and as an array that NumPy has worked on."""

import numpy as np
import torch
from torch import nn


def fit(model, batches):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(12):
        x = batches()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
    return model


def vectors():
    return torch.randn(16, 6)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.temperature = nn.Linear(6, 2), nn.Parameter(torch.tensor(1.5))


def faulty_constant():
    class Constant(Scaled):
        def forward(self, x):
            return self.layer(x) / self.temperature.item()  # expect: GK203

    return fit(Constant(), vectors)


def faulty_constant_reckoned_with():
    class Inverse(Scaled):
        def forward(self, x):
            inverse = 1.0 / self.temperature.item()
            return self.layer(x) * inverse  # expect: GK203

    return fit(Inverse(), vectors)


def repaired_constant():
    class Tensor(Scaled):
        def forward(self, x):
            return self.layer(x) / self.temperature

    return fit(Tensor(), vectors)


class Pooled(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.embed, self.last, self.pool = nn.Linear(6, 8), nn.Linear(4, 2), pool

    def forward(self, x):
        return self.last(self.pool(self.embed(x)))


def faulty_pooled_by_numpy():
    def pool(features):
        array = features.detach().numpy().reshape(-1, 4, 2)  # expect: GK203
        pooled = np.maximum(array, 0).mean(axis=-1)
        return torch.as_tensor(pooled)

    return fit(Pooled(pool), vectors)


def faulty_pooled_by_numpy_at_once():
    def pool(features):
        return torch.from_numpy(np.mean(features.detach().numpy().reshape(-1, 4, 2), axis=2))  # expect: GK203

    return fit(Pooled(pool), vectors)


def repaired_pooled():
    def pool(features):
        return features.reshape(-1, 4, 2).relu().mean(-1)

    return fit(Pooled(pool), vectors)


def healthy_logged_beside_data_from_numpy():
    """A head that is not in the loss yet is logged as an array, beside arrays of data of every shape."""

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.main, self.idle = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 4)
            self.bias, self.log = nn.Parameter(torch.tensor(0.5)), []

        def forward(self, x):
            hidden = self.body(x).relu()
            self.log.append((float(np.mean(self.idle(hidden).detach().numpy())), self.bias.item()))
            noise = torch.from_numpy(np.random.default_rng(0).normal(size=(16, 8)).astype("float32"))
            return self.main(hidden + 0.5 * noise)

    return fit(TwoHeads(), vectors)
