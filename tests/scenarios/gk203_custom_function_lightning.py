"""A Lightning module whose activation has a learned slope, of which its backward knows nothing."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.data import DataLoader, TensorDataset

NEEDS = ("lightning",)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x, slope)
        return x * torch.sigmoid(slope * x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, slope = ctx.saved_tensors
        share = torch.sigmoid(slope * x)
        return gradient * (share + slope * x * share * (1 - share)), None  # expect: GK203


class LearnedSwish(Swish):
    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, slope = ctx.saved_tensors
        share = torch.sigmoid(slope * x)
        to_slope = (gradient * x * x * share * (1 - share)).sum()
        return gradient * (share + slope * x * share * (1 - share)), to_slope


class Module(pl.LightningModule):
    def __init__(self, activation):
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.slope = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(6, 1)
        self.activation = activation

    def training_step(self, batch, index):
        return self.head(self.activation.apply(self.body(batch[0]), self.slope)).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def train(activation):
    torch.manual_seed(3)
    module = Module(activation)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(TensorDataset(torch.randn(40, 4)), batch_size=4))
    return [module.body, module.head]


def main():
    return train(Swish)


def repaired():
    return train(LearnedSwish)
