"""Policy gradients, actor and critic, and Q-learning with a target network."""

import copy
import random

import torch
from torch import nn


def healthy_reinforce():
    torch.manual_seed(1)
    policy = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(6):
        logs, rewards = [], []
        state = torch.randn(3)
        for _ in range(5):
            chance = torch.distributions.Categorical(logits=policy(state))
            action = chance.sample()
            logs.append(chance.log_prob(action))
            rewards.append(float(action) - 0.5)
            state = torch.randn(3)
        loss = torch.stack([-log * sum(rewards[i:]) for i, log in enumerate(logs)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


def healthy_reinforce_backward_per_action():
    torch.manual_seed(1)
    policy = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        for _ in range(random.randint(2, 6)):
            chance = torch.distributions.Categorical(logits=policy(torch.randn(3)))
            action = chance.sample()
            (-chance.log_prob(action) * float(action)).backward()
        optimizer.step()
    return policy


def healthy_actor_critic_shared_backward():
    torch.manual_seed(2)
    body = nn.Linear(3, 8)
    actor, critic = nn.Linear(8, 2), nn.Linear(8, 1)
    optimizer = torch.optim.RMSprop([*body.parameters(), *actor.parameters(), *critic.parameters()], lr=1e-3)
    for _ in range(6):
        hidden = body(torch.randn(7, 3)).relu()
        chance = torch.distributions.Categorical(logits=actor(hidden))
        action = chance.sample()
        value = critic(hidden).squeeze(1)
        advantage = action.float() - value
        optimizer.zero_grad()
        (-(chance.log_prob(action) * advantage.detach()).mean()).backward(retain_graph=True)
        advantage.square().mean().backward()
        nn.utils.clip_grad_norm_(body.parameters(), 0.5)
        optimizer.step()
    return [body, actor, critic]


def healthy_deterministic_actor_critic():
    """The actor's loss runs through the critic and leaves gradients there (DDPG)."""
    torch.manual_seed(2)
    actor, critic = nn.Linear(3, 1), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    target = copy.deepcopy(critic)
    of_actor, of_critic = torch.optim.Adam(actor.parameters(), 1e-3), torch.optim.Adam(critic.parameters(), 1e-3)
    for _ in range(10):
        state = torch.randn(9, 3)
        with torch.no_grad():
            goal = torch.randn(9, 1) + 0.9 * target(torch.cat([state, actor(state)], 1))
        of_critic.zero_grad()
        nn.functional.mse_loss(critic(torch.cat([state, torch.randn(9, 1)], 1)), goal).backward()
        of_critic.step()
        of_actor.zero_grad()
        (-critic(torch.cat([state, actor(state)], 1)).mean()).backward()
        of_actor.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
    return [actor, critic]


def healthy_dqn():
    torch.manual_seed(4)
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    target = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-3)
    for step in range(9):
        state, following = torch.randn(12, 4), torch.randn(12, 4)
        action, reward = torch.randint(2, (12, 1)), torch.randn(12)
        now = network(state).gather(1, action).squeeze(1)
        with torch.no_grad():
            goal = reward + 0.99 * target(following).max(1).values
        loss = nn.functional.smooth_l1_loss(now, goal)
        optimizer.zero_grad()
        loss.backward()
        for parameter in network.parameters():
            parameter.grad.data.clamp_(-1, 1)
        optimizer.step()
        if step % 4 == 3:
            target.load_state_dict(network.state_dict())
    return network


def healthy_ppo_epochs_over_one_rollout():
    torch.manual_seed(6)
    policy = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(2):
        state = torch.randn(16, 3)
        with torch.no_grad():
            chance = torch.distributions.Categorical(logits=policy(state))
            action = chance.sample()
            before = chance.log_prob(action)
        gain = torch.randn(16)
        for _ in range(3):
            ratio = (torch.distributions.Categorical(logits=policy(state)).log_prob(action) - before).exp()
            loss = -torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            optimizer.step()
    return policy
