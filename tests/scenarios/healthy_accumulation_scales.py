"""Several backward calls in one window that are no micro-batches of one mean, or are scaled in ways of their own."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def setting(size=96, batch=4):
    torch.manual_seed(5)
    loader = DataLoader(TensorDataset(torch.randn(size, 5), torch.randint(3, (size,))), batch_size=batch)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    return loader, model, torch.optim.SGD(model.parameters(), lr=0.01)


def every(window, loader, optimizer, backward, before_step=lambda: None):
    for _ in range(2):
        for index, batch in enumerate(loader, 1):
            backward(*batch)
            if index % window == 0:
                before_step()
                optimizer.step()
                optimizer.zero_grad()


def healthy_two_tasks_on_one_line():
    loader, model, optimizer = setting()
    heads = [nn.functional.cross_entropy, lambda output, y: nn.functional.mse_loss(output[:, 0], y.float())]
    for _ in range(2):
        for x, y in loader:
            for loss in heads:
                loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


def healthy_same_loss_on_two_views():
    loader, model, optimizer = setting()
    for _ in range(2):
        for x, y in loader:
            for view in (x, x.flip(0)):
                nn.functional.cross_entropy(model(view), y if view is x else y.flip(0)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


def healthy_sums():
    loader, model, optimizer = setting()
    every(4, loader, optimizer, lambda x, y: nn.functional.cross_entropy(model(x), y, reduction="sum").backward())
    return model


def healthy_sums_over_the_items_of_the_window():
    loader, model, optimizer = setting()
    every(
        4, loader, optimizer, lambda x, y: (nn.functional.cross_entropy(model(x), y, reduction="sum") / 16).backward()
    )
    return model


def healthy_gradients_divided_before_the_step():
    loader, model, optimizer = setting()

    def divide():
        for parameter in model.parameters():
            parameter.grad /= 4

    every(4, loader, optimizer, lambda x, y: nn.functional.cross_entropy(model(x), y).backward(), divide)
    return model


def healthy_gradients_divided_by_hooks():
    loader, model, optimizer = setting()
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient / 4)
    every(4, loader, optimizer, lambda x, y: nn.functional.cross_entropy(model(x), y).backward())
    return model


def healthy_weighted_by_the_call():
    loader, model, optimizer = setting()
    weight = torch.tensor(0.25)
    every(4, loader, optimizer, lambda x, y: nn.functional.cross_entropy(model(x), y).backward(weight))
    return model


def healthy_divided_by_a_tensor():
    loader, model, optimizer = setting()
    number = torch.tensor(4.0)
    every(4, loader, optimizer, lambda x, y: (nn.functional.cross_entropy(model(x), y) / number).backward())
    return model


def healthy_several_terms_divided_together():
    loader, model, optimizer = setting()

    def backward(x, y):
        output = model(x)
        loss = nn.functional.cross_entropy(output, y) + 0.1 * output.square().mean()
        loss /= 4
        loss.backward()

    every(4, loader, optimizer, backward)
    return model


def healthy_several_terms_divided_one_by_one():
    loader, model, optimizer = setting()

    def backward(x, y):
        output = model(x)
        (nn.functional.cross_entropy(output, y) / 4 + output.square().mean() * (4 / 4) / 4).backward()

    every(4, loader, optimizer, backward)
    return model


def healthy_as_many_items_in_each_mean():
    loader, model, optimizer = setting(size=94)  # the last batch is smaller, and its window with it
    every(4, loader, optimizer, lambda x, y: (nn.functional.cross_entropy(model(x), y) / 4).backward())
    return model


def healthy_an_ensemble_on_one_optimizer():
    torch.manual_seed(6)
    models = nn.ModuleList(nn.Linear(5, 3) for _ in range(3))
    optimizer = torch.optim.SGD(models.parameters(), lr=0.01)
    batches = DataLoader(TensorDataset(torch.randn(96, 5), torch.randint(3, (96,))), batch_size=4)
    # Each member sees batches of its own.
    for index, (x, y) in enumerate(batches):
        nn.functional.cross_entropy(models[index % 3](x), y).backward()
        if index % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
    return models


def healthy_clipped_sums_of_means():
    loader, model, optimizer = setting()
    every(
        4,
        loader,
        optimizer,
        lambda x, y: nn.functional.cross_entropy(model(x), y).backward(),
        lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.1),
    )
    return model


def healthy_a_loss_that_is_checkpointed():
    from torch.utils.checkpoint import checkpoint

    loader, model, optimizer = setting()
    number = torch.tensor(4.0)

    def loss(x, y):
        return nn.functional.cross_entropy(model(x), y) / number

    every(4, loader, optimizer, lambda x, y: checkpoint(loss, x, y, use_reentrant=False).backward())
    return model
