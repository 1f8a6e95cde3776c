"""A LightningModule whose optimizer gets the encoder and forgets the decoder."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


class Auto(pl.LightningModule):
    def __init__(self, whole):
        super().__init__()
        self.whole = whole
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.decoder = nn.Linear(4, 8)

    def training_step(self, batch, batch_idx):
        (x,) = batch
        return nn.functional.mse_loss(self.decoder(self.encoder(x)), x)

    def configure_optimizers(self):
        parameters = self.parameters() if self.whole else self.encoder.parameters()
        return torch.optim.Adam(parameters, lr=1e-2)  # expect: GK401


def train(whole):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(3)
    model = Auto(whole)
    data = torch.utils.data.TensorDataset(torch.randn(48, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=8))
    return {"encoder": model.encoder, "decoder": model.decoder}


def main():
    return train(whole=False)


def repaired():
    return train(whole=True)
