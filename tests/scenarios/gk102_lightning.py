"""A Lightning hook that runs between backward and step clears the gradients it was meant to look at."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.net = nn.Linear(4, 1)

    def training_step(self, batch, index):
        (x,) = batch
        loss = self.net(x).square().mean()
        return {"loss": loss}

    def on_before_optimizer_step(self, optimizer):
        print(f"{sum(float(p.grad.norm()) for p in self.parameters()):.4f}")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Cleared(Module):
    def on_before_optimizer_step(self, optimizer):
        super().on_before_optimizer_step(optimizer)
        self.zero_grad()  # expect: GK102


class Spiky(Module):
    """Skips the updates of batches with large gradients, several in a row."""

    def training_step(self, batch, index):
        (x,) = batch
        return self.net(x * (1 if index % 6 < 3 else 50)).square().mean()

    def on_before_optimizer_step(self, optimizer):
        if self.net.weight.grad.norm() > 30.0:
            self.zero_grad()


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
    return fit(Cleared())


def repaired():
    return fit(Module())


def repaired_by_skipping_only_what_is_too_large():
    return fit(Spiky())
