"""Kinds of optimizers and ways to call them: fused, foreach, sparse, several at once, subclasses, hooks, compiled."""

import functools

import torch
from torch import nn


def train(optimizers_of, steps=5, zero=True, sparse=False, clear=None):
    torch.manual_seed(2)
    table = nn.Embedding(12, 4, sparse=sparse)
    head = nn.Linear(4, 3)
    optimizers = optimizers_of(table, head)
    for _ in range(steps):
        if clear is not None:
            clear(table, head)
        for optimizer in optimizers if zero else ():
            optimizer.zero_grad()
        words = torch.randint(12, (6,))
        nn.functional.cross_entropy(head(table(words)), words % 3).backward()
        for optimizer in optimizers:
            optimizer.step()
    return [table, head]


def healthy_every_optimizer_of_torch():
    kinds = ["ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]
    return [
        train(lambda t, h, kind=kind: [getattr(torch.optim, kind)([*t.parameters(), *h.parameters()], lr=1e-3)])
        for kind in kinds
    ]


def healthy_fused_and_foreach():
    runs = []
    for options in ({"fused": True}, {"foreach": True}, {"foreach": False}, {"capturable": False}):
        runs.append(train(lambda t, h, o=options: [torch.optim.Adam([*t.parameters(), *h.parameters()], 1e-2, **o)]))
    return runs


def healthy_fused_kept_as_zeros():
    def clear(table, head):
        table.zero_grad(set_to_none=False)
        head.zero_grad(set_to_none=False)

    return train(
        lambda t, h: [torch.optim.SGD([*t.parameters(), *h.parameters()], 0.1, fused=True)], zero=False, clear=clear
    )


def healthy_sparse_embedding():
    return train(
        lambda t, h: [torch.optim.SparseAdam(t.parameters(), 1e-2), torch.optim.Adam(h.parameters(), 1e-2)], sparse=True
    )


def healthy_sparse_embedding_zeroed():
    def clear(table, head):
        table.zero_grad(set_to_none=False)
        head.zero_grad(set_to_none=False)

    return train(
        lambda t, h: [torch.optim.SGD([*t.parameters(), *h.parameters()], 0.1)], zero=False, sparse=True, clear=clear
    )


def healthy_several_optimizers_over_one_loss():
    return train(lambda t, h: [torch.optim.Adagrad(t.parameters(), 1e-2), torch.optim.RMSprop(h.parameters(), 1e-2)])


def healthy_groups_with_their_own_rates():
    return train(
        lambda t, h: [
            torch.optim.AdamW(
                [
                    {"params": t.parameters(), "lr": 1e-3, "weight_decay": 0.0},
                    {"params": [h.weight]},
                    {"params": [h.bias], "weight_decay": 0.0},
                ],
                lr=1e-2,
            )
        ]
    )


class Warm(torch.optim.AdamW):
    """Scales its rate, then calls the step it inherits."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.calls = 0

    def step(self, closure=None):
        self.calls += 1
        for group in self.param_groups:
            group["lr"] = 1e-2 * min(1.0, self.calls / 3)
        return super().step(closure)


class Lookahead(torch.optim.Optimizer):
    """Steps another optimizer over the same parameters and averages every third time."""

    def __init__(self, base):
        self.base, self.count = base, 0
        super().__init__(base.param_groups, {})
        self.slow = [p.detach().clone() for group in self.param_groups for p in group["params"]]

    def step(self, closure=None):
        loss = self.base.step(closure)
        self.count += 1
        if self.count % 3 == 0:
            with torch.no_grad():
                weights = [p for group in self.param_groups for p in group["params"]]
                for p, slow in zip(weights, self.slow, strict=True):
                    slow.lerp_(p, 0.5)
                    p.copy_(slow)
        return loss


class Sign(torch.optim.Optimizer):
    """An optimizer of one's own."""

    def __init__(self, params, lr=1e-2):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad.sign(), alpha=-group["lr"])


def healthy_subclass_calling_super():
    return train(lambda t, h: [Warm([*t.parameters(), *h.parameters()], 1e-2)])


def healthy_wrapper_around_another():
    return train(lambda t, h: [Lookahead(torch.optim.Adam([*t.parameters(), *h.parameters()], 1e-2))], steps=8)


def healthy_optimizer_of_ones_own():
    return train(lambda t, h: [Sign([*t.parameters(), *h.parameters()])])


def healthy_step_bound_early():
    torch.manual_seed(2)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step, clear, backward = optimizer.step, optimizer.zero_grad, torch.autograd.backward
    update = functools.partial(step)
    for _ in range(5):
        clear()
        backward([model(torch.randn(4, 4)).square().mean()])
        update()
    return model


def healthy_step_in_backward_hooks():
    """One optimizer per parameter, stepping and clearing as soon as its gradient is there."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def update(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(update)
    for _ in range(6):
        model(torch.randn(4, 4)).square().mean().backward()
    return model


def healthy_compiled_model():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.Adam(compiled.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad(set_to_none=False)
        compiled(torch.randn(4, 4)).square().mean().backward()
        optimizer.step()
    return model


def healthy_inner_optimizer_for_inputs():
    """Adversarial examples: another optimizer moves the input, its loss leaves gradients on the model."""
    torch.manual_seed(2)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        x = torch.randn(6, 4)
        noise = torch.zeros_like(x, requires_grad=True)
        attack = torch.optim.SGD([noise], lr=0.5, maximize=True)
        for _ in range(3):
            attack.zero_grad()
            model(x + noise).square().mean().backward()
            attack.step()
        optimizer.zero_grad()
        model(x + noise.detach()).square().mean().backward()
        optimizer.step()
    return model
