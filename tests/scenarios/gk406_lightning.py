"""A LightningModule freezes its encoder after an epoch and keeps gradients as zeros: momentum goes on moving it."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


class Module(pl.LightningModule):
    def __init__(self, to_none):
        super().__init__()
        self.to_none = to_none
        self.encoder = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.optimizers().zero_grad(set_to_none=self.to_none)
            self.encoder.requires_grad_(False)

    def training_step(self, batch, index):
        (x,) = batch
        return nn.functional.cross_entropy(self.head(self.encoder(x).relu()), (x[:, 0] > 0).long())  # expect: GK406

    def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
        optimizer.zero_grad(set_to_none=self.to_none)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def fit(module):
    torch.manual_seed(5)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = torch.utils.data.TensorDataset(torch.randn(80, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=5,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=8))
    return [module.encoder, module.head]


def main():
    torch.manual_seed(5)
    return fit(Module(to_none=False))


def repaired():
    torch.manual_seed(5)
    return fit(Module(to_none=True))


def healthy_thawed_inside_the_closure():
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(40):
        x = torch.randn(8, 4)

        def closure(x=x):
            model.requires_grad_(True)
            loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long())
            loss.backward()
            return loss

        optimizer.step(closure)
        optimizer.zero_grad(set_to_none=False)
        model.requires_grad_(False)
    return model


def healthy_gradients_written_inside_the_closure():
    torch.manual_seed(5)
    model = nn.Linear(4, 1).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(40):

        def closure():
            for parameter in model.parameters():
                parameter.grad.copy_(torch.randn_like(parameter))
            return 0.0

        optimizer.step(closure)
        optimizer.zero_grad(set_to_none=False)
    return model
