"""Manual optimization that steps after every third batch and forgets the last batches of the epoch."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)
WINDOW = 3


class Forgetful(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Linear(4, 2)

    def is_full(self, index):
        return (index + 1) % WINDOW == 0

    def training_step(self, batch, index):
        (x,) = batch
        self.manual_backward(nn.functional.cross_entropy(self.net(x), (x[:, 0] > 0).long()) / WINDOW)
        if self.is_full(index):
            optimizer = self.optimizers()
            optimizer.step()  # expect: GK104
            optimizer.zero_grad()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Flushing(Forgetful):
    def is_full(self, index):
        return super().is_full(index) or self.trainer.is_last_batch


class CountingOn(Forgetful):
    """Counts over all epochs: every window is whole."""

    seen = 0

    def is_full(self, index):
        self.seen += 1
        return self.seen % WINDOW == 0


def fit(module, **options):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = torch.utils.data.TensorDataset(torch.randn(64, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=4,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=8, shuffle=True))
    return module.net


def main():
    torch.manual_seed(4)
    return fit(Forgetful())


def repaired():
    torch.manual_seed(4)
    return fit(Flushing())


def repaired_by_counting_on():
    torch.manual_seed(4)
    return fit(CountingOn())


def repaired_by_whole_windows():
    torch.manual_seed(4)
    return fit(Forgetful(), limit_train_batches=6)
