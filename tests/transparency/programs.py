"""Small programs that do something a watcher may disturb; each is put between `BEFORE` and `AFTER`."""

BEFORE = """
import asyncio, atexit, contextlib, copy, gc, io, os, pickle, queue, random, signal, sys, threading
import traceback, warnings
import torch
from torch import nn
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

random.seed(0)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
x, y = torch.randn(16, 3), torch.randn(16, 1)

def step(clear=True, net=None):
    if clear:
        optimizer.zero_grad()
    loss = F.mse_loss((net or model)(x), y)
    loss.backward()
    optimizer.step()
    return loss

class Count(TorchFunctionMode):
    calls = 0
    def __torch_function__(self, function, types, args=(), kwargs=None):
        Count.calls += 1
        return function(*args, **(kwargs or {}))

class Dispatch(TorchDispatchMode):
    calls = 0
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        Dispatch.calls += 1
        return function(*args, **(kwargs or {}))
"""
AFTER = """
print(Count.calls, Dispatch.calls, [round(float(p.detach().double().sum()), 9) for p in model.parameters()])
print(float(torch.get_rng_state().sum()), random.random(), sys.stdout is sys.__stdout__)
"""

PROGRAMS = {
    "plain": "for _ in range(30): step()",
    "never cleared": "for _ in range(30): step(clear=False)",
    "function mode": "with Count():\n    for _ in range(12): step()",
    "function mode at every step": "for _ in range(12):\n    with Count(): step()",
    "function mode around every second step": """
for number in range(24):
    with Count() if number % 2 else contextlib.nullcontext(): step(clear=number % 3 == 0)""",
    "mode around the backward": """
for _ in range(12):
    loss = F.mse_loss(model(x), y)
    with Count(): loss.backward()
    optimizer.step(); optimizer.zero_grad()""",
    "dispatch mode": "with Dispatch():\n    for _ in range(12): step(clear=False)",
}
