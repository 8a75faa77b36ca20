"""One iteration of the paper's convolutional CIFAR-10 nets: tinygan against its own matrix products, and against PyTorch.

    python benchmarks/speed/convolution.py             time everybody (minutes); PyTorch is left out if it is not installed
    python benchmarks/speed/convolution.py --check     only check that all do equal work; nothing is timed
    python benchmarks/speed/convolution.py --parts     where tinygan's milliseconds go, inside the real iteration
    python benchmarks/speed/tables.py                  write the tables of README.md from benchmarks/results

The nets are those of the paper's Figure 2d at full width, m = 128, with both players' updates in one step (`simultaneous`, as
in the authors' code). PyTorch runs twice, with its images channels first and channels last.

As in step_time.py, every contestant is a process of its own. They take turns in a new random order each round, and ratios
are of medians over the rounds. Equal work is checked first: dropout is off; all start from the same θ and get the same
minibatches and noise. After three iterations all must have the same two costs, and parameters that differ by less than a
hundredth of what changed them (and of a thousand roundings of the largest one: some change by few). When time is measured
dropout is on, with the paper's shares.

The floor is the matrix products of one iteration and nothing else. They follow from the shapes: a convolution counts as the
product with its windows as rows, padding included, which are ready in memory before the clock starts.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path

import step_time
from step_time import MOMENTUM, Contestant, gflop, markdown_table, tell, timed

NOISE, IMAGE = 100, (32, 32, 3)
LEARNING_RATE, CHECK_LEARNING_RATE = 1e-6, 0.001  # see step_time.py
CHECK_ITERATIONS = 3
KEEP = (0.8, 0.5, 0.5, 0.5, 0.5)  # dropout on the input of each of D's maps
SIZES = {"batch_size": 128, "width": 8000, "d_width": 500, "pieces": 5}  # of the paper's nets: the options' defaults
CONVOLUTIONS = (  # of D: places of the window, kernel, padding, c_in, c_out, and the pooling after a maxout of 2 pieces
    (33, 8, 4, 3, 64, (4, 2)),
    (15, 8, 3, 32, 64, (4, 2)),
    (9, 5, 3, 32, 384, (2, 2)),
)
FLAT = (5, 5, 192)  # what is left of an image: the input of D's dense maps
START = (10, 10)  # G's last hidden layer as an image
DECONVOLUTION = (5, 3)  # G's last layer: kernel and stride
NAMES = {"tinygan": "**tinygan**", "torch": "PyTorch eager, channels first", "torch-last": "PyTorch eager, channels last"}


# ---------------------------------------------------------------------------------------------- shapes and the floor


def channels(args):
    """Of G's last hidden layer as an image: 80 in the paper's."""
    return args.width // math.prod(START)


def shapes(args):
    """(rows for each image, n_in, n_out) of each map: G's, and D's. G's deconvolution is the transpose of its map."""
    kernel, _ = DECONVOLUTION
    G = [(1, NOISE, args.width), (1, args.width, args.width), (math.prod(START), kernel**2 * IMAGE[2], channels(args))]
    D = [(n * n, k * k * c_in, c_out) for n, k, _, c_in, c_out, _ in CONVOLUTIONS]
    D += [(1, math.prod(FLAT), args.d_width * args.pieces), (1, args.d_width, 1)]
    return G, D


def products(args):
    """(kind, rows, n_in, n_out) of every matrix product of one simultaneous iteration, as in step_time.py."""
    G, D = shapes(args)
    m = args.batch_size

    def of(kind, images, maps):
        return [(kind, images * rows, n_in, n_out) for rows, n_in, n_out in maps]

    *dense, deconvolution = G
    forward = of("forward", m, dense) + of("inputs", m, [deconvolution]) + of("forward", 2 * m, D)
    D_update = of("weights", 2 * m, D) + of("inputs", 2 * m, D[1:])
    G_update = of("inputs", m, D) + of("weights", m, G) + of("forward", m, [deconvolution]) + of("inputs", m, dense[1:])
    return forward + D_update + G_update


def make_floor(args, theta, dropout):
    import numpy as np

    listed = products(args)
    largest = max(max(rows * n_in, rows * n_out, n_in * n_out) for _, rows, n_in, n_out in listed)
    memory = [np.ones(largest, np.float32) for _ in range(3)]  # the products share it: each alone needs some 200 MB

    def array(place, shape):
        return memory[place][: math.prod(shape)].reshape(shape)

    operands = [step_time.fastest_layout(*product, array, repeats=3) for product in listed]

    def iteration(x, z):
        for a, b, out in operands:
            np.matmul(a, b, out=out)

    return iteration


