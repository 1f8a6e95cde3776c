"""Dropout that `model.eval()` does not reach: functional, made in the forward, inside attention."""

import torch
from torch import nn
from torch.nn import functional


class Classifier(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(5, 16), nn.Linear(16, 2), drop

    def forward(self, x, **options):
        return self.last(self.drop(self.first(x).relu(), **options))


def fit(model, evaluate):
    """Epochs of training, each followed by an evaluation in eval mode."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(3):
        model.train()
        for _ in range(6):
            x = torch.randn(16, 5)
            optimizer.zero_grad()
            functional.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            evaluate(model)
    return model


def once_each(model):
    for _ in range(3):
        model(torch.randn(16, 5))


def faulty_always_on():
    def drop(hidden):
        return functional.dropout(hidden, 0.3)  # expect: GK205

    return fit(Classifier(drop), once_each)


def repaired_always_on():
    class Governed(Classifier):
        def forward(self, x):
            return self.last(functional.dropout(self.first(x).relu(), 0.3, self.training))

    return fit(Governed(None), once_each)


def faulty_layer_made_in_the_forward():
    class Made(Classifier):
        def forward(self, x):
            hidden = self.first(x).relu()
            hidden = nn.Dropout(0.3)(hidden)  # expect: GK205
            return self.last(hidden)

    return fit(Made(None), once_each)


def repaired_layer():
    return fit(Classifier(nn.Dropout(0.3)), once_each)


class Attention(nn.Module):
    def __init__(self, switched):
        super().__init__()
        self.project, self.last, self.switched = nn.Linear(5, 12), nn.Linear(4, 2), switched

    def forward(self, x):
        query, key, value = self.project(x)[:, None].chunk(3, -1)
        rate = 0.2 if self.training or not self.switched else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        return self.last(mixed[:, 0])


def faulty_attention():
    class Constant(Attention):
        def forward(self, x):
            query, key, value = self.project(x)[:, None].chunk(3, -1)
            mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=0.2)  # expect: GK205
            return self.last(mixed[:, 0])

    return fit(Constant(switched=False), once_each)


def repaired_attention():
    return fit(Attention(switched=True), once_each)


def healthy_asked_for_by_an_argument():
    def drop(hidden, sample=True):
        return functional.dropout(hidden, 0.3, training=sample)

    return fit(Classifier(drop), once_each)


def healthy_sampled_on_one_input():
    def drop(hidden):
        return functional.dropout(hidden, 0.3)

    def sample(model):
        x = torch.randn(16, 5)
        torch.stack([model(x) for _ in range(4)]).std(0)

    return fit(Classifier(drop), sample)


def healthy_other_noise():
    class Noisy(Classifier):
        def forward(self, x):
            hidden = self.first(x).relu()
            return self.last(hidden + 0.1 * torch.randn_like(hidden))

    return fit(Noisy(None), once_each)


def faulty_functional_in_train_mode():
    """The mode is followed, and nobody set it."""

    class Governed(Classifier):
        def forward(self, x):
            return self.last(functional.dropout(self.first(x).relu(), 0.3, self.training))

    def evaluate(model):
        model.train()
        for _ in range(3):
            model(torch.randn(16, 5))  # expect: GK205

    return fit(Governed(None), evaluate)


def healthy_asked_for_by_a_condition():
    class Sampling(Classifier):
        sampling = False

        def forward(self, x):
            hidden = self.first(x).relu()
            if self.training or self.sampling:
                hidden = functional.dropout(hidden, 0.3)
            return self.last(hidden)

    def sample(model):
        model.sampling = True
        once_each(model)
        model.sampling = False

    return fit(Sampling(None), sample)
