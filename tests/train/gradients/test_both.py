"""`gradient=both` changes nothing about a run, and its differences see an error in either gradient."""

import math

import pytest
import torch

from gradkit.train.gradients.both import BothGradients
from gradkit.train.schema.models import LogisticModel, LossConfig
from tests.train.gradients.cases import LOSSES, MODELS, batch, gradients, make


@pytest.mark.parametrize("model", MODELS)
def test_a_run_with_both_is_bit_for_bit_the_run_with_autograd(model: str) -> None:
    ends = []
    for name in ("autograd", "both"):
        module, method = make(MODELS[model], LOSSES["penalties"], name, features=3, dtype=torch.float32)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        torch.manual_seed(2)
        for step in range(5):
            optimizer.zero_grad()
            for share in (0.5, 0.5):
                value = method.forward(*batch(8, 3, torch.float32, seed=step))
                method.backward(value, share)
            differences = method.differences()
            if name == "both":
                # Float32 and sums of 8 products: a few units; far from what a wrong mask or sign gives (over 100,000).
                assert differences["manual_ulp_diff"] <= 64
                assert differences["manual_abs_diff"] <= 1e-5
            optimizer.step()
        ends.append((dict(module.state_dict()), torch.rand(4)))
    assert torch.equal(ends[0][1], ends[1][1]), "the random stream moved"
    for key, expected in ends[0][0].items():
        assert torch.equal(ends[1][0][key], expected), key


def _compared(method: BothGradients) -> tuple[float, float]:
    values = method.differences()
    assert all(value.ndim == 0 and not value.requires_grad for value in values.values())
    return float(values["manual_abs_diff"]), float(values["manual_ulp_diff"])


def test_a_wrong_gradient_shows_at_its_size_and_the_next_window_is_clean() -> None:
    module, method = make(LogisticModel(), LossConfig(), "both", features=3, dtype=torch.float64)
    x, y = batch(8, 3, torch.float64)
    method.backward(method.forward(x, y), 1.0)
    grad = module.linear.weight.grad
    grad[0, 1] += 2**-10
    largest = grad.abs().max().item()
    absolute, ulps = _compared(method)
    assert absolute == pytest.approx(2**-10, rel=1e-9)
    assert ulps == pytest.approx(2**-10 / math.ulp(largest), rel=1e-9)
    assert method.differences() == {}
    module.zero_grad()
    method.backward(method.forward(x, y), 1.0)
    assert _compared(method)[1] <= 8


def test_windows_that_were_never_compared_do_not_leak_into_the_next() -> None:
    module, method = make(LogisticModel(), LossConfig(), "both", features=3, dtype=torch.float64)
    x, y = batch(8, 3, torch.float64)
    for _ in range(3):
        module.zero_grad()
        method.backward(method.forward(x, y), 1.0)
    assert _compared(method)[1] <= 8
    method.backward(method.forward(x, y), 1.0)  # not zeroed: .grad holds two windows, the comparison one
    stale = gradients(module)["linear.weight"].abs().max().item()
    assert _compared(method)[0] == pytest.approx(stale / 2)


def test_differences_do_not_read_the_device() -> None:
    _, method = make(MODELS["mlp everything"], LossConfig(), "both", features=3, dtype=torch.float32)
    method.backward(method.forward(*batch(8, 3, torch.float32)), 1.0)
    read = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("item", "tolist", "__float__", "__bool__", "__int__", "numpy", "cpu"):
            patch.setattr(torch.Tensor, name, lambda self, *rest, name=name: read.append(name))
        method.differences()
    assert read == []


def test_both_are_nan_at_the_same_place_counts_as_agreement() -> None:
    module, method = make(LogisticModel(), LOSSES["textbook"], "both", features=1, dtype=torch.float32)
    with torch.no_grad():
        module.linear.weight.fill_(1)
    method.backward(method.forward(torch.tensor([[1e4]]), torch.tensor([1.0])), 1.0)
    assert module.linear.weight.grad.isnan().all()
    assert _compared(method) == (0, 0)
