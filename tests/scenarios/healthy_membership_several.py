"""Correct programs with several networks or optimizers that take turns, are replaced, reloaded or restored."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


def net(inputs=5, outputs=2, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 10), nn.LeakyReLU(0.2), nn.Linear(10, outputs))


def data(number=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(12, 5, generator=generator) for _ in range(number)]


def fit(model, optimizer, number=6, seed=0):
    for x in data(number, seed):
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
    return model


def healthy_adversarial_pair():
    generator, critic = net(3, 5), net(5, 1, seed=1)
    generate = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    criticize = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    for index, real in enumerate(data(18)):
        fake = generator(torch.randn(12, 3))
        criticize.zero_grad()
        (F.softplus(-critic(real)).mean() + F.softplus(critic(fake.detach())).mean()).backward()
        criticize.step()
        if index % 3 == 2:
            generate.zero_grad()
            F.softplus(-critic(fake)).mean().backward()
            generate.step()
    return [generator, critic]


def healthy_gradient_penalty():
    generator, critic = net(3, 5), net(5, 1, seed=1)
    generate = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
    criticize = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
    for real in data(8):
        critic.requires_grad_(True)
        mixed = (real + generator(torch.randn(12, 3)).detach()).div(2).requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        criticize.zero_grad()
        (critic(mixed).mean() + (slope.norm(dim=1) - 1).pow(2).mean()).backward()
        criticize.step()
        critic.requires_grad_(False)
        generate.zero_grad()
        (-critic(generator(torch.randn(12, 3))).mean()).backward()
        generate.step()
    return [generator, critic]


def healthy_target_network():
    online = net()
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-2)
    for index, x in enumerate(data(12)):
        with torch.no_grad():
            goal = target(x).max(1).values
        optimizer.zero_grad()
        F.smooth_l1_loss(online(x)[:, 0], goal).backward()
        optimizer.step()
        if index % 4 == 3:
            target.load_state_dict(online.state_dict())
    return [online, target]


def healthy_predictor_and_average():
    online, predictor = net(), nn.Linear(2, 2)
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.SGD([*online.parameters(), *predictor.parameters()], lr=0.1, momentum=0.9)
    for x in data():
        optimizer.zero_grad()
        F.mse_loss(predictor(online(x)), target(x + 0.01)).backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
    return [online, target, predictor]


def healthy_stochastic_weight_averaging():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 2))
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in data():
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
        average.update_parameters(model)
    torch.optim.swa_utils.update_bn(data(), average)
    return [model, average]


def healthy_folds():
    trained = []
    for fold in range(5):
        model = net(seed=fold)
        trained.append(fit(model, torch.optim.Adam(model.parameters(), lr=1e-2), seed=fold))
    return trained


def healthy_best_weights_restored():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    best, kept = float("inf"), copy.deepcopy(model.state_dict())
    for x in data(12):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), (x[:, 0] > 0).long())
        loss.backward()
        optimizer.step()
        if loss.item() < best:
            best, kept = loss.item(), copy.deepcopy(model.state_dict())
        else:
            model.load_state_dict(kept)
    return model


def healthy_training_resumed():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    fit(model, optimizer)
    weights, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    model = net(seed=7)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    return fit(model, optimizer)


def healthy_one_optimizer_per_parameter_in_backward():
    model = net()
    optimizers = {parameter: torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()}

    def update(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    handles = [parameter.register_post_accumulate_grad_hook(update) for parameter in model.parameters()]
    for x in data():
        F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
    for handle in handles:
        handle.remove()
    return model


def healthy_sparse_embedding_with_its_own_optimizer():
    torch.manual_seed(2)
    table, head = nn.Embedding(50, 6, sparse=True), nn.Linear(6, 2)
    sparse = torch.optim.SparseAdam(list(table.parameters()), lr=1e-2)
    dense = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(8):
        tokens = torch.randint(50, (16,))
        sparse.zero_grad()
        dense.zero_grad()
        F.cross_entropy(head(table(tokens)), tokens % 2).backward()
        sparse.step()
        dense.step()
    return [table, head]


def healthy_fused():
    model = net()
    return fit(model, torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True), 24)


def healthy_closure():
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    for x in data(4):

        def closure(x=x):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), (x[:, 0] > 0).long())
            loss.backward()
            return loss

        optimizer.step(closure)
    return model


def healthy_scaled_losses():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    for index, x in enumerate(data(10)):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), (x[:, 0] > 0).long())
        scaler.scale(loss * (float("inf") if index in (0, 5) else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
    return model
