"""Five ways to evaluate give the same numbers, keep autograd out as they say, and leave the model as it was."""

import pytest
import torch
from torch import nn

from gradkit.train.evaluation.accounting import graph_nodes, inference_cost
from gradkit.train.evaluation.inference import inference

MODES = ("tracked", "no_grad", "inference_mode", "detach", "requires_grad_false")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(12, 32), nn.BatchNorm1d(32), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(32, 1)
        )
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body(features).squeeze(-1) * self.frozen


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(64, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_output_and_restores_the_model(mode: str, features: torch.Tensor) -> None:
    model = Net()
    model.body[1].eval()  # a submodule whose mode differs from its parent's
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with inference(model, "tracked") as forward:
        reference = forward(features).detach()
    with inference(model, mode) as forward:
        result = forward(features)
    assert torch.equal(result.detach(), reference)
    assert result.requires_grad == (mode == "tracked")
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert model.training
    assert model.body[0].training
    assert not model.body[1].training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("mode", MODES)
def test_the_model_is_restored_when_the_block_raises(mode: str, features: torch.Tensor) -> None:
    model = Net()
    with pytest.raises(RuntimeError, match="planned"), inference(model, mode):
        raise RuntimeError("planned")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.body.parameters())


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="requires_grad_false"), inference(Net(), "nograd"):
        pass


@pytest.mark.parametrize("mode", MODES)
def test_only_the_tracked_forward_saves_for_backward(mode: str, features: torch.Tensor) -> None:
    cost = inference_cost(Net(), features, mode, repeats=1)
    assert (cost.saved_bytes > 0) == (mode == "tracked")
    assert (cost.graph_nodes > 0) == (mode == "tracked")
    assert cost.samples == 64
    assert cost.seconds > 0


def test_the_figures_of_a_linear_layer_and_a_sigmoid_are_exact() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 100), nn.Sigmoid(), nn.Linear(100, 1), nn.Flatten(0))
    features = torch.randn(50, 10)
    tracked = inference_cost(model, features, "tracked", repeats=1)
    # Saved: the sigmoid's output (50 x 100 float32), which is also the input of the second layer. Parameters and
    # the features are alive anyway.
    assert tracked.saved_bytes == 50 * 100 * 4
    # Addmm, Sigmoid, Addmm, View; two transposes; four leaves.
    assert tracked.graph_nodes == 10
    # At once alive: the first layer's result and the sigmoid's.
    assert inference_cost(model, features, "no_grad", repeats=1).peak_bytes == 2 * 50 * 100 * 4


def test_a_result_without_graph_has_no_nodes() -> None:
    assert graph_nodes(torch.ones(3)) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_costs_are_measured_on_a_gpu(mode: str, features: torch.Tensor) -> None:
    cost = inference_cost(Net().cuda(), features.cuda(), mode, repeats=2)
    assert (cost.saved_bytes > 0) == (mode == "tracked")
    assert cost.peak_bytes > 0
