"""Logistic regression on points in a plane; one line of every training loop is missing."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 2)
y = (x.sum(dim=1, keepdim=True) > 0).float()
model = nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(5):
    loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
    loss.backward()
    optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
