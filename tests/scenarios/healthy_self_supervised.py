"""Teachers that follow by averaging, never by gradients, and averaged weights."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn


def healthy_byol():
    torch.manual_seed(3)
    online = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    predictor = nn.Linear(4, 4)
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.SGD([*online.parameters(), *predictor.parameters()], lr=0.05, momentum=0.9)
    for _ in range(6):
        x = torch.randn(16, 6)
        first, second = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
        with torch.no_grad():
            goals = target(second), target(first)
        loss = -sum(
            nn.functional.cosine_similarity(predictor(online(view)), goal).mean()
            for view, goal in zip((first, second), goals, strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.mul_(0.99).add_(fast, alpha=0.01)
    return [online, predictor, target]


def healthy_swa():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    averaged = AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = SWALR(optimizer, swa_lr=0.05)
    batches = [torch.randn(8, 6) for _ in range(5)]
    for epoch in range(3):
        for x in batches:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        if epoch:
            averaged.update_parameters(model)
            schedule.step()
    update_bn(batches, averaged)
    return [model, averaged]


def healthy_ema():
    torch.manual_seed(3)
    model = nn.Linear(6, 1)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(6):
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()
        average.update_parameters(model)
        optimizer.zero_grad()
    return [model, average]


def healthy_best_weights_restored():
    torch.manual_seed(3)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    held = torch.randn(8, 6)
    best, weights = float("inf"), copy.deepcopy(model.state_dict())
    for _ in range(4):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 6)).sub(1).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            score = float(model(held).sub(1).square().mean())
        if score < best:
            best, weights = score, copy.deepcopy(model.state_dict())
        else:
            model.load_state_dict(weights)
    return model
