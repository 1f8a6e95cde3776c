"""A Lightning module is filled from weights whose network had another name."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    def fill(self, state):
        self.load_state_dict(state, strict=False)  # expect: GK409

    def training_step(self, batch, index):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def train(renamed):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(4)
    state = nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))}).state_dict()
    if renamed:
        state = {key.replace("backbone.", "net."): value for key, value in state.items()}
    module = Classifier()
    module.fill(state)
    data = torch.utils.data.TensorDataset(torch.randn(32, 4), torch.randint(0, 2, (32,)))
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
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=8))
    return module.net


def main():
    return train(renamed=False)


def repaired():
    return train(renamed=True)
