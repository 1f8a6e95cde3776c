"""Four small whole models with a batch each, for the tests and the benchmark of `gradkit.check.module`."""

import torch
import torch.nn.functional as F
from torch import nn


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def batch_of(*shape, classes=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator), torch.randint(classes, shape[:1], generator=generator)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


def models():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.1)
    return {
        "mlp": (
            nn.Sequential(
                nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 720), nn.Tanh(), nn.Dropout(0.2), nn.Linear(720, 10)
            ),
            batch_of(32, 256),
        ),
        "cnn": (
            nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10),
            ),
            batch_of(8, 3, 16, 16),
        ),
        "transformer": (
            nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(192, 10)),
            batch_of(4, 6, 32),
        ),
        "lstm": (Recurrent(), batch_of(4, 12, 8)),
    }  # fmt: skip
