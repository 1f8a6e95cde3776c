"""A document of a packed or padded batch sees no other one and no padding; right models are not blamed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradkit.check import CheckInputError, documents

TOKENS = torch.tensor([[1, 2, 3, 4, 5, 6, 0, 0], [3, 1, 4, 1, 5, 2, 6, 5]])
BELONGS = torch.tensor([[0, 0, 0, 1, 1, 1, -1, -1], [0, 0, 1, 1, 1, 2, 2, 2]])


class Attention(nn.Module):
    """Attention over embedded tokens under one of several masks; it reads from the tokens where padding is."""

    def __init__(self, mask, *, pooled=False):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.out = nn.Embedding(9, 8, padding_idx=0), nn.Linear(8, 8)
        self.mask, self.pooled = mask, pooled

    def forward(self, ids):
        h = self.tokens(ids)
        length = ids.shape[1]
        allowed = torch.ones(len(ids), length, length, dtype=torch.bool)
        if self.mask == "causal":
            allowed = allowed.tril()
        if self.mask in ("documents", "both"):
            allowed = BELONGS[:, :, None] == BELONGS[:, None, :]
        if self.mask == "padding":
            allowed = allowed & (ids != 0)[:, None, :]
        if self.mask == "both":
            allowed = allowed.tril()
        h = self.out(F.scaled_dot_product_attention(h, h, h, attn_mask=allowed))
        return h - h.mean(1, keepdim=True) if self.pooled else h


@pytest.mark.parametrize("mask", ["documents", "both"])
def test_masked_documents_see_nothing_else(mask):
    result = documents(Attention(mask), TOKENS, BELONGS)
    result.assert_ok()
    assert {line.subject for line in result} >= {"padding", "all but document 2 of row 1"}


@pytest.mark.parametrize("model", [Attention("none"), Attention("causal"), Attention("documents", pooled=True)])
def test_what_mixes_documents_is_found(model):
    result = documents(model, TOKENS, BELONGS)
    assert result.verdict == "fail"
    assert [each.rule for each in result.findings] == ["GK608"]
    # The first document of a row comes before the others: a causal mask is enough for it.
    first = next(line for line in result if line.subject == "all but document 0 of row 0")
    assert first.verdict == ("pass" if model.mask == "causal" else "fail")


@pytest.mark.parametrize(("mask", "verdict"), [("padding", "pass"), ("causal", "pass"), ("none", "fail")])
def test_padding_is_told_by_a_mask_and_embeddings_are_changed_instead_of_identities(mask, verdict):
    real = TOKENS[:1] != 0
    assert documents(Attention(mask), TOKENS[:1], real).verdict == verdict


def test_features_are_changed_where_they_come_in():
    belongs = torch.tensor([[0, 0, 1, 1, 1]])
    features = torch.randn(1, 5, 4)
    documents(nn.Linear(4, 3), features, belongs).assert_ok()

    class Cumulative(nn.Module):
        def forward(self, x):
            return x.cumsum(1)

    result = documents(Cumulative(), features, belongs)
    assert [line.verdict for line in result] == ["pass", "fail"]


def test_named_integers_are_changed_themselves():
    class Counted(nn.Module):
        def forward(self, ids, kept):
            return F.one_hot(ids, 9).float() + (ids * kept).sum(1, keepdim=True)[..., None]

    inputs = {"ids": TOKENS, "kept": torch.ones_like(TOKENS)}
    with pytest.raises(CheckInputError, match="content="):
        documents(Counted(), inputs, BELONGS)
    assert documents(Counted(), inputs, BELONGS, content=("ids",)).verdict == "fail"
    with pytest.raises(CheckInputError, match="no input 'idz'; those of this shape: ids, kept"):
        documents(Counted(), inputs, BELONGS, content=("idz",))


def test_the_model_and_its_inputs_stay_as_they_are():
    model, tokens = Attention("both").train(), TOKENS.clone()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    documents(model, tokens, BELONGS)
    assert torch.equal(tokens, TOKENS)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert not model.tokens._forward_hooks


@pytest.mark.parametrize(
    ("belongs", "message"),
    [
        (torch.zeros(2, 8, dtype=torch.long), "nothing that must not be seen"),
        (torch.zeros(2, 8), "expected whole numbers"),
        (torch.zeros(2, 5, dtype=torch.long) - torch.tensor([0, 0, 0, 0, 1]), "in front"),
    ],
)
def test_what_cannot_be_compared_is_said(belongs, message):
    with pytest.raises(CheckInputError, match=message):
        documents(Attention("both"), TOKENS, belongs)
