"""A language model on sequences of all lengths: each loss is a mean over the targets that are no padding."""

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

WINDOW, PADDING = 4, -100


def collate(sequences):
    tokens = pad_sequence(sequences, batch_first=True, padding_value=0)
    targets = pad_sequence([sequence[1:] for sequence in sequences], batch_first=True, padding_value=PADDING)
    return tokens[:, :-1], targets


def train(by_tokens):
    torch.manual_seed(4)
    sequences = [torch.randint(1, 20, (int(length),)) for length in torch.randint(3, 24, (96,))]
    loader = DataLoader(sequences, batch_size=3, collate_fn=collate)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    window = []
    for batch in loader:
        window.append(batch)
        if len(window) < WINDOW:
            continue
        count = sum(int((targets != PADDING).sum()) for _, targets in window)
        for tokens, targets in window:
            logits = model(tokens).flatten(0, 1)
            if by_tokens:
                loss = nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum") / count
            else:
                loss = nn.functional.cross_entropy(logits, targets.flatten()) / WINDOW
            loss.backward()  # expect: GK105
        optimizer.step()
        optimizer.zero_grad()
        window = []
    return model


def main():
    return train(by_tokens=False)


def repaired():
    return train(by_tokens=True)
