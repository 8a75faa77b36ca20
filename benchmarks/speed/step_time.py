"""One MNIST iteration of Algorithm 1: tinygan against its own matrix products, and against the frameworks.

    python benchmarks/speed/step_time.py             time everybody (minutes); peers that are not installed are left out
    python benchmarks/speed/step_time.py --check     only check that all do equal work; nothing is timed
    python benchmarks/speed/step_time.py --parts     where tinygan's milliseconds go, inside the real iteration
    python benchmarks/speed/step_time.py --sweep     time against batch size and against width
    python benchmarks/speed/tables.py                write the tables of README.md from benchmarks/results

Every contestant is a process of its own, on the same cores. They take turns of a few iterations, for many rounds, in a new
random order each round: a machine that slows down slows down all of them. Ratios are of medians over the rounds.

Before anything is timed, equal work is checked. Dropout is off; all start from the same θ and get the same minibatches and
noise. After three iterations all must have the same two costs and the same parameters, to float32 round-off. When time is
measured dropout is on. Everyone draws new masks and new noise in every step, holds D fixed in G's step and G in D's, and
runs data and samples through D as one minibatch of 2m. (Thinc cannot hold D fixed: it computes that gradient and throws it
away.)

The floor is the matrix products of one iteration and nothing else. They follow from the shapes, each in the layout that
BLAS computes fastest, with its output allocated beforehand.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NOISE, PIXELS = 100, 784
MOMENTUM = 0.5
# Timing: so small that hundreds of steps on one minibatch leave the nets as they are. A D that has won computes with
# denormal numbers, which take many times as long. The check of equal work moves θ for real.
LEARNING_RATE, CHECK_LEARNING_RATE = 1e-6, 0.1
KEEP = (0.8, 0.5, 0.5)  # dropout on the input of each of D's layers
CHECK_ITERATIONS = 3
PAUSE = 0.3  # seconds: a BLAS's threads spin for a while after their last product, on the cores of the next one
SIZES = {"batch_size": 100, "width": 1200, "d_width": 240, "pieces": 5}  # of the paper's MNIST nets: the options' defaults
NAMES = {  # of the contestants, in the table
    "tinygan": "**tinygan**",
    "torch": "PyTorch eager, foreach SGD",
    "torch.compile": "torch.compile",
    "jax": "JAX jit, donated buffers",
    "thinc": "Thinc",
}


# ---------------------------------------------------------------------------------------------- shapes and the floor


def shapes(width, d_width, pieces):
    """(n_in, n_out) of each affine map: G's, and D's with a maxout layer's pieces side by side."""
    G = [(NOISE, width), (width, width), (width, PIXELS)]
    D = [(PIXELS, d_width * pieces), (d_width, d_width * pieces), (d_width, 1)]
    return G, D


def products(variant, m, G, D):
    """(kind, rows, n_in, n_out) of every matrix product that one iteration cannot do without.

    forward  y = x W       weights  dW = xᵀ dy       inputs  dx = dy Wᵀ
    """

    def of(kind, rows, maps):
        return [(kind, rows, n_in, n_out) for n_in, n_out in maps]

    D_update = of("forward", 2 * m, D) + of("weights", 2 * m, D) + of("inputs", 2 * m, D[1:])
    G_update = of("inputs", m, D) + of("weights", m, G) + of("inputs", m, G[1:])
    if variant == "simultaneous":  # one forward pass of each network serves both updates
        return of("forward", m, G) + D_update + G_update
    return of("forward", m, G) + D_update + of("forward", m, G) + of("forward", m, D) + G_update


def gflop(listed):
    return sum(2 * rows * n_in * n_out for _, rows, n_in, n_out in listed) / 1e9


