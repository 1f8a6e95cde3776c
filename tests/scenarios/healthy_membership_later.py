"""Correct programs in which parameters get gradients for some time before anything updates them."""

import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.words = nn.Embedding(30, width)
        self.mix = nn.GRU(width, 24, batch_first=True)
        self.tags = nn.Linear(24, 4)

    def forward(self, words):
        return self.tags(self.mix(self.words(words))[0])


def batches(number, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        words = torch.randint(30, (6, 5), generator=generator)
        yield words, words % 4


def loss_of(model, words, tags):
    return nn.functional.cross_entropy(model(words).flatten(0, 1), tags.flatten())


def stage(model, optimizer, number, seed):
    for words, tags in batches(number, seed):
        model.zero_grad()
        loss_of(model, words, tags).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def healthy_small_part_joins_in_the_second_stage():
    torch.manual_seed(0)
    model = Tagger()
    upper = [*model.mix.parameters(), *model.tags.parameters()]
    stage(model, torch.optim.Adam(upper, lr=1e-2), 12, seed=1)
    stage(model, torch.optim.Adam(model.parameters(), lr=1e-3), 4, seed=2)
    return model


def healthy_stages_of_several_models_freed_one_after_the_other():
    """Nothing of a candidate is left when the watching ends."""
    losses = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = Tagger()
        stage(model, torch.optim.SGD(list(model.parameters())[1:], lr=0.1), 6, seed)
        stage(model, torch.optim.SGD(model.parameters(), lr=0.1), 3, seed)
        losses.append(sum(loss_of(model, *batch).detach() for batch in batches(2, 9)))
    return torch.stack(losses)


def healthy_large_part_is_moved_every_fifth_step():
    """Most of the numbers move rarely: their gradients are added up on purpose."""
    torch.manual_seed(3)
    model = Tagger(width=64)
    optimizer = torch.optim.Adam([*model.mix.parameters(), *model.tags.parameters()], lr=1e-3)
    table = model.words.weight
    for number, (words, tags) in enumerate(batches(20, seed=4), 1):
        optimizer.zero_grad()
        loss_of(model, words, tags).backward()
        optimizer.step()
        if number % 5 == 0:
            table.data.sub_(table.grad, alpha=0.2 / 5)
            table.grad = None
    return model
