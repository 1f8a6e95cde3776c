"""Correct programs whose weights stand still for a while, move a lot, or are frozen and thawed."""

import torch
from torch import nn
from torch.nn import functional as F


def net(seed=0, width=8):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def fit(model, optimizer, steps=26, schedule=None, clear=True):
    for _ in range(steps):
        x = torch.randn(12, 4)
        optimizer.zero_grad(set_to_none=clear)
        F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return model


def healthy_warmup_from_zero():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    return fit(model, optimizer, 40, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 20)))


def healthy_warmup_by_epochs_from_zero():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 2))
    for _ in range(3):
        fit(model, optimizer, 24)
        schedule.step()
    return model


def healthy_anneal_to_zero_and_go_on():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return fit(model, optimizer, 60, torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=10))


def healthy_zero_weights_at_the_start():
    model = net()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    nn.init.normal_(model[0].weight, std=1e-3)
    return fit(model, torch.optim.Adam(model.parameters(), lr=0.05))


def healthy_targets_in_the_thousands():
    torch.manual_seed(1)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(40):
        x = torch.randn(32, 4)
        optimizer.zero_grad()
        F.mse_loss(model(x), x.sum(1, keepdim=True) * 5000 + 20000).backward()
        optimizer.step()
    return model


def healthy_overshooting_descent_to_zero():
    torch.manual_seed(2)
    model = nn.Linear(6, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.97)
    for _ in range(30):
        optimizer.zero_grad()
        model.weight.pow(2).sum().backward()
        optimizer.step()
    return model


def healthy_factors_that_grow_from_nearly_zero():
    torch.manual_seed(9)
    rows, columns = nn.Embedding(10, 3), nn.Embedding(10, 3)
    for table in (rows, columns):
        nn.init.normal_(table.weight, std=1e-3)
    optimizer = torch.optim.SGD([*rows.parameters(), *columns.parameters()], lr=1.0)
    for _ in range(60):
        i, j, rating = torch.randint(10, (16,)), torch.randint(10, (16,)), torch.randint(1, 6, (16,))
        optimizer.zero_grad()
        F.mse_loss((rows(i) * columns(j)).sum(1), rating.float()).backward()
        optimizer.step()
    return [rows, columns]


def healthy_perceptron():
    torch.manual_seed(3)
    model = nn.Linear(4, 1)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(40):
        x = torch.randn(1, 4)
        optimizer.zero_grad()
        F.relu(-model(x).squeeze() * x[0, 0].sign()).backward()
        optimizer.step()
    return model


def healthy_learned_input_that_bounces():
    model = net().requires_grad_(False)
    torch.manual_seed(4)
    delta = torch.zeros(12, 4, requires_grad=True)
    optimizer = torch.optim.SGD([delta], lr=0.5)
    x = torch.randn(12, 4)
    for _ in range(25):
        optimizer.zero_grad()
        (-F.cross_entropy(model(x + delta), (x[:, 0] > 0).long())).backward()
        delta.grad.sign_()
        optimizer.step()
        with torch.no_grad():
            delta.clamp_(-0.5, 0.5)
    return delta


def healthy_converged_run_resumed():
    torch.manual_seed(5)
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
        model.bias.fill_(0.25)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(25):
        x = torch.randn(16, 3)
        optimizer.zero_grad()
        target = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.25 + 1e-6
        F.mse_loss(model(x).squeeze(-1), target).backward()
        optimizer.step()
    return model


def healthy_weights_put_back_after_every_trial():
    model = net()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(6)
    x = torch.randn(12, 4)
    losses = []
    for trial in range(24):
        model.load_state_dict(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=10 ** (-4 + trial / 8))
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
        losses.append(F.cross_entropy(model(x), (x[:, 0] > 0).long()).item())
    model.load_state_dict(start)
    return [model, losses]


def healthy_layers_frozen_and_thawed():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for round_number in range(6):
        optimizer.zero_grad()
        model[0].requires_grad_(round_number % 2 == 0)
        fit(model, optimizer, 4)
    return model


def healthy_zeroed_gradients_of_a_frozen_layer_without_momentum():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, optimizer, 5, clear=False)
    model[0].requires_grad_(False)
    return fit(model, optimizer, 12, clear=False)


def healthy_gradients_by_hand_without_requires_grad():
    model = net().requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    weights = dict(model.named_parameters())

    def loss(values, x):
        return F.cross_entropy(torch.func.functional_call(model, values, x), (x[:, 0] > 0).long())

    for _ in range(24):
        gradients = torch.func.grad(loss)(weights, torch.randn(12, 4))
        for name, parameter in weights.items():
            parameter.grad = gradients[name]
        optimizer.step()
    return model


def healthy_scaler_that_skips_at_first():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    import warnings

    for step in range(24):
        x = torch.randn(12, 4)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), (x[:, 0] > 0).long()) * (float("inf") if step < 3 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedule.step()
    return model


def healthy_schedule_wound_forward():
    import warnings

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(1):
            schedule.step()
    for _ in range(3):
        fit(model, optimizer, 3)
        schedule.step()
    return model


def healthy_sharpness_aware_steps():
    model = net()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(12):
        x = torch.randn(12, 4)
        target = (x[:, 0] > 0).long()
        base.zero_grad()
        F.cross_entropy(model(x), target).backward()
        with torch.no_grad():
            moves = [0.05 * p.grad / (p.grad.norm() + 1e-12) for p in model.parameters()]
            torch._foreach_add_(list(model.parameters()), moves)
        base.zero_grad()
        F.cross_entropy(model(x), target).backward()
        with torch.no_grad():
            torch._foreach_sub_(list(model.parameters()), moves)
        base.step()
    return model
