"""A LightningModule with manual optimization steps once more on the gradients it has just consumed."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


class Manual(pl.LightningModule):
    def __init__(self, twice, fused=False):
        super().__init__()
        self.automatic_optimization = False
        self.twice, self.fused = twice, fused
        self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    def update(self, optimizer, loss):
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        (x,) = batch
        self.update(optimizer, nn.functional.cross_entropy(self.net(x), (x[:, 0] > 0).long()))
        if self.twice:
            optimizer.step()  # expect: GK103

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2, fused=self.fused)


def fit(module):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = torch.utils.data.TensorDataset(torch.randn(48, 4))
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
    torch.manual_seed(4)
    return fit(Manual(twice=True))


def faulty_forgotten_backward():
    class Forgetful(Manual):
        def training_step(self, batch, index):
            optimizer = self.optimizers()
            loss = self.net(batch[0]).square().mean()
            optimizer.zero_grad()
            optimizer.step()  # expect: GK103
            return loss

    torch.manual_seed(4)
    return fit(Forgetful(twice=False))


def repaired():
    torch.manual_seed(4)
    return [fit(Manual(twice=False)), fit(Manual(twice=False, fused=True))]