# -------------------------------------------------------------------------------------------------------- contestants
# Each is a function make(args, theta, dropout) -> iteration(x, z) -> (J(D), J(G)), with .parameters() for the check.
# theta: {"G": [W, b, …], "D": [W, b, …]} in tinygan's shapes. z may be None: drawn inside.


def make_tinygan(args, theta, dropout):
    import tinygan as t

    class Given:
        """The prior, or the noise that the check gives to everybody."""

        n, prior, given = NOISE, t.Noise("gaussian", NOISE), iter(())

        def __call__(self, rng, m, dtype):
            z = next(self.given, None)
            return self.prior(rng, m, dtype) if z is None else z

    kernel, stride = DECONVOLUTION
    G_layers = [t.Linear(NOISE, args.width), t.ReLU(), t.Linear(args.width, args.width), t.Sigmoid()]
    G_layers += [t.Reshape((*START, channels(args)))]
    G_layers += [t.ConvTranspose2d(channels(args), IMAGE[2], kernel, stride=stride, bias=IMAGE)]
    G = t.Network([*G_layers, t.Reshape((math.prod(IMAGE),))])
    keep = KEEP if dropout else (1,) * len(KEEP)
    D_layers = [t.Reshape(IMAGE)]
    for share, (_, size, padding, c_in, c_out, pool) in zip(keep, CONVOLUTIONS, strict=False):
        D_layers += [t.Dropout(share), t.Conv2d(c_in, c_out, size, padding=padding), t.ChannelMaxout(2), t.MaxPool2d(*pool)]
    D_layers += [t.Reshape((math.prod(FLAT),)), t.Dropout(keep[3]), t.Maxout(math.prod(FLAT), args.d_width, args.pieces)]
    D = t.Network([*D_layers, t.Dropout(keep[4]), t.Linear(args.d_width, 1)])
    for net, values in (G, theta["G"]), (D, theta["D"]):
        for view, value in zip(net.parameters().values(), values, strict=True):
            view[...] = value
    theta.clear()
    optimizers = [t.MomentumSGD(net.theta, args.learning_rate, MOMENTUM) for net in (G, D)]
    noise = Given()
    gan = t.Simultaneous(G, D, *optimizers, noise=noise, batch_size=args.batch_size)
    streams = t.Streams(0)

    def iteration(x, z):
        noise.given = iter((z,))
        costs = gan.iteration(itertools.repeat(t.Batch(x)), streams)
        return costs["discriminator_cost"], costs["generator_cost"]

    iteration.parameters = lambda: [*G.parameters().values(), *D.parameters().values()]
    iteration.gan = gan
    return iteration


