"""A callback of Hugging Face's Trainer that steps the optimizer once more."""

import contextlib
import io
import tempfile
import warnings

import torch
import transformers
from torch import nn

NEEDS = ("transformers", "accelerate")


class Again(transformers.TrainerCallback):
    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        optimizer.step()  # expect: GK103


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 1)

    def forward(self, x, labels):
        out = self.net(x)
        return {"loss": nn.functional.mse_loss(out, labels), "logits": out}


class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.x = torch.randn(16, 4)

    def __len__(self):
        return 16

    def __getitem__(self, number):
        return {"x": self.x[number], "labels": self.x[number, :1]}


def train(callbacks):
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(5)
    model = Model()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        options = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=4,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        transformers.Trainer(model=model, args=options, train_dataset=Rows(), callbacks=callbacks).train()
    return model


def main():
    return train([Again()])


def repaired():
    return train([])
