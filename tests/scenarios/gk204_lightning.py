"""A Lightning module that puts its network in eval mode when training starts."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NEEDS = ("lightning",)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(pl.LightningModule):
    def __init__(self, freeze):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.1), nn.Linear(6, 1))
        self.freeze = freeze

    def on_train_start(self):
        if self.freeze:
            self.net.eval()  # expect: GK204

    def training_step(self, batch, index):
        return self.net(batch[0]).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def train(freeze):
    torch.manual_seed(3)
    module = Module(freeze)
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
        trainer.fit(module, DataLoader(TensorDataset(torch.randn(24, 4)), batch_size=4))
    return module.net


def main():
    return train(True)


def repaired():
    return train(False)
