"""A loss whose noise comes from a generator that torch does not seed or restore."""

import random

import torch

import gradkit.check

OWN = random.Random()


def noisy(x):
    return (x * (1 + OWN.random())).sum()


def noisy_by_torch(x):
    return (x * (1 + torch.rand(()))).sum()


def main():
    x = torch.tensor([0.5, -1.0, 3.0], requires_grad=True)
    result = gradkit.check.gradients(noisy, (x,))
    result.assert_ok()  # expect: GK606
    return result


def repaired():
    x = torch.tensor([0.5, -1.0, 3.0], requires_grad=True)
    result = gradkit.check.gradients(noisy_by_torch, (x,))
    result.assert_ok()
    return result
