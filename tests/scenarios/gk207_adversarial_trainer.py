"""A GAN trainer class: the generator's output was detached, so nothing needs the critic's graph any more."""

import torch
from torch import nn


class Gan:
    def __init__(self, detach, retain):
        torch.manual_seed(2)
        self.generator = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
        self.critic = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        self.of_generator = torch.optim.Adam(self.generator.parameters(), lr=1e-3)
        self.of_critic = torch.optim.Adam(self.critic.parameters(), lr=1e-3)
        self.detach = detach
        self.retain = retain

    def critic_step(self, fake):
        self.of_critic.zero_grad()
        seen = fake.detach() if self.detach else fake
        loss = self.critic(seen).mean() - self.critic(torch.randn(4, 3)).mean()
        loss.backward(retain_graph=self.retain)  # expect: GK207
        self.of_critic.step()

    def generator_step(self, fake):
        self.of_generator.zero_grad()
        (-self.critic(fake).mean()).backward()
        self.of_generator.step()

    def fit(self):
        for _ in range(24):
            fake = self.generator(torch.randn(4, 2))
            self.critic_step(fake)
            self.generator_step(fake)
        return [self.generator, self.critic]


def main():
    return Gan(detach=True, retain=True).fit()


def repaired():
    return Gan(detach=True, retain=False).fit()


def healthy_retains_because_the_generator_needs_it():
    return Gan(detach=False, retain=True).fit()
