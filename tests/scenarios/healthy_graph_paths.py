"""Correct programs whose gradients stop somewhere on purpose, or reach only a part: GK203 stays silent."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

STEPS = 12


def run(parameters, loss_of, steps=STEPS, lr=0.05):
    optimizer = torch.optim.SGD(parameters, lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(step).backward()
        optimizer.step()


def mlp(*widths):
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def healthy_simsiam():
    torch.manual_seed(1)
    encoder, predictor = mlp(6, 8, 4), mlp(4, 4, 4)

    def loss_of(step):
        first, second = encoder(torch.randn(8, 6)), encoder(torch.randn(8, 6))
        one = F.cosine_similarity(predictor(first), second.detach()).mean()
        other = F.cosine_similarity(predictor(second), first.detach()).mean()
        return -(one + other) / 2

    run([*encoder.parameters(), *predictor.parameters()], loss_of)
    return [encoder, predictor]


def healthy_byol():
    """The target is an average of the online network, never stepped, and runs without gradients."""
    torch.manual_seed(2)
    online, target, predictor = mlp(6, 8, 4), mlp(6, 8, 4), mlp(4, 4)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.SGD([*online.parameters(), *predictor.parameters()], lr=0.05)
    for _ in range(STEPS):
        x = torch.randn(8, 6)
        with torch.no_grad():
            goal = target(x + 0.1)
        optimizer.zero_grad()
        F.mse_loss(predictor(online(x)), goal).backward()
        optimizer.step()
        with torch.no_grad():
            for kept, moved in zip(target.parameters(), online.parameters(), strict=True):
                kept.lerp_(moved, 0.1)
    return [online, target]


def healthy_vq_vae():
    """Straight-through: the code replaces the value, the gradient passes by."""
    torch.manual_seed(3)
    encoder, decoder, codes = nn.Linear(6, 4), nn.Linear(4, 6), nn.Embedding(8, 4)

    def loss_of(step):
        x = torch.randn(8, 6)
        z = encoder(x)
        nearest = torch.cdist(z.detach(), codes.weight.detach()).argmin(1)
        quantized = codes(nearest)
        through = z + (quantized - z).detach()
        return F.mse_loss(decoder(through), x) + F.mse_loss(quantized, z.detach()) + F.mse_loss(z, quantized.detach())

    run([*encoder.parameters(), *decoder.parameters(), *codes.parameters()], loss_of)
    return [encoder, decoder, codes]


def healthy_gumbel_softmax():
    torch.manual_seed(4)
    logits, values = nn.Linear(6, 5), nn.Linear(5, 1)
    run(
        [*logits.parameters(), *values.parameters()],
        lambda step: values(F.gumbel_softmax(logits(torch.randn(8, 6)), hard=True)).pow(2).mean(),
    )
    return [logits, values]


def healthy_mixture_of_experts():
    """The router picks by argmax, weighs by softmax; an expert nobody picks gets no gradient."""
    torch.manual_seed(5)
    router = nn.Linear(6, 4)
    experts = nn.ModuleList(nn.Linear(6, 1) for _ in range(4))
    with torch.no_grad():
        router.bias[3] = -100.0

    def loss_of(step):
        x = torch.randn(8, 6)
        weights = router(x).softmax(1)
        picked = weights.argmax(1)
        out = x.new_zeros(8, 1)
        for index, expert in enumerate(experts):
            rows = (picked == index).nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]) * weights[rows, index : index + 1])
        return (out - 1).pow(2).mean()

    run([*router.parameters(), *experts.parameters()], loss_of)
    return [router, experts]


def healthy_idle_heads():
    """A head of another task is never called; one is called and its output not used."""
    torch.manual_seed(6)
    trunk, used, idle, unused = mlp(6, 8, 8), nn.Linear(8, 1), nn.Linear(8, 2), nn.Linear(8, 3)

    def loss_of(step):
        hidden = trunk(torch.randn(8, 6))
        unused(hidden)
        return used(hidden).pow(2).mean()

    run([p for part in (trunk, used, idle, unused) for p in part.parameters()], loss_of)
    return [trunk, used, idle, unused]


def healthy_metrics_are_numbers():
    """Outputs are turned into numbers, arrays and classes for a log beside the loss."""
    torch.manual_seed(7)
    model = mlp(6, 8, 3)
    seen = []

    def loss_of(step):
        out = model(torch.randn(8, 6))
        seen.append((out.argmax(1).sum().item(), float(out.detach().numpy().mean()), out.max().item()))
        return F.cross_entropy(out, torch.randint(3, (8,)))

    run(model.parameters(), loss_of)
    print(seen[0])
    return model


def healthy_auxiliary_head_for_the_log_only():
    """A probe on detached features has its own optimizer; the features have the loss of the main head."""
    torch.manual_seed(8)
    trunk, head, probe = mlp(6, 8, 8), nn.Linear(8, 1), nn.Linear(8, 2)
    main = torch.optim.SGD([*trunk.parameters(), *head.parameters()], lr=0.05)
    side = torch.optim.SGD(probe.parameters(), lr=0.05)
    for _ in range(STEPS):
        hidden = trunk(torch.randn(8, 6))
        main.zero_grad()
        head(hidden).pow(2).mean().backward()
        main.step()
        side.zero_grad()
        F.cross_entropy(probe(hidden.detach()), torch.randint(2, (8,))).backward()
        side.step()
    return [trunk, head, probe]


def healthy_deep_supervision():
    torch.manual_seed(9)
    blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
    heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(3))

    def loss_of(step):
        hidden, total = torch.randn(8, 6), 0.0
        for index, (block, head) in enumerate(zip(blocks, heads, strict=True)):
            hidden = torch.tanh(block(hidden if index == 0 else hidden.detach()))
            total = total + head(hidden).pow(2).mean()
        return total

    run([*blocks.parameters(), *heads.parameters()], loss_of)
    return [blocks, heads]


def healthy_frozen_backbone():
    torch.manual_seed(10)
    backbone, head = mlp(6, 8, 8), nn.Linear(8, 1)
    backbone.requires_grad_(False)
    run(head.parameters(), lambda step: head(backbone(torch.randn(8, 6))).pow(2).mean())
    return [backbone, head]


def healthy_frozen_backbone_held_by_the_optimizer():
    torch.manual_seed(11)
    backbone, head = mlp(6, 8, 8), nn.Linear(8, 1)
    backbone.requires_grad_(False)
    run(
        [*backbone.parameters(), *head.parameters()],
        lambda step: head(backbone(torch.randn(8, 6))).pow(2).mean(),
    )
    return [backbone, head]


def healthy_gradual_unfreezing():
    torch.manual_seed(12)
    backbone, head = mlp(6, 8, 8), nn.Linear(8, 1)
    backbone.requires_grad_(False)
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.05)
    for step in range(STEPS + 8):
        if step == 8:
            backbone[2].requires_grad_(True)
        if step == 14:
            backbone.requires_grad_(True)
        optimizer.zero_grad()
        head(backbone(torch.randn(8, 6))).pow(2).mean().backward()
        optimizer.step()
    return [backbone, head]


class Adapted(nn.Module):
    """A linear layer with a low-rank update; the base is frozen."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(2, base.in_features) * 0.1)
        self.up = nn.Parameter(torch.zeros(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T


def healthy_low_rank_adaptation():
    torch.manual_seed(13)
    model = nn.Sequential(Adapted(nn.Linear(6, 8)), nn.Tanh(), Adapted(nn.Linear(8, 1)))
    run([p for p in model.parameters() if p.requires_grad], lambda step: model(torch.randn(8, 6)).pow(2).mean())
    return model


def healthy_prompt_tuning():
    torch.manual_seed(14)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 1)).requires_grad_(False).eval()
    prompt = nn.Parameter(torch.zeros(6))
    run([prompt], lambda step: (model(torch.randn(8, 6) + prompt) - 1).pow(2).mean())
    return prompt


