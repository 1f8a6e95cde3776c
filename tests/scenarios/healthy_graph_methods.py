"""Methods of training as papers and users write them, all correct: every rule stays silent."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


def trained(names):
    """The modules and parameters among the local variables of a program."""
    return [value for value in names.values() if isinstance(value, (nn.Module, nn.Parameter))]


def net(d=6, o=3):
    return nn.Sequential(nn.Linear(d, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, o))


def healthy_ppo():
    torch.manual_seed(0)
    pol = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    val = nn.Linear(4, 1)
    o = torch.optim.Adam([*pol.parameters(), *val.parameters()], lr=1e-3)
    for _ in range(6):
        obs = []
        acts = []
        lps = []
        with torch.no_grad():
            x = torch.randn(4)
            for _ in range(8):
                d = torch.distributions.Categorical(logits=pol(x))
                a = d.sample()
                obs.append(x)
                acts.append(a)
                lps.append(d.log_prob(a))
                x = torch.from_numpy(x.numpy() * 0.9)
                val(x)
        obs = torch.stack(obs)
        acts = torch.stack(acts)
        lps = torch.stack(lps)
        for _ in range(4):
            d = torch.distributions.Categorical(logits=pol(obs))
            r = (d.log_prob(acts) - lps).exp()
            loss = -r.mean() + val(obs).pow(2).mean()
            o.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(pol.parameters(), 0.5)
            o.step()
    return trained(locals())


def healthy_lbfgs():
    torch.manual_seed(1)
    m = net()
    m.eval()
    x = torch.randn(16, 6)
    y = torch.randint(3, (16,))
    m = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    o = torch.optim.LBFGS(m.parameters(), lr=0.5, line_search_fn="strong_wolfe")

    def c():
        o.zero_grad()
        loss = F.cross_entropy(m(x), y)
        loss.backward()
        return loss

    for _ in range(12):
        o.step(c)
    return trained(locals())


def healthy_armijo():
    torch.manual_seed(2)
    m = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    x = torch.randn(16, 6)
    y = torch.randint(3, (16,))
    for _ in range(15):
        o.zero_grad()
        loss = F.cross_entropy(m(x), y)
        loss.backward()
        for _ in range(3):
            F.cross_entropy(m(x), y).item()
        o.step()
    return trained(locals())


def healthy_gradcache():
    torch.manual_seed(3)
    m = net()
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    for _ in range(12):
        ch = [torch.randn(4, 6) for _ in range(3)]
        with torch.no_grad():
            reps = [m(c) for c in ch]
        o.zero_grad()
        for c, r in zip(ch, reps, strict=True):
            (m(c) * r).mean().backward()
        o.step()
    return trained(locals())


def healthy_seq_generate_eval():
    torch.manual_seed(4)
    m = nn.Sequential(nn.Embedding(10, 8), nn.Dropout(0.1), nn.Linear(8, 10))
    o = torch.optim.AdamW(m.parameters())
    for s in range(20):
        x = torch.randint(10, (4, 5))
        loss = F.cross_entropy(m(x).flatten(0, 1), x.flatten())
        o.zero_grad()
        loss.backward()
        o.step()
        if s % 5 == 4:
            m.eval()
            with torch.inference_mode():
                t = torch.zeros(1, 1, dtype=torch.long)
                for _ in range(6):
                    t = torch.cat([t, m(t)[:, -1:].argmax(-1)], 1)
            m.train()
    return trained(locals())


def healthy_distill():
    torch.manual_seed(5)
    t = net()
    s = net()
    o = torch.optim.SGD([*s.parameters()], lr=0.1)
    t.eval()
    for _ in range(12):
        x = torch.randn(8, 6)
        loss = F.kl_div(s(x).log_softmax(1), t(x).softmax(1).detach(), reduction="batchmean")
        o.zero_grad()
        loss.backward()
        o.step()
    return trained(locals())


def healthy_two_stage():
    torch.manual_seed(6)
    enc = nn.Linear(6, 8)
    dec = nn.Linear(8, 6)
    clf = nn.Linear(8, 3)
    o1 = torch.optim.Adam([*enc.parameters(), *dec.parameters()])
    o2 = torch.optim.Adam(clf.parameters())
    for _ in range(10):
        x = torch.randn(8, 6)
        loss = F.mse_loss(dec(enc(x)), x)
        o1.zero_grad()
        loss.backward()
        o1.step()
    feats = []
    enc.eval()
    with torch.no_grad():
        for _ in range(5):
            feats.append(enc(torch.randn(8, 6)))
    for _ in range(3):
        for f in feats:
            loss = F.cross_entropy(clf(f), torch.randint(3, (8,)))
            o2.zero_grad()
            loss.backward()
            o2.step()
    return trained(locals())


def healthy_ae_recon_eval_every_step():
    torch.manual_seed(7)
    m = net(6, 6)
    o = torch.optim.SGD(m.parameters(), lr=0.05)
    v = [torch.randn(8, 6) for _ in range(3)]
    for _ in range(15):
        m.train()
        x = torch.randn(8, 6)
        loss = F.mse_loss(m(x), x)
        o.zero_grad()
        loss.backward()
        o.step()
        m.eval()
        with torch.no_grad():
            [m(z) for z in v]
    return trained(locals())


def healthy_per_sample():
    torch.manual_seed(8)
    m = nn.Linear(6, 3)
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    for _ in range(10):
        x = torch.randn(8, 6)
        y = torch.randint(3, (8,))

        def loss_of(p, a, b):
            return F.cross_entropy(torch.func.functional_call(m, p, (a[None],)), b[None])

        parameters = {k: p.detach() for k, p in m.named_parameters()}
        g = torch.func.vmap(torch.func.grad(loss_of), (None, 0, 0))(parameters, x, y)
        for k, p in m.named_parameters():
            p.grad = g[k].mean(0)
        o.step()
    return trained(locals())


def healthy_ema_in_optimizer_list():
    torch.manual_seed(9)
    m = net()
    e = copy.deepcopy(m)
    o = torch.optim.SGD([*m.parameters(), *e.parameters()], lr=0.1)
    for _ in range(12):
        x = torch.randn(8, 6)
        with torch.no_grad():
            t = e(x)
        loss = F.mse_loss(m(x), t)
        o.zero_grad()
        loss.backward()
        o.step()
        with torch.no_grad():
            for a, b in zip(e.parameters(), m.parameters(), strict=True):
                a.lerp_(b, 0.05)
    return trained(locals())


def healthy_rnn_stateful():
    torch.manual_seed(10)
    r = nn.LSTM(3, 4, batch_first=True, dropout=0.1, num_layers=2)
    h = nn.Linear(4, 1)
    o = torch.optim.Adam([*r.parameters(), *h.parameters()])
    s = None
    for _ in range(20):
        y, s = r(torch.randn(2, 5, 3), s)
        loss = h(y).pow(2).mean()
        o.zero_grad()
        loss.backward()
        o.step()
        s = tuple(i.detach() for i in s)
    return trained(locals())


def healthy_ddp_like_hooks():
    torch.manual_seed(11)
    m = net()
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    seen = []
    hs = [loss.register_forward_hook(lambda mod, i, out: seen.append(out.detach())) for loss in m]
    for _ in range(12):
        loss = m(torch.randn(8, 6)).pow(2).mean()
        o.zero_grad()
        loss.backward()
        o.step()
    return trained(locals())


def healthy_keep_features_eval():
    torch.manual_seed(12)
    m = net()
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    bank = []
    for _ in range(20):
        x = torch.randn(8, 6)
        z = m(x)
        loss = z.pow(2).mean()
        if bank:
            loss = loss + F.mse_loss(z, bank[-1])
        o.zero_grad()
        loss.backward()
        o.step()
        bank.append(z.detach())
    return trained(locals())


def healthy_detr_aux():
    torch.manual_seed(13)
    enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    h = nn.Linear(8, 2)
    o = torch.optim.AdamW([*enc.parameters(), *h.parameters()])
    for _ in range(10):
        x = torch.randn(2, 5, 8)
        y = enc(x)
        loss = sum(h(y[:, i]).pow(2).mean() for i in range(3))
        o.zero_grad()
        loss.backward()
        o.step()
    enc.eval()
    with torch.no_grad():
        [h(enc(torch.randn(2, 5, 8))) for _ in range(3)]
    return trained(locals())


def healthy_cls_token_unused_pos():
    torch.manual_seed(14)
    pos = nn.Parameter(torch.zeros(10, 8))
    cls = nn.Parameter(torch.zeros(8))
    scale = nn.Parameter(torch.ones(()))
    l1 = nn.Linear(8, 2)
    o = torch.optim.SGD([pos, cls, scale, *l1.parameters()], lr=0.1)
    for _ in range(10):
        x = torch.randn(4, 10, 8) + pos
        o.zero_grad()
        l1(x.mean(1)).pow(2).mean().backward()
        o.step()
    return trained(locals())


def healthy_memory_bank():
    torch.manual_seed(15)
    e = nn.Linear(6, 8)
    bank = torch.randn(20, 8)
    o = torch.optim.SGD(e.parameters(), lr=0.1)
    for i in range(12):
        z = F.normalize(e(torch.randn(4, 6)), dim=1)
        loss = F.cross_entropy(z @ bank.T, torch.arange(4))
        o.zero_grad()
        loss.backward()
        o.step()
        with torch.no_grad():
            bank[(4 * i) % 20 : (4 * i) % 20 + 4] = z
    return trained(locals())


def healthy_sinkhorn_swav():
    torch.manual_seed(16)
    e = nn.Linear(6, 8)
    p = nn.Linear(8, 5, bias=False)
    o = torch.optim.SGD([*e.parameters(), *p.parameters()], lr=0.1)
    for _ in range(12):
        with torch.no_grad():
            w = p.weight.data.clone()
            w = F.normalize(w, dim=1)
            p.weight.copy_(w)
        a = p(e(torch.randn(4, 6)))
        b = p(e(torch.randn(4, 6)))
        with torch.no_grad():
            q = a.exp().softmax(0)
        loss = -(q * b.log_softmax(1)).sum(1).mean()
        o.zero_grad()
        loss.backward()
        o.step()
    return trained(locals())


def healthy_quant_aware():
    torch.manual_seed(17)

    class Q(nn.Module):
        def __init__(s):
            super().__init__()
            s.linear = nn.Linear(6, 4)
            s.scale = nn.Parameter(torch.tensor(0.1))

        def forward(s, x):
            w = s.linear.weight
            q = (w / s.scale).round().clamp(-8, 7)
            w = w + (q * s.scale - w).detach()
            return F.linear(x, w, s.linear.bias) * (1 + 0 * s.scale)

    m = Q()
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    for _ in range(12):
        o.zero_grad()
        m(torch.randn(4, 6)).pow(2).mean().backward()
        o.step()
    return trained(locals())


def healthy_straight_obs():
    torch.manual_seed(18)

    class Q(nn.Module):
        def __init__(s):
            super().__init__()
            s.linear = nn.Linear(6, 4)
            s.register_buffer("mn", torch.zeros(4))

        def forward(s, x):
            y = s.linear(x)
            with torch.no_grad():
                s.mn.mul_(0.9).add_(y.mean(0) * 0.1)
            return y - s.mn

    m = Q()
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    for _ in range(12):
        o.zero_grad()
        m(torch.randn(4, 6)).pow(2).mean().backward()
        o.step()
    return trained(locals())


def healthy_dann():
    torch.manual_seed(19)

    class R(torch.autograd.Function):
        @staticmethod
        def forward(c, x):
            return x.view_as(x)

        @staticmethod
        def backward(c, g):
            return -g

    f = nn.Linear(6, 8)
    d = nn.Linear(8, 2)
    c = nn.Linear(8, 3)
    o = torch.optim.SGD([*f.parameters(), *d.parameters(), *c.parameters()], lr=0.1)
    for _ in range(12):
        z = f(torch.randn(8, 6))
        loss = F.cross_entropy(c(z), torch.randint(3, (8,))) + F.cross_entropy(d(R.apply(z)), torch.randint(2, (8,)))
        o.zero_grad()
        loss.backward()
        o.step()
    return trained(locals())


def healthy_sparse_emb():
    torch.manual_seed(20)
    e = nn.EmbeddingBag(20, 6, sparse=True)
    h = nn.Linear(6, 2)
    o = torch.optim.SGD([*e.parameters(), *h.parameters()], lr=0.1)
    for _ in range(12):
        o.zero_grad()
        h(e(torch.randint(20, (4, 3)))).pow(2).mean().backward()
        o.step()
    return trained(locals())


def healthy_amp_bf16():
    torch.manual_seed(21)
    m = net()
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(m(torch.randn(8, 6)), torch.randint(3, (8,)))
        o.zero_grad()
        loss.backward()
        o.step()
    m.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        [m(torch.randn(8, 6)) for _ in range(3)]
    return trained(locals())


def healthy_pcgrad():
    torch.manual_seed(22)
    m = nn.Linear(6, 8)
    hs = [nn.Linear(8, 1) for _ in range(3)]
    o = torch.optim.SGD([*m.parameters(), *(p for h in hs for p in h.parameters())], lr=0.1)
    for _ in range(12):
        z = m(torch.randn(8, 6))
        gs = [torch.autograd.grad(h(z).pow(2).mean(), list(m.parameters()), retain_graph=True) for h in hs]
        o.zero_grad()
        sum(h(z).pow(2).mean() for h in hs).backward()
        for p, *g in zip(m.parameters(), *gs, strict=True):
            p.grad = sum(g)
        o.step()
    return trained(locals())


def healthy_reptile():
    torch.manual_seed(23)
    m = nn.Linear(6, 1)
    for _ in range(6):
        f = copy.deepcopy(m)
        o = torch.optim.SGD(f.parameters(), lr=0.1)
        for _ in range(5):
            o.zero_grad()
            f(torch.randn(8, 6)).pow(2).mean().backward()
            o.step()
        with torch.no_grad():
            for a, b in zip(m.parameters(), f.parameters(), strict=True):
                a.lerp_(b, 0.1)
    return trained(locals())


def healthy_losses_list_per_epoch():
    torch.manual_seed(24)
    m = nn.Linear(6, 1)
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    for _ in range(4):
        ls = []
        for _ in range(4):
            loss = m(torch.randn(8, 6)).pow(2).mean()
            o.zero_grad()
            loss.backward()
            o.step()
            ls.append(loss)
        torch.stack(ls).mean().item()
    return trained(locals())


def healthy_dqn():
    torch.manual_seed(25)
    q = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    t = copy.deepcopy(q)
    o = torch.optim.Adam(q.parameters())
    buf = []
    s = torch.randn(4)
    for i in range(40):
        with torch.no_grad():
            a = q(s).argmax().item()
        n = torch.randn(4)
        buf.append((s, a, n))
        s = n
        if len(buf) >= 8:
            S = torch.stack([b[0] for b in buf[-8:]])
            A = torch.tensor([b[1] for b in buf[-8:]])
            N = torch.stack([b[2] for b in buf[-8:]])
            with torch.no_grad():
                y = 0.9 * t(N).max(1).values
            loss = F.mse_loss(q(S).gather(1, A[:, None]).squeeze(1), y)
            o.zero_grad()
            loss.backward()
            o.step()
        if i % 10 == 0:
            t.load_state_dict(q.state_dict())
    return trained(locals())


def healthy_ssl_dropout_twice():
    torch.manual_seed(26)
    m = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1), nn.Linear(8, 4))
    o = torch.optim.Adam(m.parameters())
    for _ in range(10):
        x = torch.randn(8, 6)
        a, b = m(x), m(x)
        loss = F.cross_entropy(F.normalize(a) @ F.normalize(b).T, torch.arange(8))
        o.zero_grad()
        loss.backward()
        o.step()
    return trained(locals())


def healthy_activation_stats_from_hooks():
    torch.manual_seed(27)
    m = net()
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    st = {}
    h = m[0].register_forward_hook(lambda mod, i, out: st.__setitem__("x", out))
    for _ in range(14):
        o.zero_grad()
        (m(torch.randn(8, 6)).pow(2).mean() + st["x"].abs().mean()).backward()
        o.step()
    return trained(locals())


def healthy_fed():
    torch.manual_seed(28)
    g = net()
    for _ in range(3):
        cs = []
        for _ in range(2):
            m = copy.deepcopy(g).train()
            o = torch.optim.SGD(m.parameters(), lr=0.1)
            for _ in range(4):
                o.zero_grad()
                m(torch.randn(8, 6)).pow(2).mean().backward()
                o.step()
            cs.append(m.state_dict())
        g.load_state_dict({k: torch.stack([c[k].float() for c in cs]).mean(0).to(cs[0][k].dtype) for k in cs[0]})
        g.eval()
        with torch.no_grad():
            [g(torch.randn(8, 6)) for _ in range(3)]
    return trained(locals())
