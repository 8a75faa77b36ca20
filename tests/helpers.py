"""What several test files share: small networks, games and files, equal draws on every backend, numeric gradients, refusals."""

import contextlib
import csv
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Mapping

import numpy as np
import pytest
from strict_cupy import host

from tinygan import (
    VARIANTS,
    ArgumentError,
    Batch,
    BatchNorm,
    Dropout,
    Layer,
    LeakyReLU,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    Noise,
    ReLU,
    Reshape,
    Sigmoid,
    Tanh,
    Uniform,
)
from tinygan.backend import cupy_problem

NO_GPU = cupy_problem()
"""Why no test can run on a GPU, or None. Then the rows for CuPy are left out: a thousand skipped tests took seconds."""

LAYERS = {
    "Linear": lambda: Linear(4, 3, bias=0.1),
    "Linear without b": lambda: Linear(4, 3, bias=None),
    "Maxout": lambda: Maxout(4, 3, 2, weight=Uniform(0.5), bias=0.1),
    "Maxout without b": lambda: Maxout(4, 3, 2, weight=Uniform(0.5), bias=None),
    "ReLU": ReLU,
    "LeakyReLU": LeakyReLU,
    "Tanh": Tanh,
    "Sigmoid": Sigmoid,
    "Dropout": lambda: Dropout(0.5),
    "Reshape": lambda: Reshape((2, 2)),
    "BatchNorm": lambda: BatchNorm(4),
}
"""One layer of each kind, new at each call, for inputs of shape (m, 4)."""

M = 5
"""The minibatch of `game`."""

SMALL = "--generator-width 16 --discriminator-width 8 --batch-size 10 --backend numpy".split()
"""Options of examples/mnist.py: its nets on the tiny set of the fixture `data`."""

SMALL_DCGAN = "--width 4 --batch-size 10 --evaluate-every 2 --picture-every 1 --backend numpy".split()
"""Options of examples/dcgan.py: its nets on the tiny set of the fixture `pictures`."""


GAME_OPTIONS = {
    "batch_size": 7,
    "k": 3,
    "generator_steps": 2,
    "variant": "printed",
    "generator_cost": "maximum_likelihood",
    "prior": "spherical",
    "learning_rate": 0.3,
    "schedule_compression": 2.5,
    "seed": 9,
    "dtype": "float64",
}
"""Settings of a game that examples/mnist.py and examples/dcgan.py share: for each a value that is not the default."""


def arrays(thing):
    """Every array in a nest of lists, tuples and dicts."""
    if hasattr(thing, "dtype"):
        yield thing
    elif isinstance(thing, Mapping | list | tuple):
        for part in thing.values() if isinstance(thing, Mapping) else thing:
            yield from arrays(part)


def bits(thing):
    """Every array in it as dtype, shape and bytes: equal only if bit-identical."""
    return [(str(a.dtype), a.shape, host(a).tobytes()) for a in arrays(thing)]


@contextlib.contextmanager
def refused(*facts, error=ArgumentError):
    """The block raises this error, and its message names these facts: names, numbers, shapes. Its words are its own."""
    with pytest.raises(error) as raised:
        yield
    missing = [fact for fact in map(str, facts) if fact not in str(raised.value)]
    assert not missing, f"{missing} not in: {raised.value}"


class SameDraws:
    """A generator whose numbers do not depend on the backend: drawn with NumPy, then moved."""

    def __init__(self, xp, seed=0):
        self.xp, self.numpy = xp, np.random.default_rng(seed)

    def __getattr__(self, draw):
        return lambda *args, **kwargs: self.xp.asarray(getattr(self.numpy, draw)(*args, **kwargs))


def same_streams(xp, seed=0):
    """In the place of Streams: the same z and the same masks on every backend."""
    return {"noise": SameDraws(xp, seed), "dropout": SameDraws(xp, seed + 1)}


def numeric_gradient(f, x, eps=1e-6):
    """∂f/∂x by central differences, entry by entry. f reads the float64 array x, which is left as it was."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        saved = x[i]
        x[i] = saved + eps
        above = f()
        x[i] = saved - eps
        below = f()
        x[i] = saved
        gradient[i] = (above - below) / (2 * eps)
    return gradient


class Residual(Layer):
    """y = x + f(x), f the layers inside, one after the other: a layer of one's own that has parts"""

    def __init__(self, *parts):
        self.parts = parts

    def forward(self, x, train=False, rng=None):
        y, caches = x, []
        for part in self.parts:
            y, cache = part.forward(y, train, rng)
            caches.append(cache)
        return x + y, tuple(caches)

    def backward(self, dy, cache, grads=None, need_dx=True):
        dx = dy
        for i in reversed(range(len(self.parts))):
            dx = self.parts[i].backward(dx, cache[i], self.part_grads(grads, i))
        return dy + dx if need_dx else None

    def observe(self, cache):
        for part, part_cache in zip(self.parts, cache, strict=True):
            part.observe(part_cache)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"


