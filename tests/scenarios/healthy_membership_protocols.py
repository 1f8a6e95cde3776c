"""Correct training protocols in which gradients or weights travel between models before an optimizer steps."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


def net(inputs=4, outputs=2, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def loss_of(model, x):
    return F.cross_entropy(model(x), (x[:, 0] > 0).long())


def healthy_momentum_contrast():
    query = net(4, 4)
    key = copy.deepcopy(query).requires_grad_(False)
    queue = torch.randn(4, 16)
    optimizer = torch.optim.SGD(query.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    for _ in range(14):
        with torch.no_grad():
            for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
        x = torch.randn(8, 4)
        mine, theirs = F.normalize(query(x), dim=1), F.normalize(key(x + 0.01), dim=1)
        logits = torch.cat([(mine * theirs).sum(1, keepdim=True), mine @ queue], 1)
        optimizer.zero_grad()
        F.cross_entropy(logits / 0.07, torch.zeros(8, dtype=torch.long)).backward()
        optimizer.step()
    return [query, key]


def healthy_conflicting_gradients_projected():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(12):
        parts = []
        for task in range(2):
            optimizer.zero_grad()
            model(torch.randn(8, 4))[:, task].pow(2).mean().backward()
            parts.append([parameter.grad.clone() for parameter in model.parameters()])
        optimizer.zero_grad()
        for parameter, first, second in zip(model.parameters(), *parts, strict=True):
            parameter.grad = first + second
        optimizer.step()
    return model


def healthy_private_gradients_per_sample():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(8):
        sums = [torch.zeros_like(parameter) for parameter in model.parameters()]
        for x in torch.randn(4, 1, 4):
            model.zero_grad()
            loss_of(model, x).backward()
            for total, parameter in zip(sums, model.parameters(), strict=True):
                total += parameter.grad / parameter.grad.norm().clamp(min=1)
        for total, parameter in zip(sums, model.parameters(), strict=True):
            parameter.grad = total / 4 + 0.01 * torch.randn_like(total)
        optimizer.step()
    return model


def healthy_federated_rounds_with_a_server_optimizer():
    shared = net()
    server = torch.optim.Adam(shared.parameters(), lr=0.01)
    for _ in range(5):
        deltas = []
        for _ in range(2):
            client = copy.deepcopy(shared)
            for _ in range(4):
                client.zero_grad()
                loss_of(client, torch.randn(8, 4)).backward()
                with torch.no_grad():
                    for parameter in client.parameters():
                        parameter -= 0.1 * parameter.grad
            deltas.append(
                [a.detach() - b.detach() for a, b in zip(shared.parameters(), client.parameters(), strict=True)]
            )
        server.zero_grad()
        for parameter, *moves in zip(shared.parameters(), *deltas, strict=True):
            parameter.grad = sum(moves) / len(moves)
        server.step()
    return shared


def healthy_boundary_between_two_stages():
    first, second = nn.Linear(4, 8), nn.Linear(8, 2)
    optimizers = [torch.optim.SGD(stage.parameters(), lr=0.1) for stage in (first, second)]
    for _ in range(10):
        x = torch.randn(8, 4)
        sent = first(x)
        received = sent.detach().requires_grad_()
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(second(received.relu()), (x[:, 0] > 0).long()).backward()
        sent.backward(received.grad)
        for optimizer in optimizers:
            optimizer.step()
    return [first, second]


def healthy_temperature_fitted_after_training():
    model = net().requires_grad_(False).eval()
    temperature = nn.Parameter(torch.full((1,), 1.5))
    optimizer = torch.optim.LBFGS([temperature], lr=0.01, max_iter=10)
    torch.manual_seed(2)
    x = torch.randn(64, 4)
    logits, labels = model(x), torch.randint(2, (64,))

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / temperature, labels)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    return [model, temperature]


def healthy_last_layer_held_back_at_first():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.04)
    for step in range(24):
        optimizer.zero_grad()
        loss_of(model, torch.randn(8, 4)).backward()
        if step < 10:
            for parameter in model[2].parameters():
                parameter.grad = None
        optimizer.step()
    return model


def healthy_important_weights_kept():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        loss_of(model, torch.randn(8, 4)).backward()
        optimizer.step()
    fisher = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for x in torch.randn(6, 1, 4):
        model.zero_grad()
        loss_of(model, x).backward()
        for total, parameter in zip(fisher, model.parameters(), strict=True):
            total += parameter.grad**2
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(6):
        optimizer.zero_grad()
        pull = sum((f * (p - q) ** 2).sum() for f, p, q in zip(fisher, model.parameters(), before, strict=True))
        (loss_of(model, torch.randn(8, 4)) + pull).backward()
        optimizer.step()
    return model
