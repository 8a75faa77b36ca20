"""What several test files share: small networks and files, randomness that no backend changes, numeric gradients."""

import contextlib
import csv
import struct

import numpy as np
import pytest
from strict_cupy import host

from tinygan import ArgumentError, Dropout, Linear, Maxout, Network, ReLU, Reshape, Sigmoid, Uniform

LAYERS = {
    "Linear": lambda: Linear(4, 3, bias=0.1),
    "Maxout": lambda: Maxout(4, 3, 2, weight=Uniform(0.5), bias=0.1),
    "ReLU": ReLU,
    "Sigmoid": Sigmoid,
    "Dropout": lambda: Dropout(0.5),
    "Reshape": lambda: Reshape((2, 2)),
}
"""One layer of each kind, new at each call, for inputs of shape (m, 4)."""

SMALL = "--generator-width 16 --discriminator-width 8 --batch-size 10 --backend numpy".split()
"""Options of examples/mnist.py: its nets on the tiny set of the fixture `data`."""


def arrays(thing):
    """Every array in a nest of lists, tuples and dicts."""
    if hasattr(thing, "dtype"):
        yield thing
    elif isinstance(thing, dict | list | tuple):
        for part in thing.values() if isinstance(thing, dict) else thing:
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

    def integers(self, *args, **kwargs):
        return self.xp.asarray(self.numpy.integers(*args, **kwargs))


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


def generator(dtype=np.float64, xp=np, seed=1):
    """A small G: 3 noise numbers to 4 pixels."""
    layers = [Linear(3, 6, weight=Uniform(0.8), bias=0.1), ReLU(), Linear(6, 4, weight=Uniform(0.8)), Sigmoid()]
    return Network(layers, seed=seed, dtype=dtype, xp=xp)


def discriminator(dtype=np.float64, xp=np, seed=2, keep=1.0):
    """A small D on 4 pixels, in the shape of the paper's: dropout before every layer, two maxouts, one logit."""
    layers = [Dropout(keep), Maxout(4, 5, 3, weight=Uniform(0.8)), Dropout(keep), Maxout(5, 3, 2, weight=Uniform(0.8))]
    layers += [Dropout(keep), Linear(3, 1, weight=Uniform(0.8))]
    return Network(layers, seed=seed, dtype=dtype, xp=xp)


CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array):
    """An IDX file's bytes, written from the format's description alone."""
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def rows(folder):
    """The lines of a run's metrics.csv."""
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.reader(file))
