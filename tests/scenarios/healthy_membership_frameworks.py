"""Correct loops under Accelerate and Fabric: accumulation, clipping, schedules, a frozen part, evaluation."""

import torch
from accelerate import Accelerator
from lightning.fabric import Fabric
from torch import nn

NEEDS = ("accelerate", "lightning")


def parts():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 2))
    x = torch.randn(48, 4)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    return model, torch.utils.data.DataLoader(data, batch_size=4)


def healthy_accelerate():
    model, loader = parts()
    model[0].requires_grad_(False)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=30)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    for _ in range(3):
        model.train()
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.cross_entropy(model(x), y))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            for x, y in loader:
                accelerator.gather_for_metrics((model(x).argmax(1), y))
    return accelerator.unwrap_model(model)


def healthy_fabric_with_two_optimizers():
    model, loader = parts()
    fabric = Fabric(accelerator="cpu", devices=1)
    body = torch.optim.SGD(model[:4].parameters(), lr=0.05, momentum=0.9)
    head = torch.optim.Adam(model[4].parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(body, 1, 0.5)
    model, body, head = fabric.setup(model, body, head)
    loader = fabric.setup_dataloaders(loader)
    for _ in range(2):
        for index, (x, y) in enumerate(loader):
            accumulating = index % 2 == 0
            with fabric.no_backward_sync(model, enabled=accumulating):
                fabric.backward(nn.functional.cross_entropy(model(x), y) / 2)
            if not accumulating:
                fabric.clip_gradients(model, head, max_norm=1.0)
                body.step()
                head.step()
                body.zero_grad()
                head.zero_grad()
        schedule.step()
    return model
