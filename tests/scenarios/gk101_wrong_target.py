"""Clearing that reaches something else: another model, another optimizer, an old list, part of the groups."""

import copy
import functools

import torch
from torch import nn


def network():
    torch.manual_seed(6)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def loss_of(model):
    return model(torch.randn(8, 4)).square().mean()


def faulty_another_model():
    model = network()
    student = copy.deepcopy(model)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    for _ in range(4):
        model.zero_grad()
        loss_of(student).backward()
        optimizer.step()  # expect: GK101
    return student


def healthy_its_own_model():
    student = copy.deepcopy(network())
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    for _ in range(4):
        student.zero_grad()
        loss_of(student).backward()
        optimizer.step()
    return student


def faulty_an_optimizer_left_from_before():
    """The optimizer is made anew every epoch; the clearing was bound to the first one's groups."""
    model = network()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.01)
    clear = optimizer.zero_grad
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(4):
        clear()
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model


def faulty_a_stale_list():
    """The list of parameters was taken before the head was replaced."""
    model = network()
    weights = list(model.parameters())
    model[2] = nn.Linear(8, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(4):
        for weight in weights:
            weight.grad = None
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model


def healthy_a_fresh_list():
    model = network()
    model[2] = nn.Linear(8, 2)
    weights = list(model.parameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(4):
        for weight in weights:
            weight.grad = None
        loss_of(model).backward()
        optimizer.step()
    return model


def faulty_only_the_first_group():
    model = network()
    optimizer = torch.optim.AdamW([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1e-3}])
    for _ in range(4):
        for weight in optimizer.param_groups[0]["params"]:
            weight.grad = None
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model


def faulty_only_weights_and_not_biases():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(4):
        for name, weight in model.named_parameters():
            if "weight" in name and weight.grad is not None:
                weight.grad.zero_()
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model


def healthy_both_groups():
    model = network()
    optimizer = torch.optim.AdamW([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1e-3}])
    for _ in range(4):
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = None
        loss_of(model).backward()
        optimizer.step()
    return model


def faulty_gan_clears_the_wrong_network():
    torch.manual_seed(6)
    generator, critic = nn.Linear(3, 2), nn.Linear(2, 1)
    optimizer_g = torch.optim.SGD(generator.parameters(), lr=0.01)
    optimizer_d = torch.optim.SGD(critic.parameters(), lr=0.01)
    for _ in range(6):
        fake = generator(torch.randn(8, 3))
        generator.zero_grad()
        (critic(fake.detach()).mean() - critic(torch.randn(8, 2)).mean()).backward()
        optimizer_d.step()  # expect: GK101
        generator.zero_grad()
        (-critic(fake).mean()).backward()
        optimizer_g.step()
    return [generator, critic]


def faulty_two_optimizers_over_one_loss():
    torch.manual_seed(6)
    encoder, decoder = nn.Linear(4, 3), nn.Linear(3, 4)
    first, second = torch.optim.Adam(encoder.parameters(), 1e-2), torch.optim.Adam(decoder.parameters(), 1e-2)
    for _ in range(4):
        first.zero_grad()
        first.zero_grad()
        x = torch.randn(8, 4)
        nn.functional.mse_loss(decoder(encoder(x)), x).backward()
        first.step()
        second.step()  # expect: GK101
    return [encoder, decoder]


def faulty_a_copy_is_cleared():
    """`zero_grad` of a pickled or deep-copied optimizer clears the gradients of the copies."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    clear = functools.partial(copy.deepcopy(optimizer).zero_grad, set_to_none=False)
    for _ in range(4):
        clear()
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model


def faulty_gradients_rebound():
    """Local names are set to None; the parameters keep their gradients."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(4):
        for weight in model.parameters():
            gradient = weight.grad
            gradient = gradient.clone().zero_() if gradient is not None else None
        loss_of(model).backward()
        optimizer.step()  # expect: GK101
    return model
