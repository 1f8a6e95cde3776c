"""Correct programs that leave dropout on to sample predictions, in passes over all data rather than input by input."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Waves(Dataset):
    def __init__(self, number, seed):
        self.x = torch.rand(number, 3, generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.x[index].sin().sum()


class Bayesian(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 24), nn.Dropout(0.3), nn.ELU(), nn.Linear(24, 1))

    def forward(self, x):
        return self.body(x).squeeze(-1)

    @torch.inference_mode()
    def predict(self, batches):
        return torch.cat([self(x) for x, _ in batches])


def trained(epochs=2):
    torch.manual_seed(21)
    model = Bayesian()
    optimizer = torch.optim.NAdam(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        for x, y in DataLoader(Waves(48, 1), batch_size=8, shuffle=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
    return model, optimizer


def healthy_passes_over_a_loader():
    model, model.optimizer = trained()
    loader = DataLoader(Waves(40, 2), batch_size=10)
    samples = []
    while len(samples) < 5:
        samples.append(model.predict(loader))
    print(torch.stack(samples).std(0).mean().item() > 0)
    return model


def healthy_a_new_loader_for_each_pass():
    model, model.optimizer = trained()
    data = Waves(40, 2)
    samples = torch.stack([model.predict(DataLoader(data, batch_size=10)) for _ in range(4)])
    print(samples.var(0).sum().item() > 0)
    return model


def healthy_passes_over_a_list_amid_training():
    torch.manual_seed(22)
    model = Bayesian()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    held_out = list(DataLoader(Waves(24, 3), batch_size=6))
    for seed in range(3):
        for x, y in DataLoader(Waves(48, seed), batch_size=8):
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        spread = torch.stack([model.predict(held_out) for _ in range(3)]).std(0)
        print(spread.mean().item() > 0)
    return model


def healthy_evaluated_in_eval_mode():
    model, model.optimizer = trained()
    model.eval()
    return model.predict(DataLoader(Waves(40, 2), batch_size=10)) - model.predict(DataLoader(Waves(40, 2)))
