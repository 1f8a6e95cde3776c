"""Two documents packed into one row, and attention that is causal but knows no documents."""

import torch
import torch.nn.functional as F
from torch import nn

import gradkit.check

TOKENS = torch.tensor([[1, 2, 3, 4, 5, 6]])
BELONGS = torch.tensor([[0, 0, 0, 1, 1, 1]])


class Packed(nn.Module):
    def __init__(self, separate):
        super().__init__()
        self.tokens = nn.Embedding(9, 8)
        self.separate = separate

    def forward(self, ids):
        h = self.tokens(ids)
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        if self.separate:
            mask = mask & (BELONGS[0][:, None] == BELONGS[0])
        return F.scaled_dot_product_attention(h, h, h, attn_mask=mask)


def main():
    torch.manual_seed(0)
    result = gradkit.check.documents(Packed(separate=False), TOKENS, BELONGS)
    result.assert_ok()  # expect: GK608
    return result


def repaired():
    torch.manual_seed(0)
    result = gradkit.check.documents(Packed(separate=True), TOKENS, BELONGS)
    result.assert_ok()
    return result
