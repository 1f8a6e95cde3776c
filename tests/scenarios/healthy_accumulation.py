"""Several backward calls per step on purpose, with rests, growing windows and steps that are left out."""

import torch
from torch import nn


def parts(**options):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    return model, torch.optim.Adam(model.parameters(), lr=1e-2, **options)


def healthy_with_a_tail():
    model, optimizer = parts()
    batches = [torch.randn(6, 4) for _ in range(10)]
    for _ in range(3):
        optimizer.zero_grad()
        for number, x in enumerate(batches):
            (model(x).square().mean() / 4).backward()
            if (number + 1) % 4 == 0 or number + 1 == len(batches):
                optimizer.step()
                optimizer.zero_grad()
    return model


def healthy_flushed_without_a_rest():
    """A last step after every epoch, also when nothing is left to step on."""
    model, optimizer = parts()
    for _ in range(3):
        for number in range(8):
            (model(torch.randn(6, 4)).square().mean() / 4).backward()
            if (number + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
        optimizer.step()
        optimizer.zero_grad()
    return model


def healthy_growing_windows():
    model, optimizer = parts()
    for window in (1, 1, 2, 4, 8):
        for _ in range(window):
            (model(torch.randn(6, 4)).square().mean() / window).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return model


def healthy_two_losses_one_after_the_other():
    model, optimizer = parts()
    for _ in range(6):
        optimizer.zero_grad()
        out = model(torch.randn(6, 4))
        out.square().mean().backward(retain_graph=True)
        (0.1 * out.abs().mean()).backward()
        optimizer.step()
    return model


def healthy_gradients_for_logging_only():
    """Norms of single losses are measured and their gradients cleared; no step follows them."""
    model, optimizer = parts()
    for step in range(8):
        if step % 3 == 0:
            for part in range(2):
                model(torch.randn(6, 4)).pow(part + 1).mean().backward()
                print(f"{sum(float(p.grad.norm()) for p in model.parameters()):.4f}")
                model.zero_grad(set_to_none=part == 0)
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    model(torch.randn(6, 4)).square().mean().backward()
    print(f"{sum(float(p.grad.norm()) for p in model.parameters()):.4f}")
    return model


def healthy_gradient_noise_scale():
    """The gradient of one half is read before the other half is added."""
    model, optimizer = parts()
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().div(2).backward()
        half = [p.grad.clone() for p in model.parameters()]
        model(torch.randn(6, 4)).square().mean().div(2).backward()
        print(f"{sum(float((p.grad - g).norm()) for p, g in zip(model.parameters(), half, strict=True)):.4f}")
        optimizer.step()
    return model


def healthy_step_left_out_while_gradients_are_small():
    """Lazy updates: gradients pile up until they are large enough; then one step, then a clearing."""
    model, optimizer = parts()
    for _ in range(16):
        model(torch.randn(6, 4)).square().mean().backward()
        if sum(float(p.grad.norm()) for p in model.parameters()) > 1.5:
            optimizer.step()
            optimizer.zero_grad()
    return model


def healthy_learning_rate_finder():
    model, optimizer = parts()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 10.0 ** (step - 5)
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()
    model.load_state_dict(start)
    return model
