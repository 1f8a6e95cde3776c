"""Adversarial pairs: one network's loss leaves gradients on the other, which clears them before its own step."""

import torch
from torch import nn


def pair():
    torch.manual_seed(9)
    generator = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    critic = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    return (
        generator,
        critic,
        torch.optim.Adam(generator.parameters(), 1e-3),
        torch.optim.Adam(critic.parameters(), 1e-3),
    )


def gan(zero, steps=12):
    generator, critic, optimizer_g, optimizer_d = pair()
    loss_of = nn.BCEWithLogitsLoss()
    for _ in range(steps):
        real, noise = torch.randn(16, 2) + 2.0, torch.randn(16, 3)
        zero(optimizer_d)
        loss_of(critic(real), torch.ones(16, 1)).backward()
        fake = generator(noise)
        loss_of(critic(fake.detach()), torch.zeros(16, 1)).backward()
        optimizer_d.step()
        zero(optimizer_g)
        loss_of(critic(fake), torch.ones(16, 1)).backward()
        optimizer_g.step()
    return [generator, critic]


def healthy_gan():
    return gan(lambda optimizer: optimizer.zero_grad())


def healthy_gan_kept_as_zeros():
    return gan(lambda optimizer: optimizer.zero_grad(set_to_none=False))


def healthy_gan_old_idiom():
    def zero(optimizer):
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.data.zero_()

    return gan(zero)


def healthy_generator_first():
    generator, critic, optimizer_g, optimizer_d = pair()
    for _ in range(8):
        real, noise = torch.randn(16, 2) + 2.0, torch.randn(16, 3)
        optimizer_g.zero_grad()
        fake = generator(noise)
        (-critic(fake).mean()).backward()
        optimizer_g.step()
        optimizer_d.zero_grad()
        (critic(fake.detach()).mean() - critic(real).mean()).backward()
        optimizer_d.step()
    return [generator, critic]


def healthy_wgan_gp():
    generator, critic, optimizer_g, optimizer_d = pair()
    for iteration in range(9):
        real, noise = torch.randn(16, 2) + 2.0, torch.randn(16, 3)
        optimizer_d.zero_grad()
        fake = generator(noise).detach()
        mixing = torch.rand(16, 1)
        between = (mixing * real + (1 - mixing) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        (critic(fake).mean() - critic(real).mean() + 10 * penalty).backward()
        optimizer_d.step()
        if iteration % 3 == 2:
            optimizer_g.zero_grad()
            (-critic(generator(noise)).mean()).backward()
            optimizer_g.step()
    return [generator, critic]


def healthy_frozen_while_the_other_learns():
    generator, critic, optimizer_g, optimizer_d = pair()
    for _ in range(8):
        noise = torch.randn(16, 3)
        for p in critic.parameters():
            p.requires_grad_(True)
        critic.zero_grad()
        (critic(generator(noise).detach()).mean() - critic(torch.randn(16, 2)).mean()).backward()
        optimizer_d.step()
        for p in critic.parameters():
            p.data.clamp_(-0.1, 0.1)
            p.requires_grad_(False)
        generator.zero_grad()
        (-critic(generator(noise)).mean()).backward()
        optimizer_g.step()
    return [generator, critic]
