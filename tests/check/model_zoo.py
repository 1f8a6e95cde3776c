"""Sixty checks of tiny random models as people train them: right ones, with checkpoints of both kinds, and wrong twins.

The language and vision models are built from the configurations of transformers, nothing is downloaded. A wrong twin
has one module whose output passes through a backward pass that is off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHECKPOINTS = ("none", "kept", "reentrant")


@dataclass(frozen=True)
class ModelCase:
    """One model check.

    Attributes:
        name: Family, checkpoints and fault.
        right: Whether its gradients are right.
        make: Gives the model, its loss function and a batch.
    """

    name: str
    right: bool
    make: Callable[[], tuple[nn.Module, Callable[[nn.Module, Any], Tensor], Any]]


class Off(torch.autograd.Function):
    """The identity, with a backward pass that is off by a fault."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fault: str) -> Tensor:
        ctx.fault = fault
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if ctx.fault == "sign":
            return -grad, None
        if ctx.fault == "factor":
            return 1.01 * grad, None
        if ctx.fault == "severed":
            return torch.zeros_like(grad), None
        wrong = grad.clone()
        wrong.select(-1, 0).mul_(2)
        return wrong, None


FAULTS = ("sign", "factor", "severed", "one feature")


def spoil(model: nn.Module, module: str, fault: str) -> None:
    """Let the output of a module pass through a wrong backward pass."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return Off.apply(output, fault)
        return (Off.apply(output[0], fault), *output[1:])

    model.get_submodule(module).register_forward_hook(hook)


def _ids(rows: int = 2, length: int = 4, known: int = 17) -> Tensor:
    return torch.randint(3, known, (rows, length), generator=torch.Generator().manual_seed(1))


def _language(model: nn.Module, ids: Tensor) -> Tensor:
    return model(input_ids=ids, labels=ids).loss


def _pictures(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(pixel_values=batch[0]).logits, batch[1])


def _labelled(*shape: int, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*shape, generator=generator), torch.randint(classes, shape[:1], generator=generator)


def _classes(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "vocab_size": 17}


def _hugging(family: str) -> tuple[nn.Module, Any, Any, str]:
    """A model, its loss, a batch, and the module that a fault goes into."""
    import transformers as t

    t.logging.set_verbosity_error()

    bert = SMALL | {"max_position_embeddings": 8}
    llama = SMALL | {"num_key_value_heads": 1, "max_position_embeddings": 8, "pad_token_id": 0}
    made: dict[str, Callable[[], tuple[nn.Module, Any, Any, str]]] = {
        "gpt2": lambda: (
            t.GPT2LMHeadModel(
                t.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=8, vocab_size=17, bos_token_id=0,
                             eos_token_id=0)
            ),
            _language, _ids(), "transformer.h.0.mlp",
        ),
        "bert": lambda: (t.BertForMaskedLM(t.BertConfig(**bert)), _language, _ids(), "bert.encoder.layer.0.output"),
        "roberta": lambda: (
            t.RobertaForMaskedLM(t.RobertaConfig(**bert)), _language, _ids(), "roberta.encoder.layer.0.intermediate",
        ),
        "llama": lambda: (t.LlamaForCausalLM(t.LlamaConfig(**llama)), _language, _ids(), "model.layers.0.mlp"),
        "qwen2": lambda: (t.Qwen2ForCausalLM(t.Qwen2Config(**llama)), _language, _ids(), "model.layers.0.mlp"),
        "mistral": lambda: (
            t.MistralForCausalLM(t.MistralConfig(**llama)), _language, _ids(), "model.layers.0.input_layernorm",
        ),
        "t5": lambda: (
            t.T5ForConditionalGeneration(
                t.T5Config(d_model=8, d_kv=4, d_ff=12, num_layers=1, num_heads=2, vocab_size=17,
                           decoder_start_token_id=0)
            ),
            _language, _ids(), "encoder.block.0",
        ),
        "mamba": lambda: (
            t.MambaForCausalLM(t.MambaConfig(hidden_size=8, num_hidden_layers=1, state_size=4, vocab_size=17)),
            _language, _ids(), "backbone.layers.0.mixer",
        ),
        "vit": lambda: (
            t.ViTForImageClassification(
                t.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
                            image_size=8, patch_size=4, num_labels=5)
            ),
            _pictures, _labelled(3, 3, 8, 8), "vit.layernorm",
        ),
        "resnet": lambda: (
            t.ResNetForImageClassification(
                t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5)
            ),
            _pictures, _labelled(3, 3, 32, 32), "resnet.encoder.stages.0",
        ),
    }  # fmt: skip
    return made[family]()


FAMILIES = ("gpt2", "bert", "roberta", "llama", "qwen2", "mistral", "t5", "mamba", "vit")
WITHOUT_CHECKPOINTS = ("resnet",)


class Recurrent(nn.Module):
    """Cells over a sequence and a head on their last state."""

    def __init__(self, cells: nn.Module, width: int) -> None:
        super().__init__()
        self.cells, self.head = cells, nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


def _own(family: str) -> tuple[nn.Module, Any, Any, str]:
    made: dict[str, Callable[[], tuple[nn.Module, Any, Any, str]]] = {
        "cnn": lambda: (
            nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Linear(54, 5)),
            _classes, _labelled(4, 3, 8, 8), "1",
        ),
        "cnn of depthwise filters": lambda: (
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 6, 1),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)),
            _classes, _labelled(4, 4, 7, 7), "3",
        ),
        "lstm": lambda: (Recurrent(nn.LSTM(4, 8, batch_first=True), 8), _classes, _labelled(4, 6, 4), "head"),
        "lstm of two layers": lambda: (
            Recurrent(nn.LSTM(4, 8, num_layers=2, dropout=0.2, bidirectional=True, batch_first=True), 16),
            _classes, _labelled(4, 6, 4), "cells",
        ),
        "gru": lambda: (Recurrent(nn.GRU(4, 8, batch_first=True), 8), _classes, _labelled(4, 6, 4), "cells"),
        "transformer": lambda: (
            nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(48, 5)),
            _classes, _labelled(4, 6, 8), "0.norm1",
        ),
        "weight normalization": lambda: (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 5)),
            _classes, _labelled(4, 6), "1",
        ),
        "spectral normalization": lambda: (
            nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8)), nn.GELU(), nn.Linear(8, 5)),
            _classes, _labelled(4, 6), "1",
        ),
    }  # fmt: skip
    return made[family]()


OWN = (
    "cnn", "cnn of depthwise filters", "lstm", "lstm of two layers", "gru", "transformer", "weight normalization",
    "spectral normalization",
)  # fmt: skip


def built(family: str, checkpoints: str = "none", fault: str | None = None) -> tuple[nn.Module, Any, Any]:
    """A model in training mode, its loss and a batch, from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, loss, batch, module = (_own if family in OWN else _hugging)(family)
    model.train()
    if checkpoints != "none":
        model.gradient_checkpointing_enable({"use_reentrant": checkpoints == "reentrant"})
        if checkpoints == "reentrant" and family != "vit":
            model.enable_input_require_grads()
    if fault is not None:
        spoil(model, module, fault)
    return model, loss, batch


def _case(family: str, checkpoints: str, fault: str | None) -> ModelCase:
    kind = "" if checkpoints == "none" else f", checkpoints {checkpoints}"
    name = f"{family}{kind}{f', wrong {fault}' if fault else ''}"
    return ModelCase(name, fault is None, lambda: built(family, checkpoints, fault))


def cases() -> list[ModelCase]:
    """The sixty checks."""
    found = [_case(family, kind, None) for family in FAMILIES for kind in CHECKPOINTS]
    found += [_case(family, "none", None) for family in (*WITHOUT_CHECKPOINTS, *OWN)]
    wrong = [*FAMILIES, *WITHOUT_CHECKPOINTS, *OWN]
    found += [_case(family, "none", FAULTS[place % len(FAULTS)]) for place, family in enumerate(wrong)]
    found += [_case(family, kind, "factor") for family in ("gpt2", "llama", "bert") for kind in CHECKPOINTS[1:]]
    return found
