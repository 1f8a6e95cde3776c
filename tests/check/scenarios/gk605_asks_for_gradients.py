"""A model that computes something else while gradients are recorded, although it is in eval mode."""

import torch
from torch import nn

import gradkit.check


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x) * (1.1 if torch.is_grad_enabled() else 1.0)


class Corrected(Noisy):
    def forward(self, x):
        return self.linear(x) * (1.1 if self.training else 1.0)


def main():
    torch.manual_seed(0)
    result = gradkit.check.inference(Noisy(), torch.randn(4, 3))
    result.assert_ok()  # expect: GK605
    return result


def repaired():
    torch.manual_seed(0)
    result = gradkit.check.inference(Corrected(), torch.randn(4, 3))
    result.assert_ok()
    return result
