"""Every optimizer is torch's with the configured settings; sparse gradients and nothing to train are refused."""

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from gradkit.errors import ConfigError
from gradkit.train.loop.optimizers import TAKES_SPARSE, build_optimizer, detect_sparse
from gradkit.train.schema.optimizers import (
    AdagradOptimizer,
    AdamOptimizer,
    LbfgsOptimizer,
    OptimizerConfig,
    RmspropOptimizer,
    SgdOptimizer,
)

CASES: list[tuple[OptimizerConfig, type[torch.optim.Optimizer], dict[str, Any]]] = [
    (SgdOptimizer(lr=0.3, weight_decay=0.1), torch.optim.SGD, {"lr": 0.3, "weight_decay": 0.1, "momentum": 0}),
    (SgdOptimizer(momentum=0.8), torch.optim.SGD, {"momentum": 0.8, "nesterov": False}),
    (SgdOptimizer(momentum=0.8, nesterov=True), torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    (AdamOptimizer(beta1=0.5, beta2=0.6, eps=1e-3), torch.optim.Adam, {"betas": (0.5, 0.6), "eps": 1e-3}),
    (AdamOptimizer(amsgrad=True, weight_decay=0.2), torch.optim.Adam, {"amsgrad": True, "weight_decay": 0.2}),
    (AdamOptimizer(name="adamw", weight_decay=0.2), torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.2}),
    (RmspropOptimizer(alpha=0.5, momentum=0.1), torch.optim.RMSprop, {"alpha": 0.5, "momentum": 0.1, "eps": 1e-8}),
    (AdagradOptimizer(lr=0.7, eps=1e-3), torch.optim.Adagrad, {"lr": 0.7, "eps": 1e-3}),
    (LbfgsOptimizer(max_iter=3, history_size=4), torch.optim.LBFGS, {"max_iter": 3, "history_size": 4}),
]


@pytest.mark.parametrize(("config", "kind", "settings"), CASES)
def test_the_optimizer_is_torchs_with_these_settings(
    config: OptimizerConfig, kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    model = nn.Linear(3, 1)
    model.bias.requires_grad_(False)
    optimizer = build_optimizer(config, model)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["params"] == [model.weight]
    assert {name: group[name] for name in settings} == settings


def test_lbfgs_searches_by_the_strong_wolfe_conditions() -> None:
    (group,) = build_optimizer(LbfgsOptimizer(), nn.Linear(3, 1)).param_groups
    assert group["line_search_fn"] == "strong_wolfe"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SgdOptimizer(nesterov=True), r"optimizer\.momentum"),
        (LbfgsOptimizer(weight_decay=0.1), r"loss\.l2"),
        (OptimizerConfig(name="adagrat"), "Did you mean 'adagrad'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(config: OptimizerConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_optimizer(config, nn.Linear(3, 1))


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizer(SgdOptimizer(), nn.Linear(3, 1).requires_grad_(False))
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizer(SgdOptimizer(), nn.ReLU())


class Bag(nn.Module):
    def __init__(self, sparse: bool = True) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(10, 3, sparse=sparse)
        self.head = nn.Linear(3, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.words(features)).squeeze(-1)


def test_sparse_modules_are_found_by_name_unless_frozen() -> None:
    model = nn.Sequential(nn.Embedding(4, 2, sparse=True), Bag(), Bag(sparse=False))
    assert detect_sparse(model) == ["0", "1.words"]
    assert detect_sparse(nn.Embedding(4, 2, sparse=True)) == ["Embedding"]
    assert detect_sparse(nn.Embedding(4, 2, sparse=True).requires_grad_(False)) == []


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's Adagrad makes sparse tensors itself
@pytest.mark.parametrize("config", [case[0] for case in CASES], ids=lambda config: type(config).__name__)
def test_what_is_refused_for_sparse_gradients_is_what_torch_refuses(config: OptimizerConfig) -> None:
    def step(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(torch.tensor([[1, 2], [3, 4]])).square().mean()
            loss.backward()
            assert next(model.parameters()).grad.is_sparse
            return loss

        if isinstance(config, LbfgsOptimizer):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()

    model = Bag()
    dense = build_optimizer(config, Bag(sparse=False))  # the repaired twin
    accepted = inspect.signature(type(dense)).parameters.keys() - {"params"}
    raw = type(dense)(model.parameters(), **{k: v for k, v in dense.param_groups[0].items() if k in accepted})
    try:
        step(raw, model)
        torch_takes_it = True
    except RuntimeError:
        torch_takes_it = False
    if torch_takes_it:
        model = Bag()
        step(build_optimizer(config, model), model)
        assert config.name in TAKES_SPARSE
    else:
        with pytest.raises(ConfigError, match=r"'words'.*sparse"):
            build_optimizer(config, Bag())
