"""A Lightning module that sends its hidden state through NumPy."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NEEDS = ("lightning",)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(pl.LightningModule):
    def __init__(self, careful):
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.head = nn.Linear(6, 1)
        self.careful = careful

    def smooth(self, hidden):
        if self.careful:
            return hidden.cumsum(1)
        array = hidden.detach().numpy().cumsum(1)  # expect: GK203
        return torch.from_numpy(array)

    def training_step(self, batch, index):
        return self.head(self.smooth(self.body(batch[0]))).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def train(careful):
    torch.manual_seed(3)
    module = Module(careful)
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
    return train(False)


def repaired():
    return train(True)
