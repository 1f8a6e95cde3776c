"""Micro-batches with unequal numbers of tokens, each averaged by itself and then divided by their number."""

import torch
import torch.nn.functional as F
from torch import nn

import gradkit.check


def loss_fn(model, batch):
    tokens, labels = batch
    return F.cross_entropy(model(tokens).flatten(0, 1), labels.flatten(), ignore_index=-100)


def tokens_of(part):
    return float((part[1] != -100).sum())


def build():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11))
    tokens = torch.randint(11, (4, 6))
    labels = tokens.roll(-1, 1)
    labels[2:, 2:] = -100
    return model, (tokens, labels)


def main():
    model, batch = build()
    result = gradkit.check.accumulation(model, loss_fn, batch, micro_batches=2)
    result.assert_ok()  # expect: GK602
    return result


def repaired():
    model, batch = build()
    result = gradkit.check.accumulation(model, loss_fn, batch, micro_batches=2, weights=tokens_of)
    result.assert_ok()
    return result