def healthy_weight_tying():
    torch.manual_seed(15)
    embedding, body = nn.Embedding(10, 6), nn.Linear(6, 6)
    decoder = nn.Linear(6, 10, bias=False)
    decoder.weight = embedding.weight

    def loss_of(step):
        tokens = torch.randint(10, (8,))
        return F.cross_entropy(decoder(torch.tanh(body(embedding(tokens)))), tokens)

    run([*embedding.parameters(), *body.parameters()], loss_of)
    return [embedding, body]


def healthy_attention():
    """The output projection's weight is used without its module's own forward."""
    torch.manual_seed(16)
    attention, head = nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.1), nn.Linear(8, 1)

    def loss_of(step):
        x = torch.randn(4, 5, 8)
        out, _ = attention(x, x, x, need_weights=False)
        return head(out).pow(2).mean()

    run([*attention.parameters(), *head.parameters()], loss_of)
    return [attention, head]


def healthy_functional_call():
    torch.manual_seed(17)
    model = mlp(6, 8, 1)
    parameters = {name: nn.Parameter(value.detach().clone()) for name, value in model.named_parameters()}
    run(
        parameters.values(),
        lambda step: torch.func.functional_call(model, parameters, (torch.randn(8, 6),)).pow(2).mean(),
    )
    return list(parameters.values())


