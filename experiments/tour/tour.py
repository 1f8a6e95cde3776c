# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of gradients: by hand, with PyTorch, and how they go wrong
#
# One neuron, two parameters and a pencil are enough to meet everything that can happen to a gradient. Each step prints
# what it teaches and then asserts it, so this file is a lesson and a test at once. Parts 1 to 7 show how things work.
# Part 8 makes each mistake on purpose: what PyTorch says, if anything, the cure, and the gradkit rule that knows it.

# %%
import io
import itertools
import linecache
import math
import sys
import warnings

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

import gradkit
from gradkit.rules import all_rules

IN_NOTEBOOK = "ipykernel" in sys.modules


def table(header, rows):
    """Print rows under their header, numbers short enough to compare by eye."""
    cells = [[f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def picture(rows, title, mark, **encoding):
    """Draw rows as a chart inside a notebook, without a network; in a terminal the table printed before has it all."""
    if not IN_NOTEBOOK:
        return
    import altair as alt
    from IPython.display import SVG, display

    chart = alt.Chart(alt.Data(values=rows), title=title, width=420, height=170, background="white")
    drawing = io.StringIO()
    getattr(chart, f"mark_{mark}")().encode(**encoding).save(drawing, format="svg")
    display(SVG(drawing.getvalue()))


def caught(mistake, says):
    """Make a mistake, print the error PyTorch answers with, and insist that it is the one expected."""
    try:
        mistake()
    except RuntimeError as error:
        print(f"RuntimeError: {error}")
        assert says in str(error), f"another error than the one expected: {error}"
    else:
        raise AssertionError("the mistake went through without an error")


# %% [markdown]
# ## 1. Basic autograd mechanics
#
# A tensor made with `requires_grad=True` asks PyTorch to write down what is done to it. Every result carries the
# operation it came from in `grad_fn`; `backward()` walks these notes from the result back to the tensors you made and
# leaves the derivative in their `.grad`. For $y = x^2$ the derivative is $2x$: 6 at $x = 3$.

# %%
x = torch.tensor(3.0, requires_grad=True)
y = x**2
print(f"x: leaf {x.is_leaf}, grad_fn {x.grad_fn}, grad before backward {x.grad}")
print(f"y: leaf {y.is_leaf}, grad_fn {y.grad_fn.name()}, which hands on to {y.grad_fn.next_functions[0][0].name()}")
assert x.is_leaf and x.grad_fn is None and x.grad is None
assert not y.is_leaf and y.requires_grad
assert y.grad_fn.name().startswith("PowBackward")

y.backward()
print(f"dy/dx at x = 3: {x.grad.item()}")
assert x.grad.item() == 6.0

# %% [markdown]
# ## 2. The chain rule
#
# For $z = \sin(x^2)$ the outer derivative $\cos(x^2)$ is multiplied by the inner one, $2x$. PyTorch keeps one note per
# operation and multiplies on the way back, so it needs no formula for the whole.

# %%
x = torch.tensor(3.0, requires_grad=True)
inner = x**2
z = torch.sin(inner)
print(f"way back: {z.grad_fn.name()} -> {z.grad_fn.next_functions[0][0].name()} -> x")
z.backward()

by_hand = math.cos(3.0**2) * 2 * 3.0
print(f"cos(x^2) * 2x by hand: {by_hand:.6f}")
print(f"autograd:              {x.grad.item():.6f}")
# float32 carries about seven digits.
assert math.isclose(x.grad.item(), by_hand, rel_tol=1e-6)

# %% [markdown]
# ## 3. One neuron, two lives
#
# A neuron turns a feature $x$ into $z = wx + b$, squeezes it into a probability $\hat y = \sigma(z)$ and is judged by
# binary cross-entropy, $L = -\left(y \ln \hat y + (1 - y) \ln (1 - \hat y)\right)$. The example: $x = 6.7$, true label
# $y = 0$, with $w = 1$ and $b = 0$. The neuron is almost sure of the wrong answer, so the gradients are large.

# %% [markdown]
# ### Aam Zindagi: the ordinary life, by hand
#
# Three factors lead from the loss back to $w$, each a derivative one can do on paper:
#
# $$\frac{\partial L}{\partial w} = \frac{\partial L}{\partial \hat y} \cdot \frac{\partial \hat y}{\partial z}
# \cdot \frac{\partial z}{\partial w}
# = \frac{\hat y - y}{\hat y (1 - \hat y)} \cdot \hat y (1 - \hat y) \cdot x$$
#
# and for $b$ the last factor is 1.

# %%
feature, label = torch.tensor(6.7), torch.tensor(0.0)


def textbook_loss(y_pred, y):
    """Binary cross-entropy as written on paper; no protection against logarithms of 0."""
    return -(y * torch.log(y_pred) + (1 - y) * torch.log(1 - y_pred))


def textbook_factors(z, y):
    """The two factors from the loss back to z, each on its own: dL/dy_pred and dy_pred/dz."""
    y_pred = torch.sigmoid(z)
    return (y_pred - y) / (y_pred * (1 - y_pred)), y_pred * (1 - y_pred)


z = 1.0 * feature + 0.0
dL_dy_pred, dy_pred_dz = textbook_factors(z, label)
dz_dw, dz_db = feature, 1.0
dL_dw, dL_db = dL_dy_pred * dy_pred_dz * dz_dw, dL_dy_pred * dy_pred_dz * dz_db

print(f"y_pred = {torch.sigmoid(z).item():.4f}, loss = {textbook_loss(torch.sigmoid(z), label).item():.4f}")
print(f"dL/dy_pred = {dL_dy_pred.item():.4f}, dy_pred/dz = {dy_pred_dz.item():.7f}, dz/dw = {dz_dw.item():.1f}")
print(f"dL/dw = {dL_dw.item():.4f}")
print(f"dL/db = {dL_db.item():.4f}")
assert round(dL_dw.item(), 4) == 6.6918 and round(dL_db.item(), 4) == 0.9988

# %% [markdown]
# ### Mentos Zindagi: with PyTorch
#
# The same forward pass, then one call.

# %%
w = torch.tensor(1.0, requires_grad=True)
b = torch.tensor(0.0, requires_grad=True)
loss = textbook_loss(torch.sigmoid(w * feature + b), label)
loss.backward()

table(
    ["", "by hand", "autograd", "difference"],
    [
        ["dL/dw", dL_dw.item(), w.grad.item(), abs(dL_dw - w.grad).item()],
        ["dL/db", dL_db.item(), b.grad.item(), abs(dL_db - b.grad).item()],
    ],
)
# About ten float32 operations stand between the two, each off by at most 6e-8 of its result.
torch.testing.assert_close(w.grad, dL_dw, rtol=1e-6, atol=0)
torch.testing.assert_close(b.grad, dL_db, rtol=1e-6, atol=0)

# %% [markdown]
# ### Where the textbook product dies
#
# On paper $\hat y (1 - \hat y)$ cancels and leaves $\frac{\partial L}{\partial z} = \sigma(z) - y$. On a machine it
# must be computed before it can cancel. At $z = 20$ the nearest float32 to $\sigma(z)$ is exactly 1, so
# $\hat y (1 - \hat y)$ is 0: the first factor is $1/0$ for the wrong label and $0/0$ for the right one, and times 0
# either is NaN. The short form divides by nothing and is right.

# %%
z = torch.tensor(20.0)
rows = []
for y in (0.0, 1.0):
    first, second = textbook_factors(z, torch.tensor(y))
    short = torch.sigmoid(z) - y

    z_textbook = z.clone().requires_grad_()
    textbook_loss(torch.sigmoid(z_textbook), torch.tensor(y)).backward()
    z_clamped = z.clone().requires_grad_()
    binary_cross_entropy(torch.sigmoid(z_clamped), torch.tensor(y)).backward()
    z_logits = z.clone().requires_grad_()
    binary_cross_entropy_with_logits(z_logits, torch.tensor(y)).backward()

    product = first * second
    columns = [first, second, product, z_textbook.grad, z_clamped.grad, z_logits.grad, short]
    rows.append([f"{y:.0f}", *(column.item() for column in columns)])
    assert second == 0 and product.isnan() and z_textbook.grad.isnan()
    # binary_cross_entropy bounds its logarithms instead; the gradient is then finite, and 0 for a wholly wrong answer.
    assert z_clamped.grad == 0
    torch.testing.assert_close(z_logits.grad, short, rtol=0, atol=1e-7)

print("z = 20 in float32; the last column, sigmoid(z) - y, is right")
table(
    ["y", "dL/dy_pred", "dy_pred/dz", "product", "autograd", "BCE(sigmoid(z))", "BCE with logits", "sigmoid(z) - y"],
    rows,
)

# %% [markdown]
# Autograd follows the formula it was given, into the same NaN. `binary_cross_entropy` on probabilities avoids the NaN
# and gives gradient 0 where it should be 1: the neuron is as wrong as can be and will never learn. The loss that takes
# $z$ itself, `binary_cross_entropy_with_logits`, uses the short form. gradkit's catalogue calls the mistake GK305,
# saturated-probability-loss.

# %% [markdown]
# ## 4. Vectors and the mean
#
# `backward()` starts from one number. A vector of squares is first reduced: with the mean of $n$ entries every
# gradient is divided by $n$, with the sum it is not. A result left as a vector needs a weight per entry; weights of 1
# are the sum.

# %%
values = [1.0, 2.0, 3.0]
rows = []
for reduction in ("mean", "sum", "weights of 1"):
    x = torch.tensor(values, requires_grad=True)
    squares = x**2
    if reduction == "mean":
        squares.mean().backward()
    elif reduction == "sum":
        squares.sum().backward()
    else:
        squares.backward(gradient=torch.ones_like(squares))
    rows.append([reduction, *x.grad.tolist()])
    expected = [2 * value / (len(values) if reduction == "mean" else 1) for value in values]
    torch.testing.assert_close(x.grad, torch.tensor(expected))
table(["gradient of x^2", "x = 1", "x = 2", "x = 3"], rows)

# %% [markdown]
# The same holds for a batch: with a mean-reduced loss, $\partial L / \partial w$ is the mean of $(\sigma(z) - y)\,x$
# over the samples. Twenty samples follow, one feature each; small values belong to class 1, and four labels near the
# border are flipped, so that no line separates them perfectly.

# %%
samples = torch.linspace(-2, 2, 20)
labels = (samples < 0).float()
for flipped in (5, 7, 12, 14):
    labels[flipped] = 1 - labels[flipped]

w = torch.tensor(1.0, requires_grad=True)
b = torch.tensor(0.0, requires_grad=True)
binary_cross_entropy_with_logits(w * samples + b, labels).backward()
residual = torch.sigmoid(1.0 * samples + 0.0) - labels
print(f"dL/dw over 20 samples: by hand {(residual * samples).mean().item():.6f}, autograd {w.grad.item():.6f}")
torch.testing.assert_close(w.grad, (residual * samples).mean(), rtol=1e-5, atol=0)
torch.testing.assert_close(b.grad, residual.mean(), rtol=0, atol=1e-6)

# %% [markdown]
# ## 5. Gradients accumulate
#
# `backward()` adds to `.grad`; it never replaces. Three passes through $y = x^2$ at $x = 3$ leave 6, then 12, then 18.
# This is useful when one batch is computed in pieces, and wrong everywhere else. `zero_()` empties the buffer in place;
# setting `.grad` to None, what `optimizer.zero_grad()` does, drops it.

# %%
x = torch.tensor(3.0, requires_grad=True)
left, cleared = [], []
for _ in range(3):
    (x**2).backward()
    left.append(x.grad.item())

x.grad = None
for _ in range(3):
    (x**2).backward()
    cleared.append(x.grad.item())
    x.grad.zero_()
    assert x.grad.item() == 0.0

rows = []
for i, (without, with_zero) in enumerate(zip(left, cleared, strict=True), 1):
    rows.append([i, without, "#" * round(without), with_zero, "#" * round(with_zero)])
print("x.grad after each backward")
table(["backward", "never cleared", "", "with zero_()", ""], rows)
assert left == [6.0, 12.0, 18.0]
assert cleared == [6.0, 6.0, 6.0]


# %%
picture(
    [{"backward": i, "x.grad": g, "way": "never cleared"} for i, g in enumerate(left, 1)]
    + [{"backward": i, "x.grad": g, "way": "with zero_()"} for i, g in enumerate(cleared, 1)],
    "x.grad after each backward",
    "bar",
    x="backward:O",
    xOffset="way:N",
    y={"field": "x\\.grad", "type": "quantitative", "title": "x.grad"},
    color="way:N",
)

# %% [markdown]
# ## 6. Three ways to stop tracking
#
# Notes cost memory and time, so predictions should not take any. The three ways differ in what they change: the tensor
# itself, a second view of it, or everything computed inside a block. Evaluating a model with none of them is GK201,
# grad-enabled-evaluation, in gradkit's catalogue.

# %%
x = torch.tensor(3.0, requires_grad=True)
returned = x.requires_grad_(False)
frozen = [
    "x.requires_grad_(False)",
    "x itself, until undone",
    x.requires_grad,
    (returned**2).requires_grad,
    returned is x,
]
x.requires_grad_(True)
assert (x**2).requires_grad

z = x.detach()
detached = [
    "z = x.detach()",
    "z, a second view of x",
    x.requires_grad,
    (z**2).requires_grad,
    z.data_ptr() == x.data_ptr(),
]
assert z is not x and (x**2).requires_grad

with torch.no_grad():
    y = x**2
blocked = [
    "with torch.no_grad():",
    "results made in the block",
    x.requires_grad,
    y.requires_grad,
    y.data_ptr() == x.data_ptr(),
]
assert (x**2).requires_grad

table(["way", "what it changes", "x tracked", "square tracked", "shares memory with x"], [frozen, detached, blocked])
assert [row[2:] for row in (frozen, detached, blocked)] == [
    [False, False, True],
    [True, False, True],
    [True, False, False],
]

# %% [markdown]
# The first way is for the tensors you made. A result cannot be untracked afterwards; `detach()` gives a view that is.

# %%
caught(lambda: (x**2).requires_grad_(False), says="you can only change requires_grad flags of leaf variables")
assert not (x**2).detach().requires_grad

# %% [markdown]
# What the notes cost can be counted: PyTorch hands every tensor it keeps for the way back to a hook.


# %%
def kept_for_backward(compute):
    """The number of bytes that a computation keeps for its backward."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.nbytes), t)[1], lambda t: t):
        compute()
    return sum(kept)


batch = torch.linspace(-2, 2, 1000)
w = torch.tensor(1.0, requires_grad=True)


def predict():
    return torch.sigmoid(w * batch)


def predict_without_notes():
    with torch.no_grad():
        return predict()


tracked, untracked = kept_for_backward(predict), kept_for_backward(predict_without_notes)
print(f"kept for backward by 1000 predictions: tracked {tracked} bytes, under no_grad {untracked} bytes")
assert tracked >= 2 * batch.nbytes and untracked == 0
assert torch.equal(predict(), predict_without_notes())

# %% [markdown]
# The shared memory of `detach()` has a catch: writing into the view writes into the original. PyTorch counts the writes
# and refuses a backward that would use an overwritten value.

# %%
x = torch.tensor(3.0, requires_grad=True)
y = x**2
x.detach().fill_(5.0)
print(f"x after writing 5 into its detached view: {x.item()}")
assert x.item() == 5.0
caught(lambda: y.backward(), says="modified by an inplace operation")

# The cure is a copy.
x = torch.tensor(3.0, requires_grad=True)
y = x**2
x.detach().clone().fill_(5.0)
y.backward()
assert x.item() == 3.0 and x.grad.item() == 6.0

# %% [markdown]
# ## 7. Training, with and without zeroing
#
# Now the neuron learns the twenty samples, from $w = 1$, $b = 0$, by gradient descent. The first loop clears the
# gradients before each backward, the second never does.


# %%
class Neuron(nn.Module):
    """Logistic regression on one feature; returns z, since the loss applies the sigmoid."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))
        self.b = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return self.w * x + self.b


def start(momentum=0.0):
    model = Neuron()
    return model, torch.optim.SGD(model.parameters(), lr=1.0, momentum=momentum)


def loss_of(model):
    return binary_cross_entropy_with_logits(model(samples), labels)


STEPS = 60

model, optimizer = start()
zeroed = []
for _ in range(STEPS):
    optimizer.zero_grad()
    loss = loss_of(model)
    loss.backward()
    optimizer.step()
    zeroed.append(loss.item())
trained = model

model, optimizer = start()
unzeroed = []
for _ in range(STEPS):
    loss = loss_of(model)
    loss.backward()
    optimizer.step()
    unzeroed.append(loss.item())
swinging = model

bars = [["#" * round(12 * losses[i]) for losses in (zeroed, unzeroed)] for i in range(STEPS)]
table(
    ["step", "zeroed", "", "never zeroed", ""],
    [[i, round(zeroed[i], 3), bars[i][0], round(unzeroed[i], 3), bars[i][1]] for i in (*range(0, STEPS, 5), STEPS - 1)],
)
for name, model in (("zeroed", trained), ("never zeroed", swinging)):
    with torch.no_grad():
        right = ((model(samples) > 0) == (labels == 1)).sum().item()
    print(f"{name}: w = {model.w.item():.3f}, {right} of 20 samples right")

# The zeroed loss falls in every step, up to the rounding of float32, and comes to rest.
assert all(after <= before + 1e-6 for before, after in itertools.pairwise(zeroed))
assert zeroed[-20] - zeroed[-1] < 1e-4
# The other one is still thrown back to where it began, and beyond.
assert max(unzeroed[-20:]) > unzeroed[0] and max(unzeroed[-20:]) - min(unzeroed[-20:]) > 0.5

# %%
picture(
    [{"step": i, "loss": value, "gradients": "zeroed"} for i, value in enumerate(zeroed)]
    + [{"step": i, "loss": value, "gradients": "never zeroed"} for i, value in enumerate(unzeroed)],
    "Loss while training",
    "line",
    x="step:Q",
    y="loss:Q",
    color="gradients:N",
)

# %% [markdown]
# Without zeroing, a step follows the sum of all gradients so far. That is momentum which nothing brakes: a ball rolling
# through the valley and up the other side, for ever. It is so exactly, to the last bit: gradient descent with momentum
# 1 and cleared gradients takes the same way. The accuracy, 16 of 20 either way, gives nothing away.

# %%
model, optimizer = start(momentum=1.0)
unbraked = []
for _ in range(STEPS):
    optimizer.zero_grad()
    loss = loss_of(model)
    loss.backward()
    optimizer.step()
    unbraked.append(loss.item())
apart = max(abs(one - other) for one, other in zip(unzeroed, unbraked, strict=True))
print(f"largest difference between the {STEPS} losses of the two: {apart}")
assert unbraked == unzeroed and unbraked != zeroed

# %% [markdown]
# ## 8. Mistakes, on purpose
#
# ### 8.1 Stopped by PyTorch
#
# **Backward twice through one graph.** The first backward frees what the graph kept. Cure: compute the loss again, or,
# when two backwards through one graph are really meant, `retain_graph=True` for the first of them. As a habit that flag
# costs memory in every step, which gradkit's catalogue calls GK207, needless-retained-graph.

# %%
x = torch.tensor(3.0, requires_grad=True)
y = x**2
y.backward()
caught(y.backward, says="backward through the graph a second time")

# The cure: a new forward, a new graph.
x.grad = None
y = x**2
y.backward()
assert x.grad.item() == 6.0

# %% [markdown]
# **Backward from more than one number.** Cure: reduce first, to one loss.

# %%
x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
caught(lambda: (x**2).backward(), says="grad can be implicitly created only for scalar outputs")

(x**2).mean().backward()
torch.testing.assert_close(x.grad, 2 * x.detach() / 3)

# %% [markdown]
# **Backward from a result without a graph**, after `detach()` or out of a `no_grad()` block. Cure: compute what is to
# be differentiated from the tracked tensor, outside the block. When only a part of the path is cut, the rest still
# works and PyTorch stays silent: see "a severed path" below.

# %%
x = torch.tensor(3.0, requires_grad=True)
caught(lambda: (x.detach() ** 2).backward(), says="does not require grad and does not have a grad_fn")


def square_without_notes():
    with torch.no_grad():
        return x**2


caught(lambda: square_without_notes().backward(), says="does not require grad and does not have a grad_fn")

(x**2).backward()
assert x.grad.item() == 6.0

# %% [markdown]
# **Changing a tracked leaf in place**, as in a hand-written update. Cure: update inside `no_grad()`, as the optimizers
# do. Not a cure: writing through `.data`, which hides the change from autograd (see 8.2).

# %%
w = torch.tensor(3.0, requires_grad=True)
(w**2).backward()


def update_in_place():
    global w
    w -= 0.1 * w.grad


caught(update_in_place, says="a leaf Variable that requires grad is being used in an in-place operation")
assert w.item() == 3.0

with torch.no_grad():
    update_in_place()
print(f"after one update under no_grad: w = {w.item():.1f}, still tracked: {w.requires_grad}")
assert math.isclose(w.item(), 2.4, rel_tol=1e-6) and w.requires_grad and w.is_leaf

# %% [markdown]
# **Reading `.grad` of a result.** Only leaves keep their gradient, so a result answers None, with a warning. Cure:
# `retain_grad()` on it before the backward.

# %%
x = torch.tensor(3.0, requires_grad=True)
y = x**2
torch.sin(y).backward()
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    answer = y.grad
print("y.grad:", answer)
# The end of the message says where PyTorch itself was compiled; it is left out.
print("UserWarning:", str(heard[0].message).split(" (Triggered internally")[0])
assert answer is None
assert "not a leaf Tensor is being accessed" in str(heard[0].message)

y = x**2
y.retain_grad()
torch.sin(y).backward()
print(f"y.grad after retain_grad(): {y.grad.item():.6f}")
assert math.isclose(y.grad.item(), math.cos(9.0), rel_tol=1e-6)

# %% [markdown]
# ### 8.2 Passed over in silence
#
# The next mistakes raise nothing. The loop runs, a loss is printed, and what is computed is not what the code says. The
# first three run under `gradkit.watch`, which observes the loop and changes none of its numbers. Left alone it prints a
# full report at the end of the block; here `report="never"` keeps it quiet and the findings are printed in short.


# %%
def line_at(place):
    """The source line at a place that a finding names."""
    return linecache.getline(place.file, place.line).strip()


def told_by(monitor, *expected):
    """Print what was found, with the line of this file it is about, and insist that it is what was expected."""
    for finding in monitor.findings:
        print(f"{finding.severity.value}[{finding.rule}] {finding.name}: {finding.message}")
        print(f"  at:     {line_at(finding.location)}")
        for place, note in finding.labels:
            print(f"  see:    {line_at(place)}  ({note})")
        print(f"  steps:  {finding.count}, parameters {', '.join(sorted(finding.parameters))}")
        print(f"  remedy: {finding.remedy}")
    if not monitor.findings:
        print(f"no findings in {monitor.info.steps} steps")
    assert [finding.rule for finding in monitor.findings] == list(expected)
    assert all(line_at(finding.location) == "optimizer.step()" for finding in monitor.findings)


# %% [markdown]
# **Gradients never zeroed.** Part 7 showed where that leads. Cure: `optimizer.zero_grad()` once per step, before the
# first backward that counts for it. The rule is GK101, stale-gradients.


# %%
def never_zeroed(model, optimizer):
    consumed = []
    for _ in range(3):
        loss_of(model).backward()
        consumed.append(model.w.grad.item())
        optimizer.step()
    return consumed


def zeroed_first(model, optimizer):
    consumed = []
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model).backward()
        consumed.append(model.w.grad.item())
        optimizer.step()
    return consumed


model, optimizer = start()
with gradkit.watch(model, optimizer, report="never") as monitor:
    stale = never_zeroed(model, optimizer)
told_by(monitor, "GK101")

model, optimizer = start()
with gradkit.watch(model, optimizer, report="never") as monitor:
    fresh = zeroed_first(model, optimizer)
told_by(monitor)

print("w.grad that the optimizer consumes")
table(["step", "never zeroed", "zeroed"], [[i, *pair] for i, pair in enumerate(zip(stale, fresh, strict=True))])
assert stale[0] == fresh[0] and stale[1] > fresh[1] and stale[2] > fresh[2]

# %% [markdown]
# **Gradients zeroed between backward and step.** The optimizer finds nothing and changes nothing. Cure: clear before
# the backward or after the step. The rule is GK102, gradients-cleared-before-step.


# %%
def zeroed_too_early(model, optimizer):
    losses = []
    for _ in range(3):
        loss = loss_of(model)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    return losses


def zeroed_last(model, optimizer):
    losses = []
    for _ in range(3):
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


model, optimizer = start()
with gradkit.watch(model, optimizer, report="never") as monitor:
    stuck = zeroed_too_early(model, optimizer)
told_by(monitor, "GK102")
assert model.w.item() == 1.0

model, optimizer = start()
with gradkit.watch(model, optimizer, report="never") as monitor:
    falling = zeroed_last(model, optimizer)
told_by(monitor)

table(["step", "loss, zeroed too early", "loss, zeroed last"], [[i, stuck[i], falling[i]] for i in range(3)])
assert stuck == [stuck[0]] * 3
assert falling == zeroed[:3] and falling[2] < falling[1] < falling[0]

# %% [markdown]
# **Stepped twice on one gradient**, as when a helper steps and its caller does too. With plain gradient descent it is a
# doubled learning rate that no configuration shows. Cure: one step per backward. The rule is GK103,
# step-without-new-gradients.


# %%
def stepped_twice(model, optimizer):
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()
    optimizer.step()


def stepped_once(model, optimizer):
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


model, optimizer = start()
with gradkit.watch(model, optimizer, report="never") as monitor:
    stepped_twice(model, optimizer)
told_by(monitor, "GK103")
moved_twice = 1.0 - model.w.item()

model, optimizer = start()
with gradkit.watch(model, optimizer, report="never") as monitor:
    stepped_once(model, optimizer)
    moved_once, gradient = 1.0 - model.w.item(), model.w.grad.item()
    stepped_once(model, optimizer)
told_by(monitor)

print(f"lr 1.0, gradient {gradient:.4f}: w moved by {moved_once:.4f} in one step, by {moved_twice:.4f} in two on it")
assert math.isclose(moved_once, gradient, rel_tol=1e-6)
assert math.isclose(moved_twice, 2 * gradient, rel_tol=1e-6)

# %% [markdown]
# **A severed path.** Two neurons in a row; between them the value is taken out with `.item()` or cut with `detach()`.
# The second still learns what it can, here to be no worse than a coin ($\ln 2 = 0.693$), while the first gets no
# gradient at all. Cure: hand the tensor on as it is, and keep `.item()` for printing. The rule is GK203,
# severed-gradient-path.


# %%
def two_neurons(between):
    first, second = Neuron(), Neuron()
    with torch.no_grad():
        first.w.fill_(0.1)
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=1.0)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        hidden = torch.stack([between(torch.sigmoid(first(sample))) for sample in samples])
        loss = binary_cross_entropy_with_logits(second(hidden), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return first, losses


rows = []
for name, between in (
    (".item()", lambda hidden: torch.tensor(hidden.item())),
    (".detach()", lambda hidden: hidden.detach()),
    ("as it is", lambda hidden: hidden),
):
    first, losses = two_neurons(between)
    rows.append([name, losses[0], losses[-1], str(first.w.grad is not None), first.w.item()])
    assert losses[-1] < losses[0]
    assert (first.w.grad is None) == (first.w == 0.1) == (name != "as it is")
table(["handed on", "first loss", "last loss", "first neuron has a gradient", "its w"], rows)
assert rows[2][2] < rows[0][2] == rows[1][2]

# %% [markdown]
# **Changed behind autograd's back.** Writing through `.data` between forward and backward raises nothing; the gradient
# then belongs to another value. Cure: update after the backward, inside `no_grad()`. The rule is GK208,
# parameter-changed-under-graph.

# %%
x = torch.tensor(3.0, requires_grad=True)
y = x**2
x.data.fill_(5.0)
y.backward()
print(f"y was {y.item()}, so its derivative is 6; autograd says {x.grad.item()}, twice the new x")
assert y.item() == 9.0 and x.grad.item() == 10.0

# %% [markdown]
# ## 9. Who notices
#
# PyTorch stops what it cannot compute. What it can compute, though it is not what was meant, is left to gradkit. The
# last column asks the gradkit that is installed whether it carries the rule yet.

# %%
carried = all_rules()
table(
    ["mistake", "PyTorch", "rule", "watched for"],
    [
        [mistake, reaction, rule, "" if rule == "-" else "yes" if rule[:5] in carried else "not yet"]
        for mistake, reaction, rule in (
            ("backward twice", "error", "-"),
            ("retain_graph=True as a habit", "silent", "GK207 needless-retained-graph"),
            ("backward from several numbers", "error", "-"),
            ("backward without a graph", "error", "-"),
            ("tracked leaf changed in place", "error", "-"),
            ("overwritten through detach()", "error", "-"),
            (".grad of a result", "warning", "-"),
            ("gradients never zeroed", "silent", "GK101 stale-gradients"),
            ("zeroed before the step", "silent", "GK102 gradients-cleared-before-step"),
            ("stepped twice", "silent", "GK103 step-without-new-gradients"),
            ("a severed path", "silent", "GK203 severed-gradient-path"),
            ("overwritten through .data", "silent", "GK208 parameter-changed-under-graph"),
            ("evaluating with tracking on", "silent", "GK201 grad-enabled-evaluation"),
            ("logarithms of exactly 0 or 1", "silent", "GK305 saturated-probability-loss"),
        )
    ],
)
assert {"GK101", "GK102", "GK103"} <= set(carried)