def fastest_layout(kind, rows, n_in, n_out, array, repeats=7):
    """(a, b, out) for np.matmul: of the layouts that give this product, the one that is fastest here.

    array(place, shape) gives the memory of the left factor, of the right one and of the result: places 0, 1 and 2.
    """
    import numpy as np

    x, W, dy = (rows, n_in), (n_in, n_out), (rows, n_out)
    if kind == "forward":
        direct = array(0, x), array(1, W)
    elif kind == "weights":
        direct = array(0, x).T, array(1, dy)
    else:
        direct = array(0, dy), array(1, W).T
    found = []
    for a, b in direct, (direct[1].T, direct[0].T):
        out = array(2, (a.shape[0], b.shape[1]))
        seconds = min(timed(lambda a=a, b=b, out=out: np.matmul(a, b, out=out)) for _ in range(repeats))
        found.append((seconds, (a, b, out)))
    return min(found, key=lambda each: each[0])[1]


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# -------------------------------------------------------------------------------------------------------- contestants
# Each is a function make(args, theta, dropout) -> iteration(x, z_d, z_g) -> (J(D), J(G)), with .parameters() for the check.
# theta: {"G": [W, b, W, b, W, b], "D": […]}, maxout columns piece-major. With dropout, z may be None: drawn inside.


def make_tinygan(args, theta, dropout):
    import numpy as np

    import tinygan as t

    class Given:
        """The prior, or the noise that the check gives to everybody."""

        n, prior, given = NOISE, t.Noise("uniform", NOISE), iter(())

        def __call__(self, rng, m, dtype):
            z = next(self.given, None)
            return self.prior(rng, m, dtype) if z is None else z

    G_shapes, D_shapes = shapes(args.width, args.d_width, args.pieces)
    (a, b), (_, c), (_, d) = G_shapes
    G = t.Network([t.Linear(a, b), t.ReLU(), t.Linear(b, c), t.ReLU(), t.Linear(c, d), t.Sigmoid()])
    keep = KEEP if dropout else (1, 1, 1)
    h, p = args.d_width, args.pieces
    D = t.Network(
        [
            t.Dropout(keep[0]),
            t.Maxout(PIXELS, h, p),
            t.Dropout(keep[1]),
            t.Maxout(h, h, p),
            t.Dropout(keep[2]),
            t.Linear(h, 1),
        ]
    )
    for net, values in (G, theta["G"]), (D, theta["D"]):
        net.theta = np.concatenate([v.ravel() for v in values])
    optimizers = [t.MomentumSGD(net.theta, args.learning_rate, MOMENTUM) for net in (G, D)]
    noise = Given()
    gan = t.VARIANTS[args.variant](G, D, *optimizers, noise=noise, batch_size=args.batch_size)
    streams = t.Streams(0)

    def iteration(x, z_d, z_g):
        noise.given = iter((z_d, z_g))
        costs = gan.iteration(itertools.repeat(t.Batch(x)), streams)
        return costs["discriminator_cost"], costs["generator_cost"]

    iteration.parameters = lambda: list(G.parameters().values()) + list(D.parameters().values())
    iteration.gan = gan
    return iteration


def make_floor(args, theta, dropout):
    import numpy as np

    listed = products(args.variant, args.batch_size, *shapes(args.width, args.d_width, args.pieces))
    rng = np.random.default_rng(0)
    operands = [fastest_layout(*product, lambda _, shape: rng.random(shape, np.float32)) for product in listed]

    def iteration(x, z_d, z_g):
        for a, b, out in operands:
            np.matmul(a, b, out=out)

    return iteration


def make_torch(args, theta, dropout, compiled=False):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(args.threads)
    h, p = args.d_width, args.pieces

    def parameters(values):
        return [torch.tensor(v).requires_grad_() for v in values]

    G, D = parameters(theta["G"]), parameters(theta["D"])

    def dropped(x, keep):
        return F.dropout(x, 1 - keep) if dropout else x

    def generate(z, *G):
        y = F.relu(torch.addmm(G[1], z, G[0]))
        y = F.relu(torch.addmm(G[3], y, G[2]))
        return torch.sigmoid(torch.addmm(G[5], y, G[4]))

    def logit(x, *D):
        y = dropped(x, KEEP[0])
        for i in (0, 2):
            y = torch.addmm(D[i + 1], y, D[i]).view(-1, p, h).max(dim=1).values
            y = dropped(y, KEEP[1])
        return torch.addmm(D[5], y, D[4])

    def D_cost(x, samples, *D):
        a = logit(torch.cat((x, samples)), *D)
        m = len(x)
        return 0.5 * (F.softplus(-a[:m]).mean() + F.softplus(a[m:]).mean())

    def G_cost(z, D, G):
        return F.softplus(-logit(generate(z, *G), *D)).mean()

    sgd = [torch.optim.SGD(theta, lr=args.learning_rate, momentum=MOMENTUM, foreach=True) for theta in (G, D)]
    steps = [optimizer.step for optimizer in sgd]
    if compiled:
        generate, D_cost, G_cost = (torch.compile(f) for f in (generate, D_cost, G_cost))
        steps = [torch.compile(step) for step in steps]

    def noise(z, m):
        return torch.rand(m, NOISE).mul_(2).sub_(1).mul_(3**0.5) if z is None else torch.as_tensor(z)

    def iteration(x, z_d, z_g):
        x = torch.as_tensor(x)
        with torch.no_grad():
            samples = generate(noise(z_d, len(x)), *G)
        D_loss = D_cost(x, samples, *D)
        D_loss.backward()
        steps[1]()
        sgd[1].zero_grad(set_to_none=True)
        for parameter in D:
            parameter.requires_grad_(False)
        G_loss = G_cost(noise(z_g, len(x)), D, G)
        G_loss.backward()
        for parameter in D:
            parameter.requires_grad_(True)
        steps[0]()
        sgd[0].zero_grad(set_to_none=True)
        return D_loss.detach(), G_loss.detach()

    iteration.parameters = lambda: [v.detach().numpy() for v in G + D]
    return iteration