def generator(dtype=np.float64, xp=np, seed=1, normalised=False):
    """A small G: 3 noise numbers to 4 pixels."""
    layers = [Linear(3, 6, weight=Uniform(0.8), bias=0.1), ReLU(), Linear(6, 4, weight=Uniform(0.8)), Sigmoid()]
    if normalised:
        layers.insert(1, BatchNorm(6))
    return Network(layers, seed=seed, dtype=dtype, xp=xp)


def discriminator(dtype=np.float64, xp=np, seed=2, keep=1.0, normalised=False):
    """A small D on 4 pixels, in the shape of the paper's: dropout before every layer, two maxouts, one logit."""
    layers = [Dropout(keep), Maxout(4, 5, 3, weight=Uniform(0.8)), Dropout(keep), Maxout(5, 3, 2, weight=Uniform(0.8))]
    layers += [Dropout(keep), Linear(3, 1, weight=Uniform(0.8))]
    if normalised:
        layers.insert(2, BatchNorm(5))
    return Network(layers, seed=seed, dtype=dtype, xp=xp)


def game(
    variant="alternating", xp=np, dtype=np.float64, *, keep=1.0, normalised=False, learning_rate=0.1, momentum=0.5, **options
):
    """This variant of the game between small networks, m = 5. `normalised`: with batch norm in both."""
    G, D = generator(dtype, xp, normalised=normalised), discriminator(dtype, xp, keep=keep, normalised=normalised)
    optimizers = [MomentumSGD(net.theta, learning_rate, momentum) for net in (G, D)]
    return VARIANTS[variant](G, D, *optimizers, **{"noise": Noise("uniform", 3), "batch_size": M} | options)


def batches(xp=np, dtype=np.float64, seed=1):
    """Minibatches of examples for `game`, the same on every backend."""
    rng = np.random.default_rng(seed)
    while True:
        yield Batch(xp.asarray(rng.random((M, 4)).astype(dtype)))


CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array):
    """An IDX file's bytes, written from the format's description alone."""
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder, shape, labels):
    """A tiny set in MNIST's format: 72 images of this shape for training and validation, 10 for the test; labels(n) each."""
    rng = np.random.default_rng(0)
    for name, n in ("train", 72), ("t10k", 10):
        images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        images[0, 0, :2] = 0, 255
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels(n)))
    return folder


def rows(folder):
    """The lines of a run's metrics.csv."""
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.reader(file))


def everything(trainer):
    """All that a Trainer's next epoch depends on, to the bit, and what it reported so far."""
    players = {
        name: (bits([network.theta, network.statistics]), list(optimizer.state), bits(optimizer.state), optimizer.updates)
        for name, (network, optimizer) in trainer.model.players.items()
    }
    return players, bits(dict(trainer.model.state)), trainer.epoch, [dict(row) for row in trainer.metrics]


def member(array):
    """An array as the bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return file.getvalue()


def forge(path, vectors, fields):
    """A checkpoint written from the format's description alone, so that its digest is right whatever it holds.

    The formats differ in the names of the vectors alone, and in what fields["format"] says.
    """
    arrays = vectors | {"text": np.frombuffer(fields if isinstance(fields, bytes) else json.dumps(fields).encode(), np.uint8)}
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.size} ".encode() + array.tobytes())
    arrays["digest"] = np.frombuffer(digest.digest(), np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", member(array))


def rewrite(path, members, compression=zipfile.ZIP_STORED):
    """The same archive with other bytes for some of its members; None removes one. The digest stays as it was."""
    with zipfile.ZipFile(path) as archive:
        old = {name: archive.read(name) for name in archive.namelist()}
    new = old | {f"{name}.npy": data for name, data in members.items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in new.items():
            if data is not None:
                archive.writestr(name, data)


def require_typesettable(formula):
    """Raise ValueError unless matplotlib's typesetter knows all of a LaTeX formula; `\\tfrac` is only a smaller `\\frac`."""
    from matplotlib.mathtext import MathTextParser  # in here: few tests need matplotlib

    MathTextParser("path").parse(f"${' '.join(formula.split())}$".replace(r"\tfrac", r"\frac"))
