"""Lightning: automatic and manual optimization, accumulating, clipping, with several optimizers."""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn

NEEDS = ("lightning",)


def fit(module, epochs=2, **options):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = torch.utils.data.TensorDataset(torch.randn(42, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=6))
    return module.net


class Automatic(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))

    def training_step(self, batch, index):
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Validated(Automatic):
    def validation_step(self, batch, index):
        self.log("loss", self.net(batch[0]).square().mean())

    def val_dataloader(self):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(12, 4)), batch_size=6)


class Manual(Automatic):
    automatic_optimization = False

    def __init__(self, window):
        super().__init__()
        self.window = window

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        self.manual_backward(self.net(batch[0]).square().mean() / self.window)
        if (index + 1) % self.window == 0 or self.trainer.is_last_batch:
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            optimizer.step()
            optimizer.zero_grad()


class Pair(pl.LightningModule):
    """A generator and a critic, each toggled while its optimizer runs."""

    automatic_optimization = False

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.ModuleDict({"generator": nn.Linear(4, 2), "critic": nn.Linear(2, 1)})

    def training_step(self, batch, index):
        first, second = self.optimizers()
        fake = self.net["generator"](batch[0])
        self.toggle_optimizer(first)
        first.zero_grad()
        self.manual_backward(-self.net["critic"](fake).mean())
        first.step()
        self.untoggle_optimizer(first)
        self.toggle_optimizer(second)
        second.zero_grad()
        self.manual_backward(self.net["critic"](fake.detach()).square().mean())
        second.step()
        self.untoggle_optimizer(second)

    def configure_optimizers(self):
        return [torch.optim.Adam(self.net[name].parameters(), lr=1e-2) for name in ("generator", "critic")]


def healthy_automatic():
    return fit(Automatic(), gradient_clip_val=0.5)


def healthy_validated():
    return fit(Validated())


def healthy_accumulating():
    return fit(Automatic(), accumulate_grad_batches=3)


def healthy_accumulating_clipped_by_value():
    return fit(Automatic(), accumulate_grad_batches=2, gradient_clip_val=0.01, gradient_clip_algorithm="value")


def healthy_manual_with_a_tail():
    return fit(Manual(window=3))


def healthy_pair():
    return fit(Pair())


class LeavesOut(Automatic):
    """Returns None for the batches it does not want: Lightning then steps on nothing."""

    def training_step(self, batch, index):
        loss = super().training_step(batch, index)
        return None if 1 < index < 5 else loss


def healthy_batches_left_out():
    return fit(LeavesOut())
