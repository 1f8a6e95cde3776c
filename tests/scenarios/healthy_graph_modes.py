"""Correct programs with unusual modes, or forwards that nobody back-propagates: GK201, GK204, GK205 stay silent."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def batches(count, size=8):
    return [(torch.randn(size, 6), torch.randint(3, (size,))) for _ in range(count)]


def step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def fit(model, optimizer, epochs=3, count=4, after=lambda: None):
    for _ in range(epochs):
        model.train()
        for x, y in batches(count):
            step(model, optimizer, x, y)
        after()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


def healthy_usual_evaluation():
    model = network(1)
    held_out = batches(3)

    def evaluate():
        model.eval()
        with torch.no_grad():
            print(f"{sum(F.cross_entropy(model(x), y) for x, y in held_out) / 3:.4f}")

    fit(model, sgd(model), after=evaluate)
    return model


def healthy_inference_mode_over_a_loader():
    model = network(2)
    loader = DataLoader(TensorDataset(torch.randn(12, 6)), batch_size=4)

    @torch.inference_mode()
    def evaluate():
        was = model.training
        model.eval()
        print(sum(model(x).argmax(1).sum().item() for (x,) in loader))
        model.train(was)

    fit(model, sgd(model), after=evaluate)
    return model


def healthy_frozen_batch_norm():
    """Statistics stay those of pretraining; the model is otherwise in train mode."""
    model = network(3)
    optimizer = sgd(model)
    for x, y in batches(6):
        model.train()
        model[1].eval()
        step(model, optimizer, x, y)
    return model


def healthy_linear_probe():
    backbone, head = network(4).eval().requires_grad_(False), nn.Linear(3, 2)
    model = nn.Sequential(backbone, head).eval()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for x, y in batches(6):
        step(model, optimizer, x, y % 2)
    return model


class LargeHead(nn.Module):
    """A small backbone, run as `run` says, and a head with most of the numbers."""

    def __init__(self, run):
        super().__init__()
        self.body, self.bn, self.run = nn.Sequential(*network(19)[:4]), nn.BatchNorm1d(8), run
        self.head = nn.Linear(8, 60)

    def forward(self, x):
        return self.head(self.run(lambda: self.bn(self.body(x))))


def last_layer_retrained(run):
    """Everything in eval mode; what is not trained is left out of the optimizer, but not frozen."""
    torch.manual_seed(20)
    model = LargeHead(run).eval()
    optimizer = sgd(model.head)
    for x, y in batches(8):
        step(model, optimizer, x, y)
        model.zero_grad()
    return model


def healthy_last_layer_retrained_without_gradients_below():
    return last_layer_retrained(torch.no_grad()(lambda features: features()))


def healthy_last_layer_retrained_on_detached_features():
    return last_layer_retrained(lambda features: features().detach())


def healthy_no_layer_depends_on_the_mode():
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)).eval()
    optimizer = sgd(model)
    for x, y in batches(6):
        step(model, optimizer, x, y)
    return model


def healthy_attack_in_eval_mode():
    """FGSM against a model being evaluated: gradients of inputs, no step."""
    model = network(6)

    def attack():
        model.eval()
        for x, y in batches(3):
            x.requires_grad_()
            F.cross_entropy(model(x), y).backward()
            bad = (x + 0.1 * x.grad.sign()).detach()
            with torch.no_grad():
                print(model(bad).argmax(1).eq(y).sum().item())
        model.zero_grad()

    fit(model, sgd(model), after=attack)
    return model


def healthy_adversarial_training():
    """The example is found in eval mode, the step is made in train mode."""
    model = network(7)
    optimizer = sgd(model)
    for x, y in batches(8):
        model.eval()
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        model.train()
        step(model, optimizer, (x + 0.1 * gradient.sign()).detach(), y)
    return model


def healthy_saliency():
    model = network(8)

    def explain():
        model.eval()
        for x, _ in batches(3):
            x.requires_grad_()
            model(x).max(1).values.sum().backward()
            print(f"{x.grad.abs().mean():.4f}")
        model.zero_grad()

    fit(model, sgd(model), after=explain)
    return model


def healthy_saliency_for_one_batch_in_a_recorded_pass():
    """Gradients are needed, so the whole pass records; the last batch is explained."""
    model = network(9)

    def explain():
        model.eval()
        outputs = [model(x.requires_grad_()) for x, _ in batches(3)]
        outputs[-1].sum().backward()
        model.zero_grad()

    fit(model, sgd(model), after=explain)
    return model


def healthy_monte_carlo_dropout():
    model = network(10)

    def uncertainty():
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        with torch.no_grad():
            for x, _ in batches(2):
                print(f"{torch.stack([model(x) for _ in range(4)]).std():.4f}")

    fit(model, sgd(model), after=uncertainty)
    return model


def healthy_monte_carlo_dropout_in_train_mode():
    torch.manual_seed(11)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    def uncertainty():
        model.train()
        with torch.no_grad():
            for x, _ in batches(3):
                print(f"{torch.stack([model(x) for _ in range(4)]).std():.4f}")

    fit(model, sgd(model), after=uncertainty)
    return model


def healthy_monte_carlo_dropout_over_slices():
    """Every pass cuts its batches out of the pool anew: other tensors, the same values."""
    model, pool = network(21), torch.randn(24, 6)

    def score():
        with torch.no_grad():
            for _ in range(3):
                print(f"{sum(model(x).softmax(1).amax().item() for x in pool.split(8)):.4f}")

    fit(model, sgd(model), epochs=4, after=score)
    return model


def healthy_stochastic_weight_averaging():
    model = network(12)
    averaged = AveragedModel(model)
    loader = DataLoader(TensorDataset(torch.randn(16, 6)), batch_size=4)
    fit(model, sgd(model), after=lambda: averaged.update_parameters(model))
    update_bn(loader, averaged)
    update_bn(loader, model)
    return averaged


def healthy_statistics_collected_anew():
    """Precise batch norm by hand: statistics reset, then averaged over a pass in train mode."""
    model = network(13)

    def collect():
        model.train()
        model[1].reset_running_stats()
        with torch.no_grad():
            for x, _ in batches(4):
                model(x)

    fit(model, sgd(model), after=collect)
    return model


def healthy_statistics_of_another_domain():
    """Calls in train mode whose results nobody takes: they are made for the statistics they leave behind."""
    model = network(18)
    fit(model, sgd(model), epochs=4)
    model.train()
    with torch.no_grad():
        for x, _ in batches(4):
            model(x + 1.0)
        for x, _ in batches(4):
            _ = model(x + 2.0)
    model.eval()
    with torch.no_grad():
        print(f"{sum(model(x + 1.0).mean().item() for x, _ in batches(3)):.4f}")
    return model


def healthy_average_of_weights_is_evaluated():
    """An exponential average runs in eval mode; swapped in and out by hand."""
    model = network(14)
    average = copy.deepcopy(model).requires_grad_(False)

    def evaluate():
        with torch.no_grad():
            for kept, moved in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(moved, 0.5)
        average.eval()
        print(f"{sum(F.cross_entropy(average(x), y) for x, y in batches(3)):.4f}")

    fit(model, sgd(model), after=evaluate)
    return [model, average]


def healthy_teacher_without_steps():
    """A teacher in eval mode whose gradients were left on is run twice per step and detached: never stepped."""
    model, teacher = network(15), network(16).eval()
    optimizer = sgd(model)
    for x, _ in batches(10):
        model.train()
        goal = (teacher(x) + teacher(x + 0.1)).detach() / 2
        optimizer.zero_grad()
        F.mse_loss(model(x), goal).backward()
        optimizer.step()
    return model


def healthy_guessed_labels():
    """MixMatch: labels are guessed from two views in train mode without gradients, in every step."""
    model = network(17)
    optimizer = sgd(model)
    for x, y in batches(16):
        model.train()
        with torch.no_grad():
            guess = (model(x + 0.1 * torch.randn_like(x)) + model(x + 0.1 * torch.randn_like(x))).softmax(1)
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) + F.mse_loss(model(x).softmax(1), guess)).backward()
        optimizer.step()
    return model


def healthy_two_generators_without_gradients():
    """Both networks have batch norm; each critic step draws two fakes in train mode, without gradients."""
    torch.manual_seed(18)
    generator = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    critic = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
    of_generator, of_critic = sgd(generator), sgd(critic)
    for index in range(24):
        with torch.no_grad():
            fakes = [generator(torch.randn(4, 2)), generator(torch.randn(4, 2))]
        of_critic.zero_grad()
        (critic(torch.cat(fakes)).mean() - critic(torch.randn(4, 3)).mean()).backward()
        of_critic.step()
        if index % 3 == 2:
            of_generator.zero_grad()
            (-critic(generator(torch.randn(4, 2))).mean()).backward()
            of_generator.step()
    return [generator, critic]


def healthy_folds():
    models = []
    for fold in range(3):
        model = network(20 + fold)
        fit(model, sgd(model), epochs=2)
        model.eval()
        with torch.no_grad():
            print(f"{sum(F.cross_entropy(model(x), y) for x, y in batches(3)):.4f}")
        models.append(model)
    return models


def healthy_early_stopping_with_restore():
    model = network(30)
    optimizer = sgd(model)
    best, kept, state = float("inf"), None, None
    for _ in range(5):
        model.train()
        for x, y in batches(3):
            step(model, optimizer, x, y)
        model.eval()
        with torch.no_grad():
            value = sum(F.cross_entropy(model(x), y) for x, y in batches(2)).item()
        if value < best:
            best, kept, state = value, copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    model.load_state_dict(kept)
    optimizer.load_state_dict(state)
    model.train()
    for x, y in batches(3):
        step(model, optimizer, x, y)
    return model


def healthy_features_extracted_in_eval_mode_and_used():
    """The graph of eval-mode forwards is used after the model went back to train mode."""
    model = network(31)
    optimizer = sgd(model)
    for x, y in batches(8):
        model.eval()
        calm = [model(x), model(x + 0.1)]
        model.train()
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) + sum(F.cross_entropy(out, y) for out in calm)).backward()
        optimizer.step()
    return model


def healthy_batches_passed_over():
    """Several batches in a row are left out because their loss is not finite."""
    torch.manual_seed(0)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(60):
        x = torch.randn(8, 5)
        if step % 20 in (3, 4, 5):
            x[0] = float("inf")
        loss = (model(x) - torch.ones(8, 1)).pow(2).mean()
        if not loss.isfinite():
            continue
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