def healthy_max_norm_embedding():
    """The embedding rewrites its weight inside its forward."""
    torch.manual_seed(19)
    embedding, head = nn.Embedding(10, 6, max_norm=1.0), nn.Linear(6, 1)
    run(
        [*embedding.parameters(), *head.parameters()],
        lambda step: head(embedding(torch.randint(10, (8,)))).pow(2).mean(),
    )
    return [embedding, head]


class Scaled(torch.autograd.Function):
    """A custom function whose forward runs without gradients and whose backward returns them."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient * weight, (gradient * x).sum(0)


def healthy_custom_function():
    torch.manual_seed(20)
    layer, weight = nn.Linear(6, 4), nn.Parameter(torch.ones(4))
    run([*layer.parameters(), weight], lambda step: Scaled.apply(layer(torch.randn(8, 6)), weight).pow(2).mean())
    return [layer, weight]


def healthy_reinforce():
    """Actions are sampled, turned into numbers and come back only through the log-probability."""
    torch.manual_seed(21)
    policy, critic = mlp(6, 8, 3), mlp(6, 8, 1)

    def loss_of(step):
        x = torch.randn(8, 6)
        chosen = torch.distributions.Categorical(logits=policy(x))
        action = chosen.sample()
        reward = torch.tensor([float(a == 0) for a in action.tolist()])
        value = critic(x).squeeze(1)
        return -(chosen.log_prob(action) * (reward - value.detach())).mean() + F.mse_loss(value, reward)

    run([*policy.parameters(), *critic.parameters()], loss_of)
    return [policy, critic]


def healthy_discriminator_step_detaches_the_generator():
    """One optimizer over both networks: each is trained by its own loss, the other's output is detached."""
    torch.manual_seed(22)
    generator, critic = mlp(2, 6, 3), mlp(3, 6, 1)
    of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for _ in range(STEPS):
        with torch.no_grad():
            fake = generator(torch.randn(4, 2))
        of_critic.zero_grad()
        (critic(fake).mean() - critic(torch.randn(4, 3)).mean()).backward()
        of_critic.step()
        of_generator.zero_grad()
        (-critic(generator(torch.randn(4, 2))).mean()).backward()
        of_generator.step()
    return [generator, critic]


class Agent(nn.Module):
    """Policy and target network in one module, so that the optimizer holds both; the target is copied now and then."""

    def __init__(self):
        super().__init__()
        self.policy = mlp(6, 16, 3)
        self.target = mlp(6, 16, 3)
        self.target.load_state_dict(self.policy.state_dict())


def healthy_target_network_held_by_the_optimizer():
    torch.manual_seed(23)
    agent = Agent()

    def loss_of(step):
        if step % 100 == 99:
            agent.target.load_state_dict(agent.policy.state_dict())
        x, following = torch.randn(8, 6), torch.randn(8, 6)
        with torch.no_grad():
            goal = 0.9 * agent.target(following).max(1).values
        return F.mse_loss(agent.policy(x).max(1).values, goal)

    run(agent.parameters(), loss_of, steps=20)
    return agent


def healthy_average_held_by_the_optimizer():
    """The average's first bias stands before a batch norm, so that it alone never moves."""
    torch.manual_seed(24)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    average = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD([*model.parameters(), *average.parameters()], lr=0.1)
    for _ in range(STEPS):
        x = torch.randn(8, 6)
        with torch.no_grad():
            goal = average(x)
        optimizer.zero_grad()
        F.mse_loss(model(x + 0.1), goal).backward()
        optimizer.step()
        with torch.no_grad():
            for kept, moved in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(moved, 0.05)
    return [model, average]
