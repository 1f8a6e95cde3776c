"""A LightningModule with manual optimization that steps its scheduler too early."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


class Manual(pl.LightningModule):
    def __init__(self, early):
        super().__init__()
        self.automatic_optimization = False
        self.early = early
        self.net = nn.Linear(4, 2)

    def training_step(self, batch, batch_idx):
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        (x,) = batch
        optimizer.zero_grad()
        self.manual_backward(nn.functional.cross_entropy(self.net(x), (x[:, 0] > 0).long()))
        if self.early:
            schedule.step()  # expect: GK405
        optimizer.step()
        if not self.early:
            schedule.step()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)]


def train(early):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(3)
    model = Manual(early)
    data = torch.utils.data.TensorDataset(torch.randn(32, 4))
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
        trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=4))
    return model.net


def main():
    return train(early=True)


def repaired():
    return train(early=False)
