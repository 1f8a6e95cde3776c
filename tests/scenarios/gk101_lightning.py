"""Lightning modules that never clear: manual optimization, and a hook that was overridden."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


class Manual(pl.LightningModule):
    def __init__(self, clears):
        super().__init__()
        torch.manual_seed(2)
        self.automatic_optimization = False
        self.net = nn.Linear(4, 1)
        self.clears = clears

    def update(self, loss):
        optimizer = self.optimizers()
        if self.clears:
            optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()  # expect: GK101

    def training_step(self, batch, index):
        loss = self.net(batch[0]).square().mean()
        self.update(loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Overridden(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.net = nn.Linear(4, 1)

    def training_step(self, batch, index):
        (x,) = batch
        return self.net(x).square().mean()  # expect: GK101

    def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
        if batch_idx % 4 == 0:
            optimizer.zero_grad()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = torch.utils.data.TensorDataset(torch.randn(36, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=6))
    return module.net


def main():
    return [fit(Manual(clears=False)), fit(Overridden())]


def repaired():
    return fit(Manual(clears=True))
