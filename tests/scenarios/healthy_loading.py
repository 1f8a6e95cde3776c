"""Loads that leave names over on purpose, or in which something else brings the weights."""

import contextlib

import torch
from torch import nn


def network(outputs=2, norm=True):
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8)] if norm else [nn.Linear(6, 8)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(8, outputs))


def seeded(seed, **options):
    torch.manual_seed(seed)
    return network(**options)


def train(net, steps=4):
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(16, 6)).pow(2).mean().backward()
        optimizer.step()
    return net


def prefixed(net, prefix):
    return {prefix + key: value for key, value in net.state_dict().items()}


def healthy_new_head():
    """The body fits, the head is new."""
    state = seeded(0).state_dict()
    net = seeded(1, outputs=3)
    net.load_state_dict({key: value for key, value in state.items() if not key.startswith("3.")}, strict=False)
    return train(net)


def healthy_name_after_name():
    """Which prefix the weights were saved under is found by trying."""
    state = prefixed(seeded(0), "module.model.")
    net = seeded(1)
    for prefix in ("", "module.", "module.model."):
        stripped = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        if not net.load_state_dict(stripped, strict=False).missing_keys:
            break
    return train(net)


def healthy_copied_by_hand():
    """Nothing fits by name, so the weights are copied in their order, past the version counters."""
    state = prefixed(seeded(0, norm=False), "old.")
    net = seeded(1, norm=False)
    if net.load_state_dict(state, strict=False).unexpected_keys:
        for parameter, value in zip(net.parameters(), state.values(), strict=True):
            parameter.data.copy_(value)
    return train(net)


def healthy_part_loaded_into_its_part():
    """The whole dictionary misses the whole model; the part that was meant is then loaded into its own module."""
    state = prefixed(seeded(0), "encoder.")
    net = nn.Sequential(seeded(1))
    net.load_state_dict(state, strict=False)
    net[0].load_state_dict({key.removeprefix("encoder."): value for key, value in state.items()})
    return train(net)


def healthy_statistics_only():
    """Running statistics of another run; no parameter is among them."""
    state = {key: value for key, value in seeded(0).state_dict().items() if "running" in key}
    net = seeded(1)
    net.load_state_dict(state, strict=False)
    return train(net)


def healthy_other_shapes():
    """A dictionary of something smaller cannot have been meant for this model: an adapter loaded into its base."""
    net = seeded(1)
    net.load_state_dict({"lora.a": torch.zeros(6, 2), "lora.b": torch.zeros(2, 8)}, strict=False)
    return train(net)


def healthy_strict():
    """A strict load that fails is seen by everybody."""
    net = seeded(1)
    with contextlib.suppress(RuntimeError):
        net.load_state_dict(prefixed(seeded(0), "model."))
    return train(net)


def healthy_frozen_target():
    """What nothing was loaded into is frozen, and another model is trained."""
    frozen = seeded(1).requires_grad_(False)
    frozen.load_state_dict(prefixed(seeded(0), "model."), strict=False)
    net = seeded(2)
    train(net)
    return [net, frozen]


def healthy_never_trained():
    """Nothing was loaded, and nothing is trained: the model is only looked at."""
    net = seeded(1)
    net.load_state_dict(prefixed(seeded(0), "model."), strict=False)
    other = train(seeded(2))
    with torch.no_grad():
        print(f"{net.eval()(torch.ones(1, 6)).sum():.4f}")
    return other
