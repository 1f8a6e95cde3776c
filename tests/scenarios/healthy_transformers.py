"""Hugging Face's Trainer on a tiny random GPT-2, accumulating and clipping."""

import contextlib
import io
import tempfile
import warnings

import torch

NEEDS = ("transformers", "accelerate")


class Words(torch.utils.data.Dataset):
    def __init__(self, count):
        self.words = torch.randint(40, (count, 8))

    def __len__(self):
        return len(self.words)

    def __getitem__(self, number):
        return {"input_ids": self.words[number], "labels": self.words[number]}


def train(accumulate):
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(5)
    config = transformers.GPT2Config(vocab_size=40, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        options = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=2,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=accumulate,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        transformers.Trainer(model=model, args=options, train_dataset=Words(28)).train()
    return model


def healthy_plain():
    return train(1)


def healthy_accumulating_with_a_tail():
    return train(3)
