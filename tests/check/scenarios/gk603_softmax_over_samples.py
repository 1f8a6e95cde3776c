"""A softmax over the samples instead of over the features."""

import torch
from torch import nn

import gradkit.check


def train(dim):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Softmax(dim))
    result = gradkit.check.batch_independence(model, torch.randn(4, 3))
    result.assert_ok()  # expect: GK603
    return result


def main():
    return train(0)


def repaired():
    return train(1)
