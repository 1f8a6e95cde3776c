"""The Hugging Face callback: tiny models stay silent and unchanged, faults are found at the user's lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gradkit.errors import ConfigError

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from gradkit.integrations.transformers import GradientHygieneCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Tokens(torch.utils.data.Dataset):
    """Random token sequences; for a classifier with a label each."""

    def __init__(self, labels: bool) -> None:
        generator = torch.Generator().manual_seed(1)
        self.tokens = torch.randint(5, 60, (24, 12), generator=generator)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        tokens = self.tokens[index]
        return {"input_ids": tokens, "labels": tokens[0] % 2 if self.labels else tokens}


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=64, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
        return transformers.GPT2LMHeadModel(config)
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=2
    )
    return transformers.BertForSequenceClassification(config)


class NeverClears(torch.optim.AdamW):
    """An optimizer whose clearing does nothing."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


class OwnLoss(transformers.Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(**inputs)
        loss = outputs.loss * 1.0
        return (loss, outputs) if return_outputs else loss


def trainer_of(
    tmp_path: Path, kind: str, callback: Any = None, trainer_class: Any = None, optimizer: Any = None, **options: Any
) -> Any:
    model = model_of(kind)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        logging_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
        **{"save_strategy": "no", **options},
    )
    data = Tokens(labels=kind == "bert")
    return (trainer_class or transformers.Trainer)(
        model=model,
        args=arguments,
        train_dataset=data,
        eval_dataset=data,
        callbacks=[callback] if callback else [],
        **({"optimizers": (optimizer(model), None)} if optimizer else {}),
    )


def train(*arguments: Any, **options: Any) -> Any:
    trainer = trainer_of(*arguments, **options)
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_tiny_model_stays_silent_and_unchanged(tmp_path: Path, kind: str, accumulate: int) -> None:
    options = {"gradient_accumulation_steps": accumulate, "eval_strategy": "epoch"}
    bare = train(tmp_path / "bare", kind, **options)
    callback = GradientHygieneCallback(report="never")
    watched = train(tmp_path / "watched", kind, callback, **options)
    assert callback.findings == ()
    assert callback.monitor.info.steps == watched.state.global_step
    assert callback.monitor.accumulate == (2 if accumulate == 2 else None)
    assert callback.monitor.attached == ()
    for one, other in zip(bare.model.state_dict().values(), watched.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not any("gradkit" in key for entry in watched.state.log_history for key in entry)


SETTINGS: dict[str, dict[str, Any]] = {
    "the best model loaded at the end": {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
    },
    "reentrant checkpointing": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "warmup and adafactor": {"optim": "adafactor", "warmup_steps": 5},
    "bfloat16 and clipping": {"bf16": True, "max_grad_norm": 0.1},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_trainers_own_settings_stay_silent(tmp_path: Path, settings: dict[str, Any]) -> None:
    callback = GradientHygieneCallback(report="never")
    trainer = trainer_of(tmp_path, "bert", callback, **settings)
    trainer.model.bert.embeddings.requires_grad_(False)
    trainer.train()
    assert [f"{f.rule} {f.message}" for f in callback.findings if f.severity.value != "note"] == []
    assert callback.monitor.info.steps == trainer.state.global_step


@pytest.mark.parametrize(("trainer_class", "function"), [(OwnLoss, "OwnLoss.compute_loss"), (None, "train")])
def test_gradients_never_cleared_are_found_and_logged(tmp_path: Path, trainer_class: Any, function: str) -> None:
    callback = GradientHygieneCallback(report="never")
    optimizer = lambda model: NeverClears(model.parameters(), lr=1e-3)  # noqa: E731
    trainer = trainer_of(tmp_path, "bert", callback, trainer_class, optimizer, save_strategy="epoch")
    trainer.model.zero_grad = lambda *_, **__: None  # the trainer clears through the model
    for _ in range(2):
        trainer.train()
        (finding,) = callback.findings
        assert finding.rule == "GK101"
        assert finding.location is not None
        assert Path(finding.location.file) == Path(__file__)
        assert trainer.state.log_history[-1]["gradkit/errors"] == 1
        states = sorted(tmp_path.glob("checkpoint-*/trainer_state.json"))
        assert "gradkit/GK101" in json.dumps(json.loads(states[-1].read_text())["log_history"])
        if trainer_class is not None:
            assert function.endswith(finding.location.function)


def test_an_optimizer_without_the_head_is_found(tmp_path: Path) -> None:
    callback = GradientHygieneCallback(report="never")
    trainer = train(
        tmp_path,
        "bert",
        callback,
        optimizer=lambda model: torch.optim.AdamW(model.bert.parameters(), lr=1e-3),
    )
    (finding,) = callback.findings
    assert finding.rule == "GK401"
    assert finding.parameters == ("classifier.weight", "classifier.bias")
    assert trainer.state.log_history[-1]["gradkit/GK401"] == 1


def test_a_bad_option_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="budget"):
        GradientHygieneCallback(budget=2.0)
