"""A convolution over time padded on both sides, so that each position sees the next one."""

import torch
from torch import nn

import gradkit.check


def main():
    torch.manual_seed(0)
    model = nn.Conv1d(2, 2, 3, padding=1)
    result = gradkit.check.causality(model, torch.randn(3, 2, 8), dim=2)
    result.assert_ok()  # expect: GK604
    return result


def repaired():
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(2, 2, 3))
    result = gradkit.check.causality(model, torch.randn(3, 2, 8), dim=2)
    result.assert_ok()
    return result
