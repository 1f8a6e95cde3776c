"""A script that only predicts: eval mode, but gradients are on."""

import torch
from torch import nn


def predict(model, batches):
    model.eval()
    return [model(x).argmax(1) for x in batches]  # expect: GK201


def data():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), [torch.randn(4, 6) for _ in range(4)]


def main():
    return predict(*data())


def repaired():
    with torch.inference_mode():
        return predict(*data())
