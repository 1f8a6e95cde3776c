"""A Lightning module that collects its losses in a list for the end of the epoch."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NEEDS = ("lightning",)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(pl.LightningModule):
    def __init__(self, keep):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.keep = keep
        self.losses = []

    def training_step(self, batch, index):
        (x,) = batch
        loss = self.layer(x).pow(2).mean()  # expect: GK202
        self.losses.append(self.keep(loss))
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def train(keep):
    torch.manual_seed(3)
    module = Module(keep)
    loader = DataLoader(TensorDataset(torch.randn(64, 4)), batch_size=4)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader)
    return module.layer


def main():
    return train(lambda loss: loss)


def repaired():
    return train(lambda loss: loss.detach())
