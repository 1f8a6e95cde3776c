"""The scale of a loss, read from its graph: what it is for each way to write it, and that reading changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gradkit.observe.tensors.loss_scale import scale_of

TARGETS = torch.tensor([0, 1, 2, -100, 1, 0])


def logits() -> Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()


MEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "cross entropy": lambda x: functional.cross_entropy(x, TARGETS),
    "with logits": lambda x: functional.binary_cross_entropy_with_logits(x, torch.ones(6, 3)),
    "squares": lambda x: functional.mse_loss(x, torch.ones(6, 3)),
    "absolute": lambda x: functional.l1_loss(x, torch.ones(6, 3)),
    "smooth": lambda x: functional.smooth_l1_loss(x, torch.ones(6, 3)),
    "huber": lambda x: functional.huber_loss(x, torch.ones_like(x)),
    "by hand": lambda x: (x - 1).square().mean(),
    "in two steps": lambda x: (x - 1).square().mean(1).mean(),
    "two means": lambda x: functional.cross_entropy(x, TARGETS) + 0.1 * x.square().mean(),
    "a mean and a sum": lambda x: functional.cross_entropy(x, TARGETS) + 1e-4 * x.square().sum(),
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "a sum": lambda x: functional.cross_entropy(x, TARGETS, reduction="sum"),
    "smoothed labels": lambda x: functional.cross_entropy(x, TARGETS, label_smoothing=0.1),
    "soft targets": lambda x: functional.cross_entropy(x, torch.ones(6, 3) / 3),
    "a sum over a number": lambda x: x.square().sum() / 18,
    "over a tensor": lambda x: functional.mse_loss(x, torch.ones(6, 3)) / torch.tensor(4.0),
    "times a learned weight": lambda x: functional.mse_loss(x, torch.ones(6, 3)) * torch.ones((), requires_grad=True),
    "an element": lambda x: x[0, 0],
    "a root of a mean": lambda x: x.square().mean().sqrt(),
    "no graph": lambda x: x.detach().mean(),
}


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_is_recognised_and_its_divisor_read(name: str) -> None:
    plain, divided = scale_of(MEANS[name](logits())), scale_of(MEANS[name](logits()) / 4)
    assert plain is not None and plain.undivided and plain.divided_by(4) is None
    assert divided is not None and not divided.undivided and divided.divided_by(4) is not None


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_mean_or_scaled_by_a_tensor_is_not_understood(name: str) -> None:
    assert scale_of(OTHERS[name](logits())) is None


@given(st.lists(st.tuples(st.sampled_from("*/"), st.floats(0.125, 8.0) | st.integers(1, 8)), max_size=5))
def test_the_factor_is_the_product_of_the_constants(steps: list[tuple[str, float]]) -> None:
    loss, expected = functional.mse_loss(logits(), torch.ones(6, 3)), 1.0
    for sign, number in steps:
        loss, expected = (loss * number, expected * number) if sign == "*" else (loss / number, expected / number)
    scale = scale_of(loss)
    assert scale is not None
    (mean,) = scale.means
    assert (mean.factor, mean.constants) == (pytest.approx(expected, rel=1e-12), len(steps))


def test_the_items_are_the_targets_that_are_not_ignored() -> None:
    scale = scale_of(functional.cross_entropy(logits(), TARGETS))
    assert scale is not None and scale.means[0].items is not None
    assert float(scale.means[0].items) == 5
    weighted = scale_of(functional.cross_entropy(logits(), TARGETS, weight=torch.ones(3)))
    assert weighted is not None and weighted.means[0].items is None


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_looking_changes_no_gradient(name: str, dtype: torch.dtype) -> None:
    gradients = []
    for look in (False, True):
        leaf = logits().detach().to(dtype).clone().requires_grad_()
        loss = MEANS[name](leaf) / 3
        if look:
            scale_of(loss)
        loss.backward()
        gradients.append(leaf.grad)
    assert gradients[0].dtype == gradients[1].dtype and torch.equal(*gradients)  # type: ignore[union-attr]


def test_looking_does_not_compute_a_checkpointed_forward_again() -> None:
    calls = []

    def loss_of(x: Tensor, number: Tensor) -> Tensor:
        calls.append(1)
        return functional.mse_loss(x, torch.ones(6, 3)) / number

    leaf = logits()
    loss = checkpoint(loss_of, leaf, torch.tensor(4.0), use_reentrant=False)
    assert isinstance(loss, Tensor)
    assert scale_of(loss) is None
    assert len(calls) == 1
    loss.backward()
    assert len(calls) == 2


def test_a_loss_of_very_many_terms_is_given_up() -> None:
    leaf = logits()
    loss = leaf.square().mean()
    for _ in range(40):
        loss = loss + leaf.square().mean()
    assert scale_of(loss) is None