def make_torch_compile(args, theta, dropout):
    return make_torch(args, theta, dropout, compiled=True)


def make_jax(args, theta, dropout):
    import jax
    import jax.numpy as jnp

    h, p = args.d_width, args.pieces

    def generate(G, z):
        y = jax.nn.relu(z @ G[0] + G[1])
        y = jax.nn.relu(y @ G[2] + G[3])
        return jax.nn.sigmoid(y @ G[4] + G[5])

    def dropped(x, keep, key):
        return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0) if dropout else x

    def logit(D, x, keys):
        y = dropped(x, KEEP[0], keys[0])
        for i in (0, 2):
            y = (y @ D[i] + D[i + 1]).reshape(-1, p, h).max(axis=1)
            y = dropped(y, KEEP[1], keys[1 + i // 2])
        return y @ D[4] + D[5]

    def D_cost(D, x, samples, keys):
        a = logit(D, jnp.concatenate((x, samples)), keys)
        m = len(x)
        return 0.5 * (jax.nn.softplus(-a[:m]).mean() + jax.nn.softplus(a[m:]).mean())

    def G_cost(G, D, z, keys):
        return jax.nn.softplus(-logit(D, generate(G, z), keys)).mean()

    def momentum(theta, velocity, grad):
        velocity = [MOMENTUM * v - args.learning_rate * g for v, g in zip(velocity, grad, strict=True)]
        return [t + v for t, v in zip(theta, velocity, strict=True)], velocity

    def update(state, x, z_d, z_g):
        G, D, vG, vD, key = state
        key, *keys = jax.random.split(key, 9)
        if z_d is None:
            z_d, z_g = (jax.random.uniform(k, (len(x), NOISE), minval=-(3**0.5), maxval=3**0.5) for k in keys[6:])
        D_loss, grad = jax.value_and_grad(D_cost)(D, x, generate(G, z_d), keys[:3])
        D, vD = momentum(D, vD, grad)
        G_loss, grad = jax.value_and_grad(G_cost)(G, D, z_g, keys[3:6])
        G, vG = momentum(G, vG, grad)
        return (G, D, vG, vD, key), D_loss, G_loss

    update = jax.jit(update, donate_argnums=0)
    G, D = ([jnp.asarray(v) for v in theta[name]] for name in "GD")
    key = jax.random.key(0, impl="unsafe_rbg")  # the fastest generator JAX has on this hardware
    state = [(G, D, [jnp.zeros_like(v) for v in G], [jnp.zeros_like(v) for v in D], key)]

    def iteration(x, z_d, z_g):
        state[0], D_loss, G_loss = update(state[0], x, z_d, z_g)
        return D_loss.block_until_ready(), G_loss.block_until_ready()

    iteration.parameters = lambda: state[0][0] + state[0][1]
    return iteration


def make_thinc(args, theta, dropout):
    import numpy as np
    from thinc.api import Dropout, Linear, Maxout, Relu, Sigmoid, chain

    h, p = args.d_width, args.pieces
    keep = KEEP if dropout else (1, 1, 1)
    G_layers = [Relu(args.width, NOISE), Relu(args.width, args.width), Sigmoid(PIXELS, args.width)]
    D_layers = [Maxout(h, PIXELS, p), Maxout(h, h, p), Linear(1, h)]
    G = chain(*G_layers)
    D = chain(*(part for rate, layer in zip(keep, D_layers, strict=True) for part in (Dropout(1 - rate), layer)))
    for net, layers, values in (G, G_layers, theta["G"]), (D, D_layers, theta["D"]):
        net.initialize()
        for i, layer in enumerate(layers):  # thinc keeps W as (units, inputs), and maxout's as (units, pieces, inputs)
            W, b = values[2 * i], values[2 * i + 1]
            if layer.name == "maxout":
                W, b = W.reshape(-1, p, h).transpose(2, 1, 0), b.reshape(p, h).T
            else:
                W = W.T
            owner = next(node for node in layer.walk() if node.has_param("W"))
            owner.set_param("W", np.ascontiguousarray(W))
            owner.set_param("b", np.ascontiguousarray(b))

    def owners(layers):
        return [next(node for node in layer.walk() if node.has_param("W")) for layer in layers]

    velocity = {(id(o), n): np.zeros_like(o.get_param(n)) for o in owners(G_layers + D_layers) for n in "Wb"}

    def update(layers):
        for owner in owners(layers):
            for name in "Wb":
                v = velocity[id(owner), name]
                v *= MOMENTUM
                v -= args.learning_rate * owner.get_grad(name)
                owner.get_param(name)[...] += v
                owner.get_grad(name)[...] = 0

    def noise(z, m):
        return rng.random((m, NOISE), dtype=np.float32) * 2 * 3**0.5 - 3**0.5 if z is None else z

    def softplus(a):
        return np.logaddexp(a, 0)

    rng = np.random.default_rng(0)

    def iteration(x, z_d, z_g):
        m = len(x)
        a, backward = D.begin_update(np.concatenate((x, G.predict(noise(z_d, m)))))
        D_loss = 0.5 * (softplus(-a[:m]).mean() + softplus(a[m:]).mean())
        sigma = np.exp(-softplus(-a))
        backward(np.concatenate((sigma[:m] - 1, sigma[m:])) * (0.5 / m))
        update(D_layers)
        samples, G_backward = G.begin_update(noise(z_g, m))
        a, D_backward = D.begin_update(samples)
        G_loss = softplus(-a).mean()
        G_backward(D_backward(np.exp(-softplus(a)) * (-1 / m)))
        update(G_layers)
        for owner in owners(D_layers):  # thinc cannot hold D fixed: its gradient was computed, and is thrown away
            for name in "Wb":
                owner.get_grad(name)[...] = 0
        return D_loss, G_loss

    def parameters():
        found = []
        for layer, owner in zip(G_layers + D_layers, owners(G_layers + D_layers), strict=True):
            W, b = owner.get_param("W"), owner.get_param("b")
            if layer.name == "maxout":
                W, b = W.transpose(2, 1, 0).reshape(-1, p * h), b.T.reshape(-1)
            else:
                W = W.T
            found += [W, b]
        return found

    iteration.parameters = parameters
    return iteration


CONTESTANTS = {  # name: (maker, the module it needs)
    "floor": (make_floor, "numpy"),
    "tinygan": (make_tinygan, "tinygan"),
    "torch": (make_torch, "torch"),
    "torch.compile": (make_torch_compile, "torch"),
    "jax": (make_jax, "jax"),
    "thinc": (make_thinc, "thinc"),
}


# ------------------------------------------------------------------------------------------- one contestant's process


def initial(args):
    """The same θ for everybody."""
    import numpy as np

    rng = np.random.default_rng(7)
    return {
        name: [
            value
            for n_in, n_out in maps
            for value in (rng.uniform(-r, r, (n_in, n_out)).astype("f4"), rng.uniform(-r, r, n_out).astype("f4"))
        ]
        for name, maps, r in zip("GD", shapes(args.width, args.d_width, args.pieces), (0.05, 0.02), strict=True)
    }


def work(args):
    """A contestant: reads how many iterations to run, a line each; answers with the milliseconds of each."""
    import numpy as np

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    args.learning_rate = CHECK_LEARNING_RATE if args.check else LEARNING_RATE
    make, _ = CONTESTANTS[args.worker]
    rng = np.random.default_rng(8)
    m = args.batch_size
    if args.check:
        iteration = make(args, initial(args), dropout=False)
        costs = []
        for _ in range(CHECK_ITERATIONS):
            x = rng.random((m, PIXELS), dtype=np.float32)
            z_d, z_g = (rng.uniform(-1.7, 1.7, (m, NOISE)).astype("f4") for _ in range(2))
            costs.append([float(cost) for cost in iteration(x, z_d, z_g)])
        arrays = {str(i): np.asarray(v) for i, v in enumerate(iteration.parameters())}
        np.savez(args.answer, costs=np.array(costs), **arrays)
        return
    x = rng.random((m, PIXELS), dtype=np.float32)
    iteration = make(args, initial(args), dropout=True)
    for _ in range(5):
        iteration(x, None, None)
    print("ready", flush=True)
    for line in sys.stdin:
        spent = [timed(lambda: iteration(x, None, None)) * 1e3 for _ in range(int(line))]
        print(json.dumps(spent), flush=True)
    from tinygan.run import peak_memory  # not earlier: the peers do without tinygan

    print(peak_memory())


class Contestant:
    """The parent's end of one contestant's process: this script, or another one that answers as `work` does."""

    def __init__(self, args, worker, variant, script=__file__, sizes=SIZES, **settings):
        options = {name: getattr(args, name) for name in ("threads", *sizes)} | settings
        self.label = worker if worker not in ("floor", "tinygan") else f"{worker}, {variant}"
        command = [sys.executable, script, "--worker", worker, "--variant", variant]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        n = str(args.threads)
        environment = dict(os.environ, OPENBLAS_NUM_THREADS=n, OMP_NUM_THREADS=n, MKL_NUM_THREADS=n)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
        self.milliseconds = []

    def wait_until_ready(self):
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{self.label}: its process ended before it was ready")

    def run(self, iterations):
        self.process.stdin.write(f"{iterations}\n")
        self.process.stdin.flush()
        self.milliseconds.append(statistics.median(json.loads(self.process.stdout.readline())))

    def stop(self):
        self.process.stdin.close()
        with self.process.stdout as answers:
            self.peak_memory = float(answers.readline() or "nan")
        self.process.wait()


def installed(worker):
    return importlib.util.find_spec(CONTESTANTS[worker][1]) is not None


def peers(args):
    for name in args.peers:
        if not installed(name):
            print(f"{name}: not installed, left out")
    return [name for name in args.peers if installed(name)]


# ---------------------------------------------------------------------------------------------------------- the modes


def check(args):
    """Equal work: the same costs and the same parameters after three iterations, dropout off. Ends the program if not."""
    import numpy as np

    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ["tinygan", *peers(args)]:
            path = Path(folder) / f"{name}.npz"
            contestant = Contestant(args, name, "alternating", answer=path)
            contestant.stop()
            if contestant.process.returncode:
                raise SystemExit(f"{name}: the check failed to run")
            with np.load(path) as arrays:
                answers[name] = {key: arrays[key] for key in arrays.files}
    reference = answers.pop("tinygan")
    print(f"costs J(D), J(G) of tinygan: {np.array2string(reference['costs'], precision=6).replace(chr(10), '')}")
    for name, answer in answers.items():
        if answer.keys() != reference.keys():
            raise SystemExit(f"{name}: its parameters are not those of tinygan")
        cost = np.abs(answer["costs"] - reference["costs"]).max()
        parameter = max(np.abs(answer[key] - reference[key]).max() for key in reference if key != "costs")
        print(f"{name:14} largest difference: costs {cost:.1e}, parameters {parameter:.1e}")
        if not (cost < 1e-5 and parameter < 1e-5):
            raise SystemExit(f"{name} does not do the work that tinygan does: nothing is timed")


def contest(args, entries, **settings):
    """The milliseconds of each entry, a median a turn, and the peak memory of each in MB."""
    return turns(args, [Contestant(args, worker, variant, **settings) for worker, variant in entries])


def turns(args, contestants):
    """As contest."""
    for contestant in contestants:
        contestant.wait_until_ready()
    order = random.Random(0)
    for _ in range(args.rounds):
        for contestant in order.sample(contestants, len(contestants)):
            time.sleep(PAUSE)
            contestant.run(args.iterations)
    for contestant in contestants:
        contestant.stop()
    return {c.label: c.milliseconds for c in contestants}, {c.label: c.peak_memory for c in contestants}


def measure(args):
    """Check, then time everybody, and print the table."""
    check(args)
    entries = [("floor", "alternating"), ("tinygan", "alternating"), ("floor", "simultaneous"), ("tinygan", "simultaneous")]
    entries += [(name, "alternating") for name in peers(args)]
    times, _ = contest(args, entries)
    facts = {name: getattr(args, name) for name in ("threads", *SIZES)} | {"milliseconds": times}
    print(f"\n{table(facts)}\n")
    tell(args, facts)


def table(facts):
    """What was measured, in Markdown: everybody's milliseconds, below the matrix products of the same variant."""
    sizes, medians = SIZES | facts, {label: statistics.median(ms) for label, ms in facts["milliseconds"].items()}
    cores = f"{facts['threads']} core{'s' * (facts['threads'] > 1)}"
    columns = [f"one iteration, {cores}", "ms, median (quartiles)", "least", "÷ its products alone", "PyTorch eager ÷ this"]
    rows = []
    for variant in "alternating", "simultaneous":
        work = gflop(products(variant, sizes["batch_size"], *shapes(sizes["width"], sizes["d_width"], sizes["pieces"])))
        for label, ms in facts["milliseconds"].items():
            name, _, own = label.partition(", ")
            if (own or "alternating") != variant:
                continue
            title, against = f"the matrix products of `{variant}` ({work:.2f} GFLOP)", ""
            if name != "floor":
                title = f"{NAMES[name]}, `{variant}`"
                if "torch" in medians:
                    against = f"{medians['torch'] / medians[label]:.2f}" if variant == "alternating" else "less work"
            low, median, high = statistics.quantiles(ms, n=4)
            cells = [title, f"{median:.1f} ({low:.1f} … {high:.1f})", f"{min(ms):.1f}"]
            rows.append([*cells, f"{median / medians[f'floor, {variant}']:.2f}", against])
    return markdown_table(columns, rows)


def markdown_table(columns, rows):
    return "\n".join(["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|", *map(markdown_row, rows)])


def markdown_row(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def tell(args, facts):
    """Print where this was measured; write it into the file of --json, with what was measured."""
    load = {"before": args.load_before, "after": os.getloadavg()}
    where = machine("torch", "jax", "thinc")
    print(f"{where}\nload average over the last minute: {load['before'][0]:.1f} before, {load['after'][0]:.1f} after")
    if args.json:
        facts = {"command": " ".join(["python", *sys.argv]), "machine": where, "load": load} | facts
        Path(args.json).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def machine(*packages):
    """Where a time was measured: the environment as a run describes it, the processor, the versions of these packages."""
    from tinygan.run import environment

    found = environment() | {"processor": processor()}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def processor():
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def sweep(args):
    print(f"{args.variant}, {args.threads} cores\n\n{sweep_table('m', [])}")
    sizes = [sweep_row(args, m, batch_size=m) for m in (16, 32, 64, 100, 256, 512, 1024)]
    print(f"\n{sweep_table(WIDTHS, [])}")
    widths = [sweep_row(args, width, width=width) for width in (300, 600, 1200, 2400, 4800, 8000)]
    tell(args, {"threads": args.threads, "variant": args.variant, "batch_size": sizes, "width": widths})


def sweep_row(args, name, **settings):
    times, memory = contest(args, [("floor", args.variant), ("tinygan", args.variant)], **settings)
    vectors = vectors_size(*shapes(settings.get("width", args.width), args.d_width, args.pieces)) / 1e6
    row = {"size": name, "milliseconds": times, "vectors_mb": vectors, "peak_mb": memory[f"tinygan, {args.variant}"]}
    print(markdown_row(sweep_cells(row)), flush=True)
    return row


WIDTHS = "units in G's hidden layers"


def sweep_table(name, rows):
    return markdown_table(sweep_columns(name), map(sweep_cells, rows))


def sweep_columns(name):
    return [name, "products, ms", "tinygan, ms", "ratio", "θ, v and ∇, MB", "tinygan's peak, MB"]


def sweep_cells(row):
    floor, ours = (statistics.median(ms) for ms in row["milliseconds"].values())
    memory = [f"{row[size]:.0f}" for size in ("vectors_mb", "peak_mb")]
    return [row["size"], f"{floor:.1f}", f"{ours:.1f}", f"{ours / floor:.2f}", *memory]


def vectors_size(G, D):
    """Bytes of θ, v and ∇ of both networks in float32, derived from the shapes."""
    return 3 * 4 * sum((n_in + 1) * n_out for n_in, n_out in G + D)


def parts(args):
    import numpy as np

    args.learning_rate = LEARNING_RATE
    iteration = make_tinygan(args, initial(args), dropout=True)
    x = np.random.default_rng(8).random((args.batch_size, PIXELS), dtype=np.float32)
    profile(args, iteration.gan, lambda: iteration(x, None, None))


def profile(args, gan, iteration):
    """Milliseconds of every forward and backward and of the updates, inside the running iteration: cold caches count."""
    from tinygan.run import peak_memory

    spent = {}

    def clock(owner, name, label):
        method = getattr(owner, name)

        def clocked(*positional, **named):
            start = time.perf_counter()
            result = method(*positional, **named)
            spent.setdefault(label, []).append(time.perf_counter() - start)
            return result

        setattr(owner, name, clocked)

    for player in "GD":
        for i, layer in enumerate(getattr(gan, player).layers):
            for name in "forward", "backward":
                clock(layer, name, f"{player} {i} {layer!r}.{name}")
        clock(getattr(gan, f"{player}_optimizer"), "step", f"{player} update")
    whole, iterations = [], args.rounds * args.iterations
    for _ in range(iterations):
        whole.append(timed(iteration))
    total = statistics.median(whole) * 1e3
    rows = {label: statistics.median(s) * len(s) / iterations * 1e3 for label, s in spent.items()}
    rows["everything else (noise, costs, concatenation, calls)"] = total - sum(rows.values())
    print(f"{args.variant}: {total:.2f} ms an iteration")
    for label, ms in rows.items():
        print(f"{ms:8.3f} ms  {label}")
    print(f"peak memory {peak_memory():.0f} MB")


def command_line(description, sizes, rounds, iterations):
    """A parser of the options that every benchmark of an iteration has. sizes: of the nets, by option."""
    for stream in sys.stdout, sys.stderr:
        stream.reconfigure(errors="replace")  # a terminal without Unicode shows ? for θ
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--check", action="store_true", help="only check that all do equal work")
    add("--parts", action="store_true", help="tinygan's time, part by part")
    add("--rounds", type=int, default=rounds, help="turns of each contestant (default: %(default)s)")
    add("--iterations", type=int, default=iterations, help="iterations in a turn (default: %(default)s)")
    add("--threads", type=int, default=2, help="cores and threads of everybody (default: %(default)s)")
    add("--batch-size", type=int, help="m (default: %(default)s)")
    add("--width", type=int, help="units in G's hidden layers (default: %(default)s)")
    add("--d-width", type=int, help="maxout units in D's dense hidden layers (default: %(default)s)")
    add("--pieces", type=int, help="affine pieces of a maxout unit (default: %(default)s)")
    parser.set_defaults(**sizes)
    add("--json", metavar="FILE", help="also write here what was measured, and where")
    for hidden in "--worker", "--answer":
        add(hidden, help=argparse.SUPPRESS)
    return parser


def run(parser, measure, **modes):
    """Do what the options ask for: one of the modes, each a function of the options under its option's name, or measure."""
    args = parser.parse_args()
    args.load_before = os.getloadavg()
    if args.json and (args.check or args.parts):
        parser.error("--check and --parts write no --json")
    if args.worker:
        args.check = bool(args.answer)
    chosen = [mode for name, mode in modes.items() if getattr(args, name)]
    (chosen or [measure])[0](args)


def main():
    parser = command_line(__doc__, SIZES, rounds=30, iterations=10)
    parser.add_argument("--sweep", action="store_true", help="time against batch size and width")
    names = [name for name in CONTESTANTS if name not in ("floor", "tinygan")]
    parser.add_argument("--peers", nargs="*", choices=names, default=names, help="whom to compare with (default: all)")
    parser.add_argument("--variant", choices=("alternating", "simultaneous"), default="alternating")
    run(parser, measure, worker=work, check=check, parts=parts, sweep=sweep)


if __name__ == "__main__":
    main()
