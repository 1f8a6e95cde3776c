"""Gradients changed between backward and step: a mixture is found through the change, a deliberate blend is not one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gradkit
from gradkit.observe.books.samples import SAMPLE, SAMPLED_WINDOWS, Samples
from gradkit.observe.tensors.measure import Reader

Change = Callable[[Tensor], object]


def _replaced(p: Tensor) -> None:
    p.grad = p.grad / 3


CHANGES: dict[str, Change] = {
    "scaled": lambda p: p.grad.mul_(0.5),
    "negated": lambda p: p.grad.neg_(),
    "replaced": _replaced,
    "clamped": lambda p: p.grad.clamp_(-0.01, 0.01),
    "clamped through data": lambda p: p.grad.data.clamp_(-0.01, 0.01),
    "signs": lambda p: p.grad.sign_(),
    "normalized": lambda p: p.grad.div_(p.grad.norm() + 1e-8),
    "masked": lambda p: p.grad.mul_(torch.rand_like(p) > 0.3),
    "noised": lambda p: p.grad.add_(1e-4 * torch.randn_like(p)),
    "decayed weights": lambda p: p.grad.add_(p, alpha=0.01),
    "repaired NaN": lambda p: torch.nan_to_num_(p.grad),
}


def _train(change: Change, *, clear: bool, deep: bool = False) -> gradkit.Monitor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradkit.watch(report="never", deep=deep) as monitor:
        for _ in range(8):
            if clear:
                optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            with torch.no_grad():
                for p in model.parameters():
                    change(p)
            optimizer.step()
    return monitor


@pytest.mark.parametrize("deep", [False, True], ids=["standard", "deep"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_between_backward_and_step_does_not_hide_uncleared_gradients(name: str, deep: bool) -> None:
    (finding,) = _train(CHANGES[name], clear=False, deep=deep).findings
    assert finding.rule == "GK101"
    assert finding.first_step <= 3
    assert finding.evidence["parameters_mixed"] == 4


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_change_of_cleared_gradients_is_silent(name: str) -> None:
    assert _train(CHANGES[name], clear=True).findings == ()


def test_deep_mode_scales_the_stale_part_with_the_gradient_it_is_in() -> None:
    windows: list[gradkit.records.Window] = []
    expected = []
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(16, 8)
    with gradkit.watch(report="never", deep=True, on_window=windows.append):
        for _ in range(3):
            model(x).square().mean().backward()
            for p in model.parameters():
                p.grad.mul_(0.5)
            fresh = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
            optimizer.step()
            expected.append(0.5 * float(torch.cat([g.flatten() for g in fresh]).norm()))
    assert [window.deep.fresh_norm_l2 for window in windows if window.deep] == pytest.approx(expected, rel=1e-5)


def _proof(stale: Tensor, fresh: Tensor, consumed: Tensor) -> dict[int, float]:
    samples = Samples()
    parameter = nn.Parameter(torch.randn_like(stale))
    samples.begin([(0, stale)])
    samples.follow(0, stale + fresh)
    parameter.grad = consumed
    return samples.proven([(0, parameter)], Reader(1.0))


def _parts(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, generator=generator), torch.randn(count, generator=generator)


@pytest.mark.parametrize("count", [2, 3, 40, 3 * SAMPLE + 1])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9, 0.99, 1.01, -1.0])
def test_a_blend_with_another_share_of_the_old_part_is_no_mixture(count: int, keep: float) -> None:
    s, f = _parts(count)
    assert _proof(s, f, keep * s + f) == {}


@pytest.mark.parametrize("count", [3, 40, 3 * SAMPLE + 1])
@pytest.mark.parametrize("factor", [1.0, 0.1, -2.0])
def test_a_multiple_of_the_sum_is_a_mixture_with_that_factor(count: int, factor: float) -> None:
    s, f = _parts(count)
    assert _proof(s, f, factor * (s + f)) == {0: pytest.approx(factor, rel=1e-4)}


def test_old_and_new_parts_that_point_the_same_way_prove_nothing() -> None:
    s, _ = _parts(40)
    assert _proof(s, 0.25 * s, 3.0 * s) == {}


@pytest.mark.parametrize("consumed", ["zero", "fresh", "nan", "something else"])
def test_what_is_not_the_sum_proves_nothing(consumed: str) -> None:
    s, f = _parts(40)
    other = {"zero": 0 * f, "fresh": f, "nan": f * torch.nan, "something else": torch.arange(40.0)}[consumed]
    assert _proof(s, f, other) == {}


def test_samples_are_bounded_in_size_and_in_windows() -> None:
    samples = Samples()
    for _ in range(SAMPLED_WINDOWS):
        assert samples.windows_left > 0
        samples.begin([(0, torch.ones(10 * SAMPLE + 7))])
        assert samples._kept[0].stale.numel() <= SAMPLE
        samples.clear()
    assert samples.windows_left == 0


def test_windows_that_need_no_samples_leave_them_to_a_later_fault() -> None:
    """Many healthy suspicions (a GAN's critic), then a loop that clips by value and does not clear."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.01)
    with gradkit.watch(report="never") as monitor:
        for step in range(30):
            if step < 20:
                critic(torch.randn(8, 4)).mean().backward()
                optimizer.zero_grad(set_to_none=False)
            critic(torch.randn(8, 4)).square().mean().backward()
            with torch.no_grad():
                for p in critic.parameters():
                    p.grad.clamp_(-0.05, 0.05)
            optimizer.step()
    (finding,) = monitor.findings
    assert (finding.rule, finding.evidence["parameters_mixed"]) == ("GK101", 4)
    assert 20 <= finding.first_step <= 24


@pytest.mark.parametrize("gradient", [torch.ones(3).to_sparse(), torch.ones(3, dtype=torch.complex64), torch.ones(0)])
def test_gradients_that_cannot_be_sampled_are_left_out(gradient: Tensor) -> None:
    samples = Samples()
    samples.begin([(0, gradient)])
    assert not samples.taken


def test_deep_mode_counts_a_sparse_gradient_by_its_summed_rows() -> None:
    windows: list[gradkit.records.Window] = []
    torch.manual_seed(0)
    table = nn.Embedding(10, 3, sparse=True)
    dense = nn.Embedding(10, 3, _weight=table.weight.detach().clone())
    words = torch.tensor([1, 1, 4])
    with gradkit.watch(report="never", deep=True, on_window=windows.append):
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (table, dense)]
        for _ in range(3):
            for model, optimizer in zip((table, dense), optimizers, strict=True):
                model(words).square().mean().backward()
                optimizer.step()
    of = {label: [window for window in windows if window.optimizer == label] for label in ("SGD", "SGD#2")}
    for sparse, plain in zip(of["SGD"], of["SGD#2"], strict=True):
        assert sparse.deep is not None and plain.deep is not None
        for name in ("grad_norm_l2", "fresh_norm_l2", "stale_norm_l2", "cosine", "effective_learning_rate"):
            assert getattr(sparse.deep, name) == pytest.approx(getattr(plain.deep, name), rel=1e-5)
        assert sparse.deep.windows_mixed == plain.deep.windows_mixed
