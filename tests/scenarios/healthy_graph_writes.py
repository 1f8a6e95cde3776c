"""Correct programs that write to their parameters outside of a step: GK208 stays silent."""

import copy

import torch
from torch import nn
from torch.nn.utils import parametrizations

STEPS = 9


def start(seed, *layers):
    torch.manual_seed(seed)
    model = nn.Sequential(*(layers or (nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def loss_of(model):
    return (model(torch.randn(8, 6)) - 1).pow(2).mean()


def healthy_weights_clipped_after_the_step():
    model, optimizer = start(1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        for parameter in model.parameters():
            parameter.data.clamp_(-0.1, 0.1)
    return model


def healthy_weights_normalized_before_the_forward():
    model, optimizer = start(2)
    for _ in range(STEPS):
        for layer in (model[0], model[2]):
            layer.weight.data.div_(layer.weight.data.norm(dim=1, keepdim=True))
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    return model


def healthy_binary_weights():
    """Quantized for forward and backward, put back for the step."""
    model, optimizer = start(3)
    for _ in range(STEPS):
        kept = [parameter.data.clone() for parameter in model.parameters()]
        for parameter in model.parameters():
            parameter.data = parameter.data.sign() * parameter.data.abs().mean()
        optimizer.zero_grad()
        loss_of(model).backward()
        for parameter, value in zip(model.parameters(), kept, strict=True):
            parameter.data = value
        optimizer.step()
    return model


def healthy_sharpness_aware_minimization():
    """The first loss's graph is gone when the weights are moved for the second."""
    model, optimizer = start(4)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model).backward()
        moves = [0.05 * parameter.grad.sign() for parameter in model.parameters()]
        for parameter, move in zip(model.parameters(), moves, strict=True):
            parameter.data.add_(move)
        optimizer.zero_grad()
        loss_of(model).backward()
        for parameter, move in zip(model.parameters(), moves, strict=True):
            parameter.data.sub_(move)
        optimizer.step()
    return model


def healthy_writing_the_same_values():
    model, optimizer = start(5)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model)
        for parameter in model.parameters():
            parameter.data.clamp_(-1e9, 1e9)
        loss.backward()
        optimizer.step()
        for parameter in model.parameters():
            parameter.data.mul_(0.99)
    return model


def healthy_average_swapped_in_for_evaluation():
    model, optimizer = start(6)
    average = copy.deepcopy(model).requires_grad_(False)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        with torch.no_grad():
            for kept, moved in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(moved, 0.5)
            own = [parameter.data for parameter in model.parameters()]
            for parameter, kept in zip(model.parameters(), average.parameters(), strict=True):
                parameter.data = kept.data
            print(f"{loss_of(model):.4f}")
            for parameter, value in zip(model.parameters(), own, strict=True):
                parameter.data = value
    return model


def healthy_spectral_norm():
    model, optimizer = start(
        7, parametrizations.spectral_norm(nn.Linear(6, 8)), nn.Tanh(), parametrizations.weight_norm(nn.Linear(8, 1))
    )
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    return model


def healthy_embedding_with_a_largest_norm():
    torch.manual_seed(8)
    embedding, head = nn.Embedding(10, 6, max_norm=0.5), nn.Linear(6, 1)
    optimizer = torch.optim.SGD([*embedding.parameters(), *head.parameters()], lr=0.5)
    for _ in range(STEPS):
        embedding.weight.data.mul_(1.5)
        optimizer.zero_grad()
        head(embedding(torch.randint(10, (8,)))).pow(2).mean().backward()
        optimizer.step()
    return [embedding, head]


def healthy_target_written_while_the_online_graph_is_open():
    """A soft update of the target before the backward of the online network: other parameters."""
    model, optimizer = start(9)
    target = copy.deepcopy(model).requires_grad_(False)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model)
        for kept, moved in zip(target.parameters(), model.parameters(), strict=True):
            kept.data.mul_(0.9).add_(0.1 * moved.data)
        loss.backward()
        optimizer.step()
        model[0].weight.data.mul_(0.999)
    return [model, target]
