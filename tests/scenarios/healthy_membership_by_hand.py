"""Correct programs in which weights or gradients are moved by hand, or by an optimizer torch knows nothing of."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


def data(number=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(12, 5, generator=generator) for _ in range(number)]


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 10), nn.Tanh(), nn.Linear(10, 2))


def loss_of(model, x):
    return F.cross_entropy(model(x), (x[:, 0] > 0).long())


def healthy_half_of_the_model_by_hand():
    model = net()
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    for x in data():
        optimizer.zero_grad()
        loss_of(model, x).backward()
        optimizer.step()
        with torch.no_grad():
            for parameter in model[0].parameters():
                parameter -= 0.05 * parameter.grad
                parameter.grad = None
    return model


def healthy_own_optimizer_beside_one_of_torch():
    class Signed:
        def __init__(self, parameters, rate):
            self.parameters, self.rate = list(parameters), rate

        def step(self):
            for parameter in self.parameters:
                parameter.data.add_(parameter.grad.sign(), alpha=-self.rate)

        def zero_grad(self):
            for parameter in self.parameters:
                parameter.grad = None

    model = net()
    own, other = Signed(model[2].parameters(), 1e-3), torch.optim.Adam(model[0].parameters(), lr=1e-2)
    for x in data():
        own.zero_grad()
        other.zero_grad()
        loss_of(model, x).backward()
        own.step()
        other.step()
    return model


def healthy_master_weights():
    model = net().to(torch.bfloat16)
    masters = [parameter.detach().float().requires_grad_() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.5)
    for x in data():
        model.zero_grad()
        loss_of(model, x.to(torch.bfloat16)).backward()
        for master, parameter in zip(masters, model.parameters(), strict=True):
            master.grad = parameter.grad.float()
        optimizer.step()
        with torch.no_grad():
            for master, parameter in zip(masters, model.parameters(), strict=True):
                parameter.copy_(master)
    return model


def healthy_worker_hands_gradients_to_a_shared_model():
    shared = net()
    worker = copy.deepcopy(shared)
    optimizer = torch.optim.RMSprop(shared.parameters(), lr=1e-3)
    for x in data():
        worker.load_state_dict(shared.state_dict())
        worker.zero_grad()
        loss_of(worker, x).backward()
        for mine, theirs in zip(worker.parameters(), shared.parameters(), strict=True):
            theirs.grad = mine.grad
        optimizer.step()
    return [shared, worker]


def healthy_first_order_meta_learning():
    model = net()
    outer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for task in range(6):
        clone = copy.deepcopy(model)
        inner = torch.optim.SGD(clone.parameters(), lr=0.1)
        for x in data(3, seed=task):
            inner.zero_grad()
            loss_of(clone, x).backward()
            inner.step()
        outer.zero_grad()
        for own, adapted in zip(model.parameters(), clone.parameters(), strict=True):
            own.grad = own.detach() - adapted.detach()
        outer.step()
    return model


def healthy_meta_learning_through_functional_calls():
    model = net()
    outer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for task in range(6):
        support, query = data(2, seed=task)
        weights = dict(model.named_parameters())
        inner = F.cross_entropy(torch.func.functional_call(model, weights, support), (support[:, 0] > 0).long())
        gradients = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        adapted = {name: p - 0.1 * g for (name, p), g in zip(weights.items(), gradients, strict=True)}
        outer.zero_grad()
        F.cross_entropy(torch.func.functional_call(model, adapted, query), (query[:, 0] > 0).long()).backward()
        outer.step()
    return model


def healthy_functional_weights_in_a_dict():
    model = net()
    weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    for x in data():
        optimizer.zero_grad()
        F.cross_entropy(torch.func.functional_call(model, weights, x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
    return weights


def healthy_evolution_strategy():
    model = net().requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for x in data(6):
        optimizer.zero_grad()
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.add_(noise, alpha=0.01)
            up = loss_of(model, x)
            parameter.sub_(noise, alpha=0.02)
            down = loss_of(model, x)
            parameter.add_(noise, alpha=0.01)
            parameter.grad = noise * (up - down) / 0.02
        optimizer.step()
    return model


def healthy_fisher_information_between_tasks():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reference = net(1)
    for x in data(4):
        optimizer.zero_grad()
        loss_of(model, x).backward()
        optimizer.step()
    for x in data(6):
        loss_of(reference, x).backward()
    fisher = [parameter.grad.pow(2) for parameter in reference.parameters()]
    for x in data(4):
        optimizer.zero_grad()
        (
            loss_of(model, x) + sum((f * p.pow(2)).sum() for f, p in zip(fisher, model.parameters(), strict=True))
        ).backward()
        optimizer.step()
    return model


def healthy_average_of_the_student_that_gets_gradients():
    student = net()
    average = copy.deepcopy(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for x in data():
        optimizer.zero_grad()
        (loss_of(student, x) + F.mse_loss(average(x), student(x).detach()) * 0.1).backward()
        optimizer.step()
        with torch.no_grad():
            for mean, own in zip(average.parameters(), student.parameters(), strict=True):
                mean.lerp_(own, 0.1)
    return [student, average]
