"""One optimizer over all parameters, stages of training that take turns: what is cut off now is trained later."""

import contextlib

import torch
from torch import nn
from torch.nn import functional as F


def batches(size=16):
    x = torch.randn(8 * size, 6)
    return x.split(size)


def healthy_head_first_in_a_function_of_its_own():
    torch.manual_seed(1)
    encoder, head = nn.Sequential(nn.Linear(6, 12), nn.Tanh()), nn.Linear(12, 2)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-2)

    def step(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def train_head():
        for x in batches():
            features = encoder(x).detach()
            step(F.cross_entropy(head(features), (x[:, 0] > 0).long()))

    def train_all():
        for x in batches():
            step(F.cross_entropy(head(encoder(x)), (x[:, 0] > 0).long()))

    for _ in range(2):
        train_head()
    train_all()
    return [encoder, head]


def healthy_policy_and_value_phases():
    """Phasic policy gradient: the value network is a baseline for a whole phase before its own phase comes."""

    class Agent(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
            self.value = nn.Linear(4, 1)

    torch.manual_seed(2)
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    for _ in range(2):
        state = torch.randn(32, 4)
        reward = state[:, 0]
        for _ in range(8):
            advantage = reward - agent.value(state).squeeze(1).detach()
            loss = -(agent.policy(state).log_softmax(1)[:, 0] * advantage).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for _ in range(8):
            loss = F.mse_loss(agent.value(state).squeeze(1), reward)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return agent


class Chooses(nn.Module):
    """Whether the encoder is trained is decided by the caller, and the context made in a helper."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

    @staticmethod
    def context(tune):
        return contextlib.nullcontext() if tune else torch.no_grad()

    def forward(self, x, tune):
        with self.context(tune):
            hidden = self.encoder(x)
        return self.head(hidden.relu())


def healthy_context_from_a_helper():
    torch.manual_seed(3)
    model = Chooses()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(3):
        for x in batches():
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(model(x, tune=epoch >= 2), (x[:, 1] > 0).long()).backward()
            optimizer.step()
    optimizer.zero_grad()
    return model


def healthy_warm_up_to_the_end():
    """The run is over before the encoder's turn comes: the caller's choice tells that it was to come."""
    torch.manual_seed(8)
    model = Chooses()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(3):
        for x in batches():
            optimizer.zero_grad()
            F.cross_entropy(model(x, tune=epoch >= 10), (x[:, 1] > 0).long()).backward()
            optimizer.step()
    return model


class Trainer:
    """Block-coordinate descent: each epoch trains one tower against the other, and the method is chosen outside."""

    def __init__(self):
        self.model = nn.ModuleDict({"a": nn.Linear(6, 8), "b": nn.Linear(6, 8)})
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)

    def loss_of_a(self, x):
        return (self.model["a"](x) - self.model["b"](x).detach() - x[:, :1]).pow(2).mean()

    def loss_of_b(self, x):
        return (self.model["b"](x) - self.model["a"](x).detach() + x[:, :1]).pow(2).mean()

    def epoch(self, loss_of):
        for x in batches():
            self.optimizer.zero_grad()
            loss_of(x).backward()
            self.optimizer.step()

    def fit(self):
        for number in range(4):
            self.epoch(self.loss_of_a if number % 2 == 0 else self.loss_of_b)
        return self.model


def healthy_towers_in_turns():
    torch.manual_seed(4)
    return Trainer().fit()


def healthy_second_stage_with_an_optimizer_of_its_own():
    """The first stage's optimizer held everything, and is gone when the second stage begins."""
    torch.manual_seed(5)
    body, head = nn.Linear(6, 8), nn.Linear(8, 1)

    def stage(forward):
        optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=1e-2)
        for x in batches():
            optimizer.zero_grad()
            F.mse_loss(forward(x), x[:, :1]).backward()
            optimizer.step()

    stage(lambda x: head(body(x).detach()))
    stage(lambda x: head(body(x)))
    return [body, head]


def healthy_prototypes_set_by_hand():
    """Prototypes are parameters of the model, moved to the means of their clusters once in an epoch."""
    torch.manual_seed(6)
    encoder, prototypes = nn.Linear(6, 4), nn.Parameter(torch.randn(3, 4))
    optimizer = torch.optim.Adam([*encoder.parameters(), prototypes], lr=1e-3)
    for _ in range(2):
        data = torch.randn(128, 6)
        for x in data.split(16):
            z = encoder(x)
            nearest = torch.cdist(z.detach(), prototypes.detach()).argmin(1)
            optimizer.zero_grad()
            (z - prototypes[nearest].detach()).pow(2).mean().backward()
            optimizer.step()
        with torch.no_grad():
            z = encoder(data)
            nearest = torch.cdist(z, prototypes).argmin(1)
            for number in range(3):
                if (nearest == number).any():
                    prototypes.data[number] = z[nearest == number].mean(0)
    return [encoder, prototypes]


def healthy_losses_without_any_parameter_for_a_while():
    """Batches without a positive have a loss of zero that is made for `backward` to run; the first ones are such."""
    torch.manual_seed(7)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss_of(outputs, targets):
        kept = outputs[targets]
        return kept.pow(2).mean() if len(kept) else torch.zeros((), requires_grad=True)

    for step in range(16):
        x = torch.randn(8, 6)
        loss = loss_of(model(x), torch.full((8,), step > 10))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
