"""A trainer that sets its learning rates itself: the encoder waits at 0 for its turn, which may never come."""

import torch
from torch import nn


class TwoSpeeds:
    def __init__(self, joins_in_epoch):
        torch.manual_seed(9)
        self.joins_in_epoch = joins_in_epoch
        self.encoder, self.decoder = nn.Linear(8, 5), nn.Linear(5, 8)
        self.of_encoder = torch.optim.SGD(self.encoder.parameters(), lr=0.0, momentum=0.5)
        self.of_decoder = torch.optim.Adam(self.decoder.parameters(), lr=5e-3)

    def begin_epoch(self, epoch):
        rate = 0.05 if epoch >= self.joins_in_epoch else 0.0
        for group in self.of_encoder.param_groups:
            group["lr"] = rate

    def step(self, x):
        for optimizer in (self.of_encoder, self.of_decoder):
            optimizer.zero_grad()
        loss = nn.functional.smooth_l1_loss(self.decoder(torch.tanh(self.encoder(x))), x)
        loss.backward()
        self.of_decoder.step()
        self.of_encoder.step()  # expect: GK403
        return loss.item()

    def fit(self, epochs=4):
        for epoch in range(epochs):
            self.begin_epoch(epoch)
            for _ in range(15):
                last = self.step(torch.randn(9, 8))
            print(f"epoch {epoch}: {last:.4f}")
        return [self.encoder, self.decoder]


def main():
    return TwoSpeeds(joins_in_epoch=4).fit()


def repaired():
    return TwoSpeeds(joins_in_epoch=2).fit()


def repaired_and_freed_before_the_end():
    return [TwoSpeeds(joins_in_epoch=3).fit()[1] for _ in range(2)]
