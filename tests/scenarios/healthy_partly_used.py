"""Parameters that some windows do not use: experts, heads that idle, and layers frozen for a while."""

import torch
from torch import nn


class Experts(nn.Module):
    def __init__(self, count=4):
        super().__init__()
        self.gate = nn.Linear(5, count)
        self.experts = nn.ModuleList(nn.Linear(5, 2) for _ in range(count))

    def forward(self, x):
        weight, chosen = self.gate(x).softmax(-1).max(-1)
        out = x.new_zeros(len(x), 2)
        for number in chosen.unique().tolist():
            rows = chosen == number
            out[rows] = self.experts[number](x[rows]) * weight[rows].unsqueeze(1)
        return out


def experts(zero):
    torch.manual_seed(2)
    model = Experts()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(12):
        zero(optimizer)
        model(torch.randn(3, 5)).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def healthy_mixture_of_experts():
    return experts(lambda optimizer: optimizer.zero_grad())


def healthy_mixture_of_experts_kept_as_zeros():
    return experts(lambda optimizer: optimizer.zero_grad(set_to_none=False))


def heads(zero, one_optimizer_each):
    torch.manual_seed(2)
    body, first, second = nn.Linear(5, 8), nn.Linear(8, 1), nn.Linear(8, 3)
    if one_optimizer_each:
        optimizers = [torch.optim.Adam(part.parameters(), 1e-2) for part in (body, first, second)]
    else:
        optimizers = [torch.optim.Adam([*body.parameters(), *first.parameters(), *second.parameters()], 1e-2)]
    for step in range(12):
        for optimizer in optimizers:
            zero(optimizer)
        head = second if step % 3 == 2 else first
        head(body(torch.randn(6, 5)).relu()).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    return [body, first, second]


def healthy_idle_heads():
    return heads(lambda optimizer: optimizer.zero_grad(), False)


def healthy_idle_heads_kept_as_zeros():
    return heads(lambda optimizer: optimizer.zero_grad(set_to_none=False), False)


def healthy_idle_heads_with_their_own_optimizers():
    return heads(lambda optimizer: optimizer.zero_grad(), True)


def healthy_only_the_head_that_ran_steps():
    torch.manual_seed(2)
    heads = {name: nn.Linear(5, 1) for name in ("a", "b", "c")}
    optimizers = {name: torch.optim.SGD(head.parameters(), lr=0.1) for name, head in heads.items()}
    for step in range(12):
        name = "abc"[step % 3]
        optimizers[name].zero_grad()
        heads[name](torch.randn(6, 5)).square().mean().backward()
        optimizers[name].step()
    return heads


def healthy_unfrozen_later():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(10):
        if step == 4:
            model[0].requires_grad_(True)
        if step == 8:
            model[0].requires_grad_(False)
        optimizer.zero_grad()
        model(torch.randn(6, 5)).square().mean().backward()
        optimizer.step()
    return model


def healthy_gradients_of_one_layer_wiped():
    """A layer kept still for the first steps by dropping its gradients."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(8):
        optimizer.zero_grad()
        model(torch.randn(6, 5)).square().mean().backward()
        if step < 5:
            for parameter in model[2].parameters():
                parameter.grad = None
        optimizer.step()
    return model


class LowRank(nn.Module):
    def __init__(self, linear, rank=2):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) * 0.1)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + x @ self.down.T @ self.up.T


def healthy_lora():
    torch.manual_seed(2)
    model = nn.Sequential(LowRank(nn.Linear(5, 8)), nn.ReLU(), LowRank(nn.Linear(8, 1)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(6):
        loss = model(torch.randn(6, 5)).sub(1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def healthy_weight_tying():
    torch.manual_seed(2)
    table = nn.Embedding(11, 6)
    head = nn.Linear(6, 11, bias=False)
    head.weight = table.weight
    optimizer = torch.optim.Adam({id(p): p for p in [*table.parameters(), *head.parameters()]}.values(), lr=1e-2)
    for _ in range(6):
        optimizer.zero_grad(set_to_none=False)
        words = torch.randint(11, (8,))
        nn.functional.cross_entropy(head(table(words)), words).backward()
        optimizer.step()
    return head
