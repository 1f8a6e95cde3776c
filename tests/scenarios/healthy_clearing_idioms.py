"""Every way people clear gradients."""

import torch
from torch import nn


def train(clear, steps=6, after=False):
    torch.manual_seed(11)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        if not after:
            clear(model, optimizer)
        model(torch.randn(10, 6)).pow(2).mean().backward()
        optimizer.step()
        if after:
            clear(model, optimizer)
    return model


def by_hand(model, optimizer):
    for parameter in model.parameters():
        parameter.grad = None


def old_idiom(model, optimizer):
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.data.zero_()


def detached(model, optimizer):
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.detach_()
            parameter.grad.zero_()


def foreach_zero(model, optimizer):
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if gradients:
        torch._foreach_zero_(gradients)


def multiplied(model, optimizer):
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(0)


def subtracted(model, optimizer):
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.sub_(parameter.grad.clone())


def a_new_tensor(model, optimizer):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


def written_over(model, optimizer):
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad[...] = 0.0


def through_numpy(model, optimizer):
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.numpy()[:] = 0.0


def deleted(model, optimizer):
    for parameter in model.parameters():
        del parameter.grad


def healthy_before():
    return train(lambda model, optimizer: optimizer.zero_grad())


def healthy_after():
    return train(lambda model, optimizer: optimizer.zero_grad(), after=True)


def healthy_kept_as_zeros():
    return train(lambda model, optimizer: optimizer.zero_grad(set_to_none=False))


def healthy_kept_as_zeros_after():
    return train(lambda model, optimizer: optimizer.zero_grad(set_to_none=False), after=True)


def healthy_by_the_module():
    return train(lambda model, optimizer: model.zero_grad())


def healthy_by_the_module_kept_as_zeros():
    return train(lambda model, optimizer: model.zero_grad(set_to_none=False), after=True)


def healthy_early_bound():
    return train(lambda model, optimizer, clear=torch.optim.Optimizer.zero_grad: clear(optimizer))


def healthy_none():
    return train(by_hand)


def healthy_data_zero():
    return [train(old_idiom, steps=40), train(old_idiom, steps=40, after=True)]


def healthy_detached_zero():
    return train(detached)


def healthy_foreach():
    return [train(foreach_zero), train(foreach_zero, after=True)]


def healthy_multiplied():
    return [train(multiplied), train(multiplied, after=True)]


def healthy_subtracted():
    return train(subtracted)


def healthy_new_tensor():
    return [train(a_new_tensor), train(a_new_tensor, after=True)]


def healthy_written_over():
    return train(written_over)


def healthy_numpy():
    return [train(through_numpy, steps=30), train(through_numpy, steps=30, after=True)]


def healthy_deleted():
    return train(deleted)


def healthy_a_way_of_its_own_each_time():
    ways = [by_hand, old_idiom, foreach_zero, multiplied, a_new_tensor, through_numpy, written_over, subtracted]
    turn = iter(ways * 4)
    return train(lambda model, optimizer: next(turn)(model, optimizer), steps=32)