def make_torch(args, theta, dropout, last=False):
    import numpy as np
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(args.threads)
    layout = torch.channels_last if last else torch.contiguous_format
    start, flat, h, p = (*START, channels(args)), FLAT, args.d_width, args.pieces

    def rows_first(W, shape):
        """The rows of W, which belong to images (h, w, c), in the order (c, h, w), and back."""
        return np.moveaxis(W.reshape(*shape, -1), 2, 0).reshape(W.shape)

    def rows_last(W, shape):
        return np.moveaxis(W.reshape(shape[2], *shape[:2], -1), 0, 2).reshape(W.shape)

    def columns(order):
        return lambda W: np.ascontiguousarray(order(np.ascontiguousarray(W.T), start).T)

    def kernels(axes):
        return lambda W: W.transpose(axes)

    def same(W):
        return W

    # From tinygan's shapes and back: images channels first, W (c_out, c_in, kh, kw), and (c_in, c_out, kh, kw) if transposed
    hidden_b = [lambda b: rows_first(b, start), lambda b: rows_last(b, start)]
    kernel = [kernels((3, 2, 0, 1)), kernels((2, 3, 1, 0))]
    dense = [lambda W: rows_first(W, flat), lambda W: rows_last(W, flat)]
    there, back = zip(
        *([same, same], [same, same], [columns(rows_first), columns(rows_last)], hidden_b, kernel),
        [kernels((2, 0, 1)), kernels((1, 2, 0))],
        *[kernel, [same, same]] * len(CONVOLUTIONS),
        *(dense, [same, same], [same, same], [same, same]),
        strict=True,
    )
    values = [np.ascontiguousarray(change(value)) for change, value in zip(there, theta["G"] + theta["D"], strict=True)]
    theta.clear()
    parameters = [torch.tensor(v) for v in values]
    parameters = [v.to(memory_format=layout) if v.ndim == 4 else v for v in parameters]
    parameters = [v.requires_grad_() for v in parameters]
    del values
    G, D = parameters[:6], parameters[6:]

    def dropped(x, keep):
        return F.dropout(x, 1 - keep) if dropout else x

    def generate(z):
        y = F.relu(torch.addmm(G[1], z, G[0]))
        y = torch.sigmoid(torch.addmm(G[3], y, G[2]))
        y = y.view(-1, start[2], *start[:2]).contiguous(memory_format=layout)
        return F.conv_transpose2d(y, G[4], stride=DECONVOLUTION[1]) + G[5]

    def logit(y):
        for i, (_, _, padding, _, c_out, pool) in enumerate(CONVOLUTIONS):
            y = F.conv2d(dropped(y, KEEP[i]), D[2 * i], D[2 * i + 1], padding=padding)
            y = torch.maximum(y[:, : c_out // 2], y[:, c_out // 2 :])
            y = F.max_pool2d(y, *pool, ceil_mode=True)
        y = dropped(y.flatten(1), KEEP[3])
        y = torch.addmm(D[7], y, D[6]).view(-1, p, h).max(dim=1).values
        return torch.addmm(D[9], dropped(y, KEEP[4]), D[8])

    sgd = torch.optim.SGD(parameters, lr=args.learning_rate, momentum=MOMENTUM, foreach=True)

    def iteration(x, z):
        x = torch.as_tensor(x).view(-1, *IMAGE).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        samples = generate(torch.randn(len(x), NOISE) if z is None else torch.as_tensor(z))
        a_real, a_fake = logit(x), logit(samples)
        D_loss = 0.5 * (F.softplus(-a_real).mean() + F.softplus(a_fake).mean())
        G_loss = F.softplus(-a_fake).mean()
        # Each player's gradient alone: nothing is computed for what is held fixed.
        D_grads = torch.autograd.grad(D_loss, D, retain_graph=True)
        G_grads = torch.autograd.grad(G_loss, G)
        for parameter, grad in zip(parameters, G_grads + D_grads, strict=True):
            parameter.grad = grad
        sgd.step()
        sgd.zero_grad(set_to_none=True)
        return D_loss.detach(), G_loss.detach()

    iteration.parameters = lambda: [change(v.detach().numpy()) for change, v in zip(back, parameters, strict=True)]
    return iteration


def make_torch_last(args, theta, dropout):
    return make_torch(args, theta, dropout, last=True)


CONTESTANTS = {  # name: (maker, the module it needs)
    "floor": (make_floor, "numpy"),
    "tinygan": (make_tinygan, "tinygan"),
    "torch": (make_torch, "torch"),
    "torch-last": (make_torch_last, "torch"),
}


# ------------------------------------------------------------------------------------------- one contestant's process


def initial(args):
    """The same θ for everybody. The ranges keep the size of the signal: with the paper's ranges the check sees little."""
    import numpy as np

    rng = np.random.default_rng(7)
    G, D = shapes(args)
    kernel, _ = DECONVOLUTION
    sizes = {"G": [each[1:] for each in G[:2]] + [(kernel, kernel, IMAGE[2], channels(args))]}
    sizes["D"] = [(k, k, c_in, c_out) for _, k, _, c_in, c_out, _ in CONVOLUTIONS] + [each[1:] for each in D[3:]]
    biases = {"G": [(args.width,), (args.width,), IMAGE], "D": [(each[2],) for each in D]}
    theta = {}
    for name in "GD":
        theta[name] = []
        for W, b in zip(sizes[name], biases[name], strict=True):
            r = (3 * W[-1] / math.prod(W)) ** 0.5
            theta[name] += [(2 * r) * (rng.random(W, np.float32) - np.float32(0.5)), 0.1 * rng.random(b, np.float32)]
    return theta


def work(args):
    """A contestant: reads how many iterations to run, a line each; answers with the milliseconds of each."""
    import numpy as np

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    args.learning_rate = CHECK_LEARNING_RATE if args.check else LEARNING_RATE
    make, _ = CONTESTANTS[args.worker]
    iteration = make(args, initial(args) if args.worker != "floor" else {}, dropout=not args.check)
    rng = np.random.default_rng(8)
    shape = args.batch_size, math.prod(IMAGE)
    if args.check:
        costs = []
        for _ in range(CHECK_ITERATIONS):
            x, z = rng.standard_normal(shape, np.float32), rng.standard_normal((args.batch_size, NOISE), np.float32)
            costs.append([float(cost) for cost in iteration(x, z)])
        np.savez(args.answer, costs=np.array(costs), **{str(i): v for i, v in enumerate(iteration.parameters())})
        return
    x = rng.standard_normal(shape, np.float32)
    for _ in range(2):
        iteration(x, None)
    print("ready", flush=True)
    for line in sys.stdin:
        spent = [timed(lambda: iteration(x, None)) * 1e3 for _ in range(int(line))]
        print(json.dumps(spent), flush=True)
    from tinygan.run import peak_memory  # not earlier: the peer does without tinygan

    print(peak_memory())


def contestant(args, name, **settings):
    return Contestant(args, name, "simultaneous", script=__file__, sizes=SIZES, **settings)


def peers():
    names = [name for name in CONTESTANTS if name.startswith("torch")]
    if not step_time.installed("torch"):
        print("torch: not installed, left out")
        return []
    return names


# ---------------------------------------------------------------------------------------------------------- the modes


def check(args):
    """Equal work: the same costs and the same parameters after three iterations, dropout off. Ends the program if not."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npz" for name in ["tinygan", *peers()]}
        for name, path in files.items():  # one after the other: each holds gigabytes
            process = contestant(args, name, answer=path)
            process.stop()
            if process.process.returncode:
                raise SystemExit(f"{name}: the check failed to run")
        start = [np.asarray(value) for name in "GD" for value in initial(args)[name]]
        with np.load(files.pop("tinygan")) as reference:
            costs = reference["costs"]
            moved = [np.abs(reference[str(i)] - value).max() for i, value in enumerate(start)]
            sizes = [change + 1000 * 2.0**-24 * np.abs(value).max() for change, value in zip(moved, start, strict=True)]
            print(f"costs J(D), J(G) of tinygan: {np.array2string(costs, precision=6).replace(chr(10), '')}")
            print(f"largest change of each parameter array: {min(moved):.1e} to {max(moved):.1e}")
            for name, path in files.items():
                with np.load(path) as answer:
                    if answer.files != reference.files:
                        raise SystemExit(f"{name}: its parameters are not those of tinygan")
                    cost = np.abs(answer["costs"] - costs).max()
                    differences = [np.abs(answer[str(i)] - reference[str(i)]).max() / size for i, size in enumerate(sizes)]
                print(f"{name:14} largest difference: costs {cost:.1e}, parameters {max(differences):.1e} of their change")
                if not (cost < 1e-3 and max(differences) < 1e-2):
                    raise SystemExit(f"{name} does not do the work that tinygan does: nothing is timed")


def measure(args):
    """Check, then time everybody, and print the table."""
    check(args)
    milliseconds, memory = step_time.turns(args, [contestant(args, name) for name in ["floor", "tinygan", *peers()]])
    facts = {name: getattr(args, name) for name in ("threads", *SIZES)}
    facts |= {"milliseconds": milliseconds, "peak_mb": memory, "gflop": gflop(products(args))}
    print(f"\n{table(facts)}\n")
    tell(args, facts)


def table(facts):
    """What was measured, in Markdown."""
    medians = {label.partition(",")[0]: statistics.median(ms) for label, ms in facts["milliseconds"].items()}
    cores = f"{facts['threads']} core{'s' * (facts['threads'] > 1)}"
    columns = [f"one iteration, {cores}", "s, median (quartiles)", "least", "÷ the products", "÷ tinygan", "peak memory, MB"]
    rows = []
    for label, ms in facts["milliseconds"].items():
        name = label.partition(",")[0]
        title = NAMES.get(name, f"the matrix products alone ({facts['gflop']:.0f} GFLOP)")
        low, median, high = (each / 1e3 for each in statistics.quantiles(ms, n=4))
        cells = [title, f"{median:.2f} ({low:.2f} … {high:.2f})", f"{min(ms) / 1e3:.2f}"]
        cells += [f"{medians[name] / medians['floor']:.2f}", f"{medians[name] / medians['tinygan']:.2f}"]
        rows.append([*cells, f"{facts['peak_mb'][label]:.0f}" if name != "floor" else ""])
    return markdown_table(columns, rows)


def parts(args):
    import numpy as np

    args.learning_rate, args.variant = LEARNING_RATE, "simultaneous"
    iteration = make_tinygan(args, initial(args), dropout=True)
    x = np.random.default_rng(8).standard_normal((args.batch_size, math.prod(IMAGE)), np.float32)
    step_time.profile(args, iteration.gan, lambda: iteration(x, None))


def main():
    parser = step_time.command_line(__doc__, SIZES, rounds=12, iterations=2)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    step_time.run(parser, measure, worker=work, check=check, parts=parts)


if __name__ == "__main__":
    main()
