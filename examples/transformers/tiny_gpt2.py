"""A randomly initialised GPT-2 of 27 thousand numbers learns to count; `--broken` forgets part of it."""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from gradkit.integrations.transformers import GradientHygieneCallback

VOCABULARY, LENGTH = 32, 16


class Counting(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Sequences that count upwards from a random start."""

    def __init__(self, number: int) -> None:
        starts = torch.randint(VOCABULARY, (number, 1), generator=torch.Generator().manual_seed(0))
        self.tokens = (starts + torch.arange(LENGTH)) % VOCABULARY

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broken", action="store_true", help="leave the final layer norm out of the optimizer")
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()

    set_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    held = [p for name, p in model.named_parameters() if not (arguments.broken and "ln_f" in name)]
    optimizer = torch.optim.AdamW(held, lr=3e-3)
    hygiene = GradientHygieneCallback()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {
            "output_dir": folder,
            "num_train_epochs": arguments.epochs,
            "per_device_train_batch_size": 16,
            "gradient_accumulation_steps": 2,
            "logging_steps": 4,
            "save_strategy": "no",
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
        }
        trainer = Trainer(
            model=model,
            args=TrainingArguments(**settings),
            train_dataset=Counting(256),
            callbacks=[hygiene],
            optimizers=(optimizer, None),
        )
        trainer.train()
    print(f"loss {trainer.state.log_history[-1]['train_loss']:.3f}, findings {len(hygiene.findings)}")


if __name__ == "__main__":
    main()
