"""Small programs that do something a watcher may disturb; each is put between `BEFORE` and `AFTER`."""

BEFORE = """
import asyncio, atexit, contextlib, copy, gc, io, os, pickle, queue, random, signal, sys, threading
import traceback, warnings
import torch
from torch import nn
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

random.seed(0)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
x, y = torch.randn(16, 3), torch.randn(16, 1)

def step(clear=True, net=None):
    if clear:
        optimizer.zero_grad()
    loss = F.mse_loss((net or model)(x), y)
    loss.backward()
    optimizer.step()
    return loss

class Count(TorchFunctionMode):
    calls = 0
    def __torch_function__(self, function, types, args=(), kwargs=None):
        Count.calls += 1
        return function(*args, **(kwargs or {}))

class Dispatch(TorchDispatchMode):
    calls = 0
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        Dispatch.calls += 1
        return function(*args, **(kwargs or {}))
"""
AFTER = """
print(Count.calls, Dispatch.calls, [round(float(p.detach().double().sum()), 9) for p in model.parameters()])
print(float(torch.get_rng_state().sum()), random.random(), sys.stdout is sys.__stdout__)
"""

PROGRAMS = {
    "plain": "for _ in range(30): step()",
    "never cleared": "for _ in range(30): step(clear=False)",
    "function mode": "with Count():\n    for _ in range(12): step()",
    "function mode at every step": "for _ in range(12):\n    with Count(): step()",
    "function mode around every second step": """
for number in range(24):
    with Count() if number % 2 else contextlib.nullcontext(): step(clear=number % 3 == 0)""",
    "mode around the backward": """
for _ in range(12):
    loss = F.mse_loss(model(x), y)
    with Count(): loss.backward()
    optimizer.step(); optimizer.zero_grad()""",
    "dispatch mode": "with Dispatch():\n    for _ in range(12): step(clear=False)",
    "both modes": "with Count(), Dispatch():\n    for _ in range(12): step(clear=False)",
    "default device": "torch.set_default_device('cpu')\nfor _ in range(12): step()",
    "default dtype": """
torch.set_default_dtype(torch.float64)
model.double(); x, y = x.double(), y.double()
for _ in range(12): step(clear=False)""",
    "autocast": """
with torch.autocast('cpu', dtype=torch.bfloat16):
    for _ in range(12): step(clear=False)""",
    "anomaly mode": "with torch.autograd.detect_anomaly(check_nan=True):\n    for _ in range(12): step(clear=False)",
    "deterministic": "torch.use_deterministic_algorithms(True)\nfor _ in range(12): step(clear=False)",
    "profiler": """
with torch.autograd.profiler.profile() as profiler:
    for _ in range(8): step(clear=False)
print(sorted((event.key, event.count) for event in profiler.key_averages()))""",
    "subclass": """
class Seen(nn.Parameter):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        Count.calls += 1
        with torch._C.DisableTorchFunctionSubclass(): return function(*args, **(kwargs or {}))
model[0].weight = Seen(model[0].weight.detach())
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(12): step(clear=False)""",
    "inference mode": """
for _ in range(12):
    step()
    with torch.inference_mode(): model.eval(); print(float(model(x).sum())); model.train()""",
    "backward that raises": """
for number in range(12):
    try:
        loss = F.mse_loss(model(x), y); loss.register_hook(lambda g: 1 / (number % 3)); loss.backward()
    except ZeroDivisionError as error:
        print([(f.name, f.lineno) for f in traceback.extract_tb(error.__traceback__)])
    optimizer.step(); optimizer.zero_grad()""",
    "closure that raises": """
for number in range(8):
    def closure():
        optimizer.zero_grad(); loss = F.mse_loss(model(x), y); loss.backward()
        if number == 4: raise KeyError('x')
        return loss
    try: optimizer.step(closure)
    except KeyError as error: print(error, number)""",
    "alarm": """
class Late(Exception): pass
def ring(*_): raise Late
signal.signal(signal.SIGALRM, ring)
caught = 0
for number in range(20):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        while True: F.mse_loss(model(x), y).backward()
    except Late: caught += 1
optimizer.zero_grad()
print(caught)
torch.manual_seed(1); model = nn.Linear(3, 1)""",
    "keyboard interrupt": """
try:
    for number in range(9):
        step()
        if number == 5: signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt: print('stopped')""",
    "threads in turn": """
for _ in range(3):
    thread = threading.Thread(target=lambda: [step() for _ in range(4)]); thread.start(); thread.join()""",
    "data from a thread": """
box = queue.Queue(2)
def produce():
    generator = torch.Generator().manual_seed(3)
    for _ in range(12): box.put(torch.randn(16, 3, generator=generator))
thread = threading.Thread(target=produce); thread.start()
for _ in range(12): x = box.get(); step()
thread.join()""",
    "asyncio": """
async def train():
    for _ in range(12): step(clear=False); await asyncio.sleep(0)
asyncio.run(train())""",
    "hogwild": """
model.share_memory()
def work():
    own = torch.optim.SGD(model.parameters(), lr=0.0)
    for _ in range(5): F.mse_loss(model(x), y).backward(); own.step()
model.eval()
threads = [threading.Thread(target=work) for _ in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]""",
    "fork": """
step()
sys.stdout.flush()
child = os.fork()
if not child:
    for _ in range(5): step()
    print('child', float(model[0].weight.detach().sum())); sys.stdout.flush(); os._exit(0)
print(os.waitpid(child, 0)[1])
for _ in range(5): step()""",
    "exec": """
for _ in range(5): step()
print(float(model[0].weight.detach().sum())); sys.stdout.flush()
os.execv('/bin/echo', ['echo', 'and another program'])""",
    "exit status": "atexit.register(print, 'bye')\nfor _ in range(5): step()\nsys.exit(7)",
    "uncaught": "for _ in range(5): print(float(step()))\nraise ValueError('the program')",
    "killed": "for _ in range(5): print(float(step()))\nsys.stdout.flush(); os.kill(os.getpid(), signal.SIGTERM)",
    "leaves at once": "for _ in range(5): step()\nprint('x'); sys.stdout.flush(); os._exit(3)",
    "closed standard error": "sys.stderr.close()\nfor _ in range(8): step(clear=False)",
    "closed descriptors": "os.close(2)\nfor _ in range(8): step(clear=False)",
    "streams replaced": """
kept, sys.stdout = sys.stdout, io.StringIO()
for _ in range(8): step(clear=False); print('hidden')
kept, sys.stdout = sys.stdout, kept
print(len(kept.getvalue()))""",
    "warnings are errors": "warnings.simplefilter('error')\nfor _ in range(20): step(clear=False)",
    "traced": """
seen = 0
def trace(frame, event, arg):
    global seen
    seen += frame.f_code.co_filename == __file__
    return trace if frame.f_code.co_filename == __file__ else None
sys.settrace(trace)
for _ in range(8): step(clear=False)
sys.settrace(None); print(seen)""",
    "profiled by Python": """
seen = {}
def profile(frame, event, arg):
    key = frame.f_code.co_name, event
    if frame.f_code.co_filename == __file__: seen[key] = seen.get(key, 0) + 1
sys.setprofile(profile)
for _ in range(8): step(clear=False)
sys.setprofile(None); print(sorted(map(str, seen.items())))""",
    "read-only folder": "os.mkdir('d'); os.chmod('d', 0o500); os.chdir('d')\nfor _ in range(8): step(clear=False)",
    "folder gone": "os.mkdir('g'); os.chdir('g'); os.rmdir('../g')\nfor _ in range(8): step(clear=False)",
    "no home": "os.environ.pop('HOME', 0); os.environ['TMPDIR'] = '/none'\nfor _ in range(8): step(clear=False)",
    "whole model pickled": """
for _ in range(20): step()
data = pickle.dumps((model, optimizer)); print(len(data), b'gradkit' in data)
model, optimizer = pickle.loads(data)
for _ in range(5): step()""",
    "saved and loaded": """
for _ in range(8): step()
buffer = io.BytesIO(); torch.save(model, buffer); print(b'gradkit' in buffer.getvalue(), len(buffer.getvalue()))
buffer.seek(0); model = torch.load(buffer, weights_only=False)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(5): step()""",
    "optimizer copied": """
for _ in range(8): step()
model, optimizer = copy.deepcopy((model, optimizer))
for _ in range(8): step()""",
    "functions pickled": """
for _ in range(3): step()
print(pickle.loads(pickle.dumps(torch.from_numpy)) is torch.from_numpy, pickle.dumps(nn.Module.train)[:20])""",
    "checkpointing": "for _ in range(8): step(net=lambda x: checkpoint(model, x, use_reentrant=False))",
    "reentrant checkpointing": """
x.requires_grad_()
for _ in range(8): step(net=lambda x: checkpoint(model, x, use_reentrant=True))""",
    "many workers": """
data = list(zip(torch.randn(24, 3), torch.randn(24, 1)))
for x, y in torch.utils.data.DataLoader(data, batch_size=4, num_workers=2): step()""",
    "vmap and grad": """
from torch.func import functional_call, grad, vmap
parameters = dict(model.eval().named_parameters())
for _ in range(5):
    loss = lambda p, a, b: F.mse_loss(functional_call(model, p, (a,)), b)
    g = vmap(grad(loss), (None, 0, 0))(parameters, x, y)
    for name, p in model.named_parameters(): p.grad = g[name].mean(0).detach()
    optimizer.step()""",
    "double backward": """
for _ in range(8):
    optimizer.zero_grad(); loss = F.mse_loss(model(x), y)
    g = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    (loss + sum(p.pow(2).sum() for p in g)).backward(); optimizer.step()""",
    "scheduler warning": """
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter('always')
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1); schedule.step()
    for _ in range(4): step(); schedule.step()
print([(str(w.message)[:40], os.path.basename(w.filename), w.lineno) for w in said])""",
    "recursion": """
def deep(n): return step(clear=False) if n == 0 else deep(n - 1)
for _ in range(4): deep(900)
try: deep(10 ** 6)
except RecursionError: print('too deep')""",
    "garbage collected at every step": "gc.set_threshold(1)\nfor _ in range(4): step(clear=False)",
    "uncollected": "gc.disable()\nfor _ in range(8): step()\nprint(gc.isenabled())",
    "hooks of its own": """
calls = []
model.register_forward_hook(lambda *a: calls.append('f'))
model[0].weight.register_hook(lambda g: calls.append('g'))
sys.modules['torch.optim.optimizer'].register_optimizer_step_post_hook(lambda *a: calls.append('s'))
for _ in range(4): step()
print(calls)""",
    "patched optimizer": """
old = torch.optim.Optimizer.zero_grad
torch.optim.Optimizer.zero_grad = lambda self, *a, **k: (print('z'), old(self, *a, **k))[1]
for _ in range(3): step()""",
    "patched backward": """
old = torch.Tensor.backward
torch.Tensor.backward = lambda self, *a, **k: (print('b'), old(self, *a, **k))[1]
for _ in range(3): step()""",
}
APART = {
    "development mode": (["-X", "dev"], "for _ in range(8): step(clear=False)"),
    "warnings are errors from the start": (["-W", "error::UserWarning"], "for _ in range(8): step(clear=False)"),
    "optimised": (["-OO"], "for _ in range(8): step(clear=False)"),
    "spawned": (
        [],
        """
import torch.multiprocessing as mp
if __name__ == '__main__':
    for _ in range(4): step()
    worker = mp.get_context('spawn').Process(target=print, args=('from a child',)); worker.start(); worker.join()
    print(worker.exitcode)""",
    ),
    "compiled": ([], "fast = torch.compile(model, backend='eager')\nfor _ in range(6): step(net=fast)"),
    "accelerate": (
        [],
        """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
model, optimizer = accelerator.prepare(model, optimizer)
for _ in range(6): optimizer.zero_grad(); accelerator.backward(F.mse_loss(model(x), y)); optimizer.step()""",
    ),
}
