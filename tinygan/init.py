"""How parameters start. An initialiser is called as init(rng, out), and fills the host array `out` of any dtype.

Numbers are drawn in float64 with NumPy, row by row. So float32 and float64 networks start from the same numbers on either
backend, and no second array of the size of a weight matrix is needed.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.errors import ArgumentError


class Init(Protocol):
    """An initialiser: init(rng, out) fills the host array `out`."""

    def __call__(self, rng: np.random.Generator, out: np.ndarray) -> None: ...


class Uniform:
    """w ~ U(−r, r), independently for every entry (the paper's MNIST run: r = 0.05 in G, 0.005 in D)."""

    def __init__(self, radius: float) -> None:
        self.radius = checks.real("Uniform: the radius", radius, "[0, inf)")

    def __call__(self, rng: np.random.Generator, out: np.ndarray) -> None:
        for row in np.atleast_2d(out):
            row[...] = rng.uniform(-self.radius, self.radius, row.shape)


class Sparse:
    """For every output unit, n distinct inputs have w ~ N(0, 1), the others 0 (the paper's TFD generator: n = 100)."""

    def __init__(self, n: int) -> None:
        self.n = checks.integer("Sparse: n", n)

    def __call__(self, rng: np.random.Generator, out: np.ndarray) -> None:
        if out.ndim != 2:
            raise ArgumentError(f"Sparse starts a matrix (n_in, n_out), not a parameter of shape {out.shape}")
        n_in, n_out = out.shape
        if self.n > n_in:
            raise ArgumentError(f"Sparse({self.n}) needs at least {self.n} inputs, the layer has {n_in}")
        out[...] = 0
        for j in range(n_out):
            out[rng.choice(n_in, self.n, replace=False), j] = rng.standard_normal(self.n)


class Constant:
    """Every entry starts at `value`: a number, or an array of the parameter's shape."""

    def __init__(self, value: npt.ArrayLike) -> None:
        self.value = checks.numeric("the value that an array starts at", value)

    def __call__(self, rng: np.random.Generator, out: np.ndarray) -> None:
        if self.value.shape not in ((), out.shape):
            raise ArgumentError(f"a start of shape {self.value.shape} was given for a parameter of shape {out.shape}")
        out[...] = self.value


def bias_from_marginals(images: np.ndarray, *, any_range: bool = False) -> np.ndarray:
    """b = log(p / (1 − p)), p the mean of each pixel over the data: G's sigmoid output starts at the mean image.

    p is clipped to [10⁻⁷, 1 − 10⁻⁷], as in the released code, so a pixel that is always 0 starts at −16.118.

    images     (n, d), uint8 in 0 … 255 or floats in [0, 1]
    any_range  also take data that span only a part of the range, such as photographs without black
    returns    (d,), float64
    Raises ArgumentError for data outside the range and, as the released code does, for data that do not span it.
    """
    if len(checks.array("images", images, "(n, d)", "fu")) == 0:
        raise ArgumentError(f"bias_from_marginals needs images of shape (n, d), not {images.shape}")
    top = 255 if images.dtype == np.uint8 else 1
    if not 0 <= images.min() <= images.max() <= top or not (any_range or (images.min(), images.max()) == (0, top)):
        raise ArgumentError(f"marginals need data whose minimum is 0 and maximum {top}, not {images.min()} and {images.max()}")
    p = np.clip(images.mean(axis=0, dtype=np.float64) / top, 1e-7, 1 - 1e-7)
    return np.log(p / (1 - p))
