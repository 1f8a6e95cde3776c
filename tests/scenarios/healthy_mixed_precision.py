"""Loss scaling with unscaling, clipping and skipped steps; half-precision training with float32 masters."""

import torch
from torch import nn


def scaled(clip, overflow_at=(), accumulate=1, zero=lambda optimizer: optimizer.zero_grad()):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    for step in range(8):
        zero(optimizer)
        for _ in range(accumulate):
            x = torch.randn(6, 4)
            if step in overflow_at:
                x = x * float("inf")
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(x).square().mean() / accumulate
            scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    print(scaler.get_scale())
    return model


def healthy_scaler():
    return scaled(clip=False)


def healthy_scaler_clipped():
    return scaled(clip=True)


def healthy_skipped_steps():
    return scaled(clip=False, overflow_at=(0, 3, 4))


def healthy_skipped_steps_clipped_kept_as_zeros():
    return scaled(clip=True, overflow_at=(2, 5), zero=lambda optimizer: optimizer.zero_grad(set_to_none=False))


def healthy_skipped_steps_accumulating():
    return scaled(clip=True, overflow_at=(3,), accumulate=3)


def healthy_scaler_old_idiom():
    def zero(optimizer):
        for p in optimizer.param_groups[0]["params"]:
            if p.grad is not None:
                p.grad.data.zero_()

    return scaled(clip=True, overflow_at=(4,), zero=zero)


def healthy_skipped_by_hand():
    """A loss that is not finite clears its window instead of stepping."""
    torch.manual_seed(4)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for step in range(10):
        loss = model(torch.randn(6, 4)).square().mean() * (float("nan") if step in (0, 4, 5) else 1.0)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if norm.isfinite():
            optimizer.step()
        optimizer.zero_grad()
    return model


def healthy_update_blanked():
    """Gradients that are not finite are dropped and the step taken all the same."""
    torch.manual_seed(4)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(10):
        optimizer.zero_grad()
        (model(torch.randn(6, 4)).square().mean() * (float("nan") if step in (0, 4, 5) else 1.0)).backward()
        if not all(p.grad.isfinite().all() for p in model.parameters()):
            optimizer.zero_grad()
        optimizer.step()
    return model


def healthy_float32_masters():
    """A bfloat16 model whose gradients are copied to float32 parameters, which the optimizer holds."""
    torch.manual_seed(4)
    model = nn.Linear(4, 2).to(torch.bfloat16)
    masters = [p.detach().float().requires_grad_() for p in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.05)
    for _ in range(8):
        model.zero_grad()
        model(torch.randn(6, 4, dtype=torch.bfloat16)).square().mean().backward()
        for master, p in zip(masters, model.parameters(), strict=True):
            master.grad = p.grad.float()
        optimizer.step()
        with torch.no_grad():
            for master, p in zip(masters, model.parameters(), strict=True):
                p.copy_(master)
    return model


def healthy_bfloat16():
    torch.manual_seed(4)
    model = nn.Linear(4, 2).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(6):
        optimizer.zero_grad(set_to_none=False)
        model(torch.randn(6, 4, dtype=torch.bfloat16)).square().mean().backward()
        optimizer.step()
    return model
