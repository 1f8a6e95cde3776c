"""A LightningModule with manual optimization that clears between the backward and the step."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


class Manual(pl.LightningModule):
    def __init__(self, to_none=True):
        super().__init__()
        self.automatic_optimization = False
        self.to_none = to_none
        self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    def loss(self, x):
        return nn.functional.cross_entropy(self.net(x), (x[:, 0] > 0).long())

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        optimizer.zero_grad(set_to_none=self.to_none)
        self.manual_backward(self.loss(batch[0]))
        optimizer.step()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Cleared(Manual):
    def training_step(self, batch, index):
        optimizer = self.optimizers()
        self.manual_backward(self.loss(batch[0]))
        optimizer.zero_grad(set_to_none=self.to_none)
        optimizer.step()  # expect: GK102


class Skipping(Manual):
    """Throws the gradients of a loss that is too large away, and goes on with an empty step."""

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        loss = self.loss(batch[0] * (50 if index % 3 == 2 else 1))
        self.manual_backward(loss)
        if loss > 3.0:
            optimizer.zero_grad(set_to_none=self.to_none)
        optimizer.step()
        optimizer.zero_grad(set_to_none=self.to_none)


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
    return fit(Cleared())


def faulty_kept_as_zeros():
    class Zeroed(Manual):
        def training_step(self, batch, index):
            optimizer = self.optimizers()
            self.manual_backward(self.loss(batch[0]))
            optimizer.zero_grad(set_to_none=False)
            optimizer.step()  # expect: GK102

    torch.manual_seed(4)
    return fit(Zeroed())


def repaired():
    torch.manual_seed(4)
    return [fit(Manual()), fit(Manual(to_none=False))]


def repaired_by_skipping():
    torch.manual_seed(4)
    return [fit(Skipping()), fit(Skipping(to_none=False))]
