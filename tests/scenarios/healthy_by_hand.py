"""Updates without an optimizer, schedules that begin at zero, models and optimizers that come and go."""

import torch
from torch import nn


def healthy_manual_sgd():
    torch.manual_seed(1)
    w, b = torch.randn(4, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    for _ in range(6):
        loss = (torch.randn(8, 4) @ w + b).square().mean()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= 0.1 * p.grad
                p.grad.zero_()
    return [w, b]


def healthy_manual_momentum_on_a_module():
    torch.manual_seed(1)
    model = nn.Linear(4, 1)
    speed = [torch.zeros_like(p) for p in model.parameters()]
    for _ in range(6):
        model.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        for p, v in zip(model.parameters(), speed, strict=True):
            v.mul_(0.9).add_(p.grad)
            p.data.sub_(0.1 * v)
    return model


def healthy_warmup_from_zero():
    torch.manual_seed(1)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 5))
    for _ in range(8):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        schedule.step()
    return model


def healthy_new_model_per_fold():
    weights = []
    for fold in range(5):
        torch.manual_seed(fold)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(3):
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        weights.append([p.detach().clone() for p in model.parameters()])
    return weights


def healthy_new_optimizer_per_epoch():
    torch.manual_seed(1)
    model = nn.Linear(4, 1)
    for rate in (0.1, 0.05, 0.01):
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    return model


def healthy_parameters_added_and_replaced():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    model[0].requires_grad_(False)
    optimizer = torch.optim.Adam(model[2].parameters(), lr=1e-2)
    for step in range(12):
        if step == 4:
            model[0].requires_grad_(True)
            optimizer.add_param_group({"params": model[0].parameters(), "lr": 1e-3})
        if step == 8:
            model[2] = nn.Linear(6, 2)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    return model


def healthy_parameter_data_swapped():
    """Weights kept elsewhere and put in by `.data`, as offloading and weight averaging do."""
    torch.manual_seed(1)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = [p.detach().clone() for p in model.parameters()]
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        kept = [p.data for p in model.parameters()]
        for p, slow in zip(model.parameters(), average, strict=True):
            slow.lerp_(p.data, 0.1)
            p.data = slow
        with torch.no_grad():
            model(torch.randn(8, 4))
        for p, data in zip(model.parameters(), kept, strict=True):
            p.data = data
    return model


def healthy_gradient_cleared_by_its_user():
    """Gradient penalties read `.grad` and restore what was there."""
    torch.manual_seed(1)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        kept = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        model(torch.randn(8, 4)).abs().mean().backward()
        print(f"{sum(float(p.grad.norm()) for p in model.parameters()):.4f}")
        for p, g in zip(model.parameters(), kept, strict=True):
            p.grad = g
        optimizer.step()
    return model


def healthy_line_search_that_retries():
    """A step is taken, judged, taken back and made again with a smaller rate on the same gradient."""
    torch.manual_seed(1)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    x = torch.randn(16, 4)
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer.param_groups[0]["lr"] = 8.0
        for _ in range(8):
            optimizer.step()
            with torch.no_grad():
                if model(x).square().mean() < loss:
                    break
            model.load_state_dict(before)
            optimizer.param_groups[0]["lr"] /= 2
    return model


def healthy_line_search_that_puts_weights_back_unseen():
    """The first steps are accepted, later ones retried; `.data` leaves no trace in a parameter's version."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for turn in range(12):
        x = torch.randn(8, 4)
        before = [p.data.clone() for p in model.parameters()]
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        for rate in (0.01 if turn < 4 else 3.0, 0.3, 0.03):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            with torch.no_grad():
                if model(x).square().mean() < loss:
                    break
            for p, old in zip(model.parameters(), before, strict=True):
                p.data.copy_(old)
    return model
