"""Correct programs whose graphs outlive a backward or a step: GK202 and GK207 stay silent."""

import collections

import torch
from torch import nn


def model_and_optimizer(seed, width=6):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def healthy_last_losses_in_a_short_window():
    model, optimizer = model_and_optimizer(1)
    recent = collections.deque(maxlen=5)
    for _ in range(20):
        loss = model(torch.randn(4, 6)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent.append(loss)
    return model


def healthy_truncated_back_propagation():
    """States of the last few steps are kept, back-propagated through again, and dropped: bounded on purpose."""
    torch.manual_seed(2)
    cell = nn.RNNCell(3, 5)
    head = nn.Linear(5, 1)
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.01)
    horizon = 12
    states = [(None, torch.zeros(2, 5))]
    for step in range(30):
        before = states[-1][1].detach().requires_grad_()
        after = cell(torch.randn(2, 3), before)
        states.append((before, after))
        del states[:-horizon]
        loss = head(after).pow(2).mean()
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        for index in range(len(states) - 1):
            state = states[-index - 1][0]
            if state is None or state.grad is None or states[-index - 2][1].grad_fn is None:
                break
            states[-index - 2][1].backward(state.grad, retain_graph=True)
        if step % horizon == horizon - 1:
            optimizer.step()
            states = [(None, states[-1][1].detach())]
    return [cell, head]


def healthy_unrolled_window():
    """Twelve losses of one sequence summed, one backward, one step."""
    torch.manual_seed(3)
    cell, head = nn.GRUCell(3, 4), nn.Linear(4, 1)
    optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()])
    state = torch.zeros(2, 4)
    for _ in range(8):
        losses = []
        for _ in range(12):
            state = cell(torch.randn(2, 3), state)
            losses.append(head(state).pow(2).mean())
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        state = state.detach()
    return [cell, head]


def healthy_two_losses_over_one_graph():
    model, optimizer = model_and_optimizer(4)
    for _ in range(12):
        optimizer.zero_grad()
        out = model(torch.randn(4, 6))
        out.pow(2).mean().backward(retain_graph=True)
        out.abs().mean().backward()
        optimizer.step()
    return model


def healthy_gradient_penalty():
    model, optimizer = model_and_optimizer(5)
    for _ in range(12):
        x = torch.randn(4, 6, requires_grad=True)
        optimizer.zero_grad()
        out = model(x)
        (gradient,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        (out.mean() + (gradient.norm(dim=1) - 1).pow(2).mean()).backward()
        optimizer.step()
    return model


def healthy_hessian_vector_product():
    """The first-order graph is made by `backward(create_graph=True)` and read by a second differentiation."""
    model, optimizer = model_and_optimizer(6)
    parameters = list(model.parameters())
    for _ in range(12):
        optimizer.zero_grad(set_to_none=True)
        gradients = torch.autograd.grad(model(torch.randn(4, 6)).pow(2).mean(), parameters, create_graph=True)
        penalty = sum(gradient.pow(2).sum() for gradient in gradients)
        penalty.backward()
        optimizer.step()
    return model


def healthy_gradient_norm_of_each_task():
    """GradNorm-like: a retained graph is differentiated once more for a number, without accumulating."""
    model, optimizer = model_and_optimizer(7)
    for step in range(12):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 6)).pow(2).mean()
        loss.backward(retain_graph=True)
        (shared,) = torch.autograd.grad(loss, model[2].weight)
        if step % 4 == 0:
            print(f"{shared.norm().item():.4f}")
        optimizer.step()
    return model


def healthy_adversarial_pair():
    """Generator and discriminator step in turns; each one's last loss lives until its next turn."""
    torch.manual_seed(8)
    generator, critic = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    first = torch.optim.Adam(generator.parameters(), lr=1e-3)
    second = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for _ in range(16):
        fake = generator(torch.randn(4, 2))
        second.zero_grad()
        critic_loss = critic(fake.detach()).mean() - critic(torch.randn(4, 3)).mean()
        critic_loss.backward()
        second.step()
        first.zero_grad()
        generator_loss = -critic(fake).mean()
        generator_loss.backward()
        first.step()
    return [generator, critic]


def healthy_unrolled_inner_steps():
    """MAML by hand: the graph of the inner steps is what the outer backward goes through."""
    model, optimizer = model_and_optimizer(9)
    for _ in range(12):
        optimizer.zero_grad()
        outer = 0.0
        for _ in range(2):
            fast = dict(model.named_parameters())
            for _ in range(3):
                inner = torch.func.functional_call(model, fast, (torch.randn(4, 6),)).pow(2).mean()
                gradients = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
                fast = {name: value - 0.1 * g for (name, value), g in zip(fast.items(), gradients, strict=True)}
            outer = outer + torch.func.functional_call(model, fast, (torch.randn(4, 6),)).abs().mean()
        outer.backward()
        optimizer.step()
    return model


def healthy_second_use_every_few_steps():
    """The retained graph is read in a branch that is rarely taken."""
    model, optimizer = model_and_optimizer(10)
    for step in range(14):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 6)).pow(2).mean()
        loss.backward(retain_graph=True)
        if step % 13 == 12:
            (shared,) = torch.autograd.grad(loss, model[2].weight)
            print(f"{shared.norm().item():.4f}")
        optimizer.step()
    return model


class Events:
    """Callbacks found by the name of an event, as trainers have them."""

    def __init__(self, *callbacks):
        self.callbacks = callbacks

    def fire(self, event, *values):
        for callback in self.callbacks:
            getattr(callback, event)(*values)


class Printer:
    def after_loss(self, step, loss, weight):
        pass


class Influence:
    """Looks at the gradient of one layer once in a while."""

    def after_loss(self, step, loss, weight):
        if step % 13 == 12:
            print(f"{torch.autograd.grad(loss, weight)[0].norm().item():.4f}")


def healthy_second_use_in_a_callback():
    """Nothing near the backward tells that a callback differentiates: the event's name is put together."""
    model, optimizer = model_and_optimizer(11)
    events = Events(Printer(), Influence())
    for step in range(14):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 6)).pow(2).mean()
        loss.backward(retain_graph=True)
        events.fire("_".join(("after", "loss")), step, loss, model[2].weight)
        optimizer.step()
    return model


def norm_of_first(loss, model):
    return torch.autograd.grad(loss, model[0].weight)[0].norm().item()


def number_of(loss, model):
    return loss.item()


PROBES = {"loss": (1, number_of), "norm": (13, norm_of_first)}


def healthy_second_use_by_a_table():
    """What is measured stands in a table: each entry has its own period."""
    model, optimizer = model_and_optimizer(12)
    for step in range(14):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 6)).pow(2).mean()
        loss.backward(retain_graph=True)
        seen = {name: probe(loss, model) for name, (every, probe) in PROBES.items() if step % every == every - 1}
        optimizer.step()
        print(sorted(seen))
    return model
