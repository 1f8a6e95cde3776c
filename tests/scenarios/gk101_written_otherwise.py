"""Loops without clearing in other shapes: closures, generators, callbacks, cells, wrappers, replaced parameters."""

import functools
import linecache
import types

import torch
from torch import nn


def network():
    torch.manual_seed(10)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))


def loss_of(model):
    return model(torch.randn(8, 4)).square().mean()


def faulty_closure_that_does_not_clear():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def closure():
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)  # expect: GK101
    return model


def faulty_lbfgs_closure_that_does_not_clear():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    x = torch.randn(16, 4)

    def closure():
        loss = model(x).square().mean()
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)  # expect: GK101
    return model


def healthy_closure_that_clears():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def closure():
        model.zero_grad(set_to_none=False)
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    return model


def faulty_generator():
    def updates(model, optimizer):
        while True:
            loss = loss_of(model)
            loss.backward()
            optimizer.step()  # expect: GK101
            yield loss.item()

    model = network()
    for number, loss in enumerate(updates(model, torch.optim.Adam(model.parameters(), lr=1e-3))):
        print(f"{number} {loss:.5f}")
        if number == 4:
            break
    return model


class Trainer:
    def __init__(self, model, callbacks):
        self.model, self.callbacks = model, callbacks
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def tell(self, event):
        for callback in self.callbacks:
            getattr(callback, event, lambda trainer: None)(self)

    def fit(self, steps):
        for _ in range(steps):
            self.tell("before_batch")
            loss_of(self.model).backward()
            self.tell("after_backward")
            self.tell("after_batch")
        return self.model


class Clear:
    def after_batch(self, trainer):
        trainer.optimizer.zero_grad()


def faulty_callbacks():
    class Update:
        def after_backward(self, trainer):
            trainer.optimizer.step()  # expect: GK101

    class ClearsWhenTheEpochEnds:
        def after_epoch(self, trainer):
            trainer.optimizer.zero_grad()

    return Trainer(network(), [Update(), ClearsWhenTheEpochEnds()]).fit(5)


def healthy_callbacks():
    class Update:
        def after_backward(self, trainer):
            trainer.optimizer.step()

    return Trainer(network(), [Update(), Clear()]).fit(5)


def faulty_partial_step():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    update = functools.partial(torch.optim.SGD.step, optimizer)
    backward = torch.Tensor.backward
    for _ in range(4):
        backward(loss_of(model))
        update()  # expect: GK101
    return model


def faulty_unbound_calls_in_a_tuple():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(4):
        loss = loss_of(model)
        for action in (loss.backward, optimizer.step):
            action()  # expect: GK101
    return model


class Wrapper(nn.Module):
    """Holds the module as data-parallel wrappers do."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        halves = [part.chunk(2) for part in inputs]
        return torch.cat([self.module(*part) for part in zip(*halves, strict=True)])

    def zero_grad(self, set_to_none=True):
        """Forgets the module it wraps."""


def faulty_wrapper_whose_zero_grad_does_nothing():
    model = Wrapper(network())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(4):
        model.zero_grad()
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model.module


def faulty_parameters_replaced():
    """From the fourth step on the optimizer holds new weights, which the clearing does not know."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    known = list(model.parameters())
    for number in range(8):
        if number == 3:
            model[2] = nn.Linear(6, 1)
            optimizer.param_groups[0]["params"][2:] = list(model[2].parameters())
        for parameter in known:
            parameter.grad = None
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model


def faulty_scaler():
    torch.manual_seed(10)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for _ in range(4):
        scaler.scale(loss_of(model)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)  # expect: GK101
        scaler.update()
    return model


def faulty_fused_half_precision():
    torch.manual_seed(10)
    model = nn.Linear(4, 2).to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
    for _ in range(4):
        model(torch.randn(8, 4, dtype=torch.bfloat16)).square().mean().backward()
        optimizer.step()  # expect: GK101
    return model


def faulty_sparse_table():
    torch.manual_seed(10)
    table = nn.Embedding(10, 3, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.01)
    for _ in range(4):
        table(torch.randint(10, (5,))).square().mean().backward()
        optimizer.step()  # expect: GK101
    return table


def faulty_own_optimizer_calling_super():
    class Warm(torch.optim.Adam):
        def step(self, closure=None):
            self.param_groups[0]["lr"] = 1e-3
            return super().step(closure)

    model = network()
    optimizer = Warm(model.parameters())
    for _ in range(4):
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model


def faulty_sharpness_aware_by_hand():
    """Both passes clear nothing between steps, only between each other."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(5):
        loss_of(model).backward()
        moved = [0.05 * p.grad for p in model.parameters()]
        with torch.no_grad():
            torch._foreach_add_(list(model.parameters()), moved)
        loss_of(model).backward()
        with torch.no_grad():
            torch._foreach_sub_(list(model.parameters()), moved)
        optimizer.step()  # expect: GK101
    return model


def healthy_cells():
    """A program typed as cells."""
    return cells(clear="optimizer.zero_grad()")


CELLS = [
    "import torch\ntorch.manual_seed(3)\nmodel = torch.nn.Linear(3, 1)\n"
    "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
    "for _ in range(4):\n    {clear}\n    model(torch.randn(4, 3)).square().mean().backward()\n    optimizer.step()",
]


def cells(clear):
    namespace = types.ModuleType("cells").__dict__
    for number, text in enumerate(CELLS):
        name = f"<cell-{number}>"
        source = text.format(clear=clear)
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        exec(compile(source, name, "exec"), namespace)
    return namespace["model"]
