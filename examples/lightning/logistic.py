"""Logistic regression as a LightningModule, with gradkit's callback; `--broken` stops clearing gradients."""

from __future__ import annotations

import argparse

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gradkit.integrations.lightning import GradientHygiene


class LogisticRegression(pl.LightningModule):
    def __init__(self, features: int, broken: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.broken = broken

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.binary_cross_entropy_with_logits(self.linear(x).squeeze(-1), y)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        if not self.broken:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broken", action="store_true", help="do not clear gradients between steps")
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()

    pl.seed_everything(0)
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    model = LogisticRegression(x.shape[1], arguments.broken)
    hygiene = GradientHygiene()
    trainer = pl.Trainer(
        max_epochs=arguments.epochs,
        accelerator="cpu",
        callbacks=[hygiene],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, batch_size=64, shuffle=True))
    with torch.no_grad():
        accuracy = ((model.linear(data.tensors[0]).squeeze(-1) > 0) == data.tensors[1].bool()).float().mean()
    print(f"accuracy {accuracy:.3f}, findings {len(hygiene.findings)}")


if __name__ == "__main__":
    main()
