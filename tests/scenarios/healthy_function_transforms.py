"""Per-sample gradients and Jacobians by `torch.func`, between the epochs of an ordinary loop and after training."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap


def _parts() -> tuple[nn.Module, torch.optim.Optimizer, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.1), nn.Linear(12, 2))
    x = torch.randn(96, 6)
    return model, torch.optim.Adam(model.parameters(), lr=1e-2), x, (x[:, 0] > 0).long()


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    model.train()
    for batch in torch.randperm(len(x)).split(16):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


def _loss(model: nn.Module, parameters: dict[str, Tensor], sample: Tensor, label: Tensor) -> Tensor:
    output = functional_call(model, parameters, (sample.unsqueeze(0),))
    return nn.functional.cross_entropy(output, label.unsqueeze(0))


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


def main():
    """The norm of each sample's gradient after every epoch, as for influence scores."""
    model, optimizer, x, y = _parts()
    for _ in range(5):
        _train(model, optimizer, x, y)
        model.eval()
        gradient = vmap(grad(lambda *parts: _loss(model, *parts)), (None, 0, 0))
        for samples, labels in zip(x.split(32), y.split(32), strict=True):
            gradients = gradient(_parameters(model), samples, labels)
            print(round(gradients["0.weight"].flatten(1).norm(dim=1).mean().item(), 4))
    return model


def healthy_after_training():
    """Jacobians with respect to the parameters, batch by batch, once training is over."""
    model, optimizer, x, y = _parts()
    for _ in range(4):
        _train(model, optimizer, x, y)
    model.eval()

    def output(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(model, parameters, (sample.unsqueeze(0),)).squeeze(0)

    for samples in x.split(32):
        jacobian = vmap(jacrev(output), (None, 0))(_parameters(model), samples)
        print(round(sum(part.pow(2).sum().item() for part in jacobian.values()), 3))
    return model


def healthy_ensemble():
    """A stacked ensemble evaluated by `vmap` through a skeleton in train mode, while one model trains."""
    model, optimizer, x, y = _parts()
    skeleton = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
    members = [nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2)) for _ in range(3)]
    stacked, buffers = torch.func.stack_module_state(members)
    for _ in range(4):
        _train(model, optimizer, x, y)
        votes = vmap(lambda *state: functional_call(skeleton, state, (x,)), randomness="error")(stacked, buffers)
        print(round(votes.detach().std(0).mean().item(), 4))
    return model
