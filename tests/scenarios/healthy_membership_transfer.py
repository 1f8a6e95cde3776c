"""Correct programs in which part of what computes the loss is held by no optimizer, or is held only for a while."""

import torch
from torch import nn
from torch.nn import functional as F


def batches(number=8, features=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(12, features, generator=generator) for _ in range(number)]


def net(features=6, classes=3, width=16):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)
    )


def fit(model, optimizer, number=8, seed=0):
    for x in batches(number, seed=seed):
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    return model


def healthy_frozen_backbone():
    model = net()
    model[:4].requires_grad_(False)
    return fit(model, torch.optim.Adam(model[4].parameters(), lr=1e-2))


def healthy_frozen_backbone_held_whole():
    model = net()
    model[:2].requires_grad_(False)
    return fit(model, torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1))


def healthy_gradual_unfreezing_with_new_groups():
    model = net()
    model[:4].requires_grad_(False)
    optimizer = torch.optim.Adam(model[4].parameters(), lr=1e-2)
    fit(model, optimizer)
    for index in (2, 0):
        model[index].requires_grad_(True)
        optimizer.add_param_group({"params": model[index].parameters(), "lr": 1e-3})
        fit(model, optimizer)
    return model


def healthy_gradual_unfreezing_with_new_optimizers():
    model = net()
    model[:4].requires_grad_(False)
    fit(model, torch.optim.Adam(model[4].parameters(), lr=1e-2))
    model.requires_grad_(True)
    return fit(model, torch.optim.Adam(model.parameters(), lr=1e-3))


def healthy_low_rank_adapters():
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base.requires_grad_(False)
            self.down = nn.Parameter(torch.randn(2, base.in_features) * 0.1)
            self.up = nn.Parameter(torch.zeros(base.out_features, 2))

        def forward(self, x):
            return self.base(x) + x @ self.down.T @ self.up.T

    model = net()
    optimizer_built_later = [Adapted(model[0]), Adapted(model[2]), Adapted(model[4])]
    model[0], model[2], model[4] = optimizer_built_later
    return fit(model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2))


def healthy_prompt_tuning():
    torch.manual_seed(1)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).requires_grad_(False)
    prompt = nn.Parameter(torch.randn(3, 8))
    optimizer = torch.optim.Adam([prompt], lr=1e-2)
    for x in batches(features=8):
        optimizer.zero_grad()
        model(torch.cat([prompt, x]).unsqueeze(0)).pow(2).mean().backward()
        optimizer.step()
    return [model, prompt]


def healthy_learned_image_with_the_network_left_trainable():
    model = net()
    torch.manual_seed(2)
    image = torch.randn(4, 6, requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(8):
        optimizer.zero_grad()
        (-model(image)[:, 0].mean()).backward()
        optimizer.step()
    return [model, image]


def healthy_collocation_points_that_collect_gradients():
    model = net(features=1, classes=1)
    points = torch.linspace(0, 1, 10).unsqueeze(1).requires_grad_()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(8):
        optimizer.zero_grad()
        u = model(points)
        (slope,) = torch.autograd.grad(u.sum(), points, create_graph=True)
        (slope + u).pow(2).mean().backward()
        optimizer.step()
    return model


def healthy_linear_probe_that_clears_the_whole_model():
    model = net()
    optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1)
    for x in batches():
        model.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    return model


def healthy_frozen_feature_network_kept_in_a_list():
    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Linear(6, 6)
            self.hidden = [net().eval().requires_grad_(False)]

        def forward(self, x):
            return self.hidden[0](self.own(x))

    torch.manual_seed(3)
    model = Student()
    return fit(model, torch.optim.SGD(model.parameters(), lr=0.1))


def healthy_weight_tying_after_the_optimizer():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 8)
            self.mix = nn.Linear(8, 8)
            self.out = nn.Linear(8, 11, bias=False)

        def forward(self, tokens):
            return self.out(torch.tanh(self.mix(self.embed(tokens))))

    torch.manual_seed(4)
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.out.weight = model.embed.weight
    for _ in range(8):
        tokens = torch.randint(11, (16,))
        optimizer.zero_grad()
        F.cross_entropy(model(tokens), tokens).backward()
        optimizer.step()
    return model


def healthy_idle_heads():
    torch.manual_seed(5)
    body = nn.Linear(6, 12)
    heads = nn.ModuleList([nn.Linear(12, 3) for _ in range(4)])
    optimizer = torch.optim.AdamW([*body.parameters(), *heads.parameters()], lr=1e-2)
    for index, x in enumerate(batches(12)):
        optimizer.zero_grad()
        F.cross_entropy(heads[index // 4](torch.relu(body(x))), x[:, :3].argmax(1)).backward()
        optimizer.step()
    return [body, heads]


def healthy_second_stage_optimizer_made_late():
    torch.manual_seed(6)
    encoder, decoder = nn.Linear(6, 4), nn.Linear(4, 6)
    first = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    decoder.requires_grad_(False)
    for x in batches():
        first.zero_grad()
        F.mse_loss(decoder(encoder(x)), x).backward()
        first.step()
    decoder.requires_grad_(True)
    second = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    for x in batches():
        second.zero_grad()
        F.mse_loss(decoder(encoder(x)), x).backward()
        second.step()
    return [encoder, decoder]
