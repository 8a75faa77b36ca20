"""What protocol.py examines a layer with: generators with special draws, comparisons of arrays, what an object holds."""

import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygan.backend import Array, random_generator
from tinygan.layers import Layer

# ---- Random numbers of a forward pass


def masks(seed: int) -> Any:
    return random_generator(np, seed, "masks")


class EqualDraws(np.random.Generator):
    """Every number it draws is the same: so each row of a minibatch gets the same mask."""

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return self._full(size, 1 / 3, dtype, out)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return self._full(size, 0.5, dtype, out)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return self._full(size, low + (high - low) / 3)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return self._full(size, loc + scale / 2)

    def integers(self, low: Any, high: Any = None, size: Any = None, dtype: Any = np.int64, endpoint: bool = False) -> Any:
        low, high = (0, low) if high is None else (low, high)
        return self._full(size, low + (high - low) // 3, dtype)  # of 2⁶⁴ − 1 the third is 0x5555…: its four parts are equal

    def binomial(self, n: Any, p: Any, size: Any = None) -> Any:
        return self._full(size, n * (np.asarray(p) > 1 / 3), np.int64)

    @staticmethod
    def _full(size: Any, value: Any, dtype: Any = np.float64, out: Any = None) -> Any:
        if out is not None:
            out[...] = value
            return out
        return np.full(np.shape(value) if size is None else size, value, dtype)[()]


class Float64Draws(np.random.Generator):
    """Draws the same numbers in float32 as in float64. NumPy draws different ones."""

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return self._cast(super().random(np.shape(out) if out is not None else size), dtype, out)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return self._cast(super().standard_normal(np.shape(out) if out is not None else size), dtype, out)

    @staticmethod
    def _cast(drawn: Any, dtype: Any, out: Any) -> Any:
        if out is not None:
            out[...] = drawn
            return out
        return np.asarray(drawn).astype(dtype)[()]


# ---- Arrays, compared


def magnitude(a: Array) -> float:
    """max |a|, 0 where there is none."""
    return float(np.max(np.abs(a), initial=0.0))


def identical(a: Any, b: Any) -> bool:
    """Whether two arrays, or two caches, are the same bit for bit: −0 is not 0, NaN is NaN."""
    numbers = np.ndarray | np.generic | int | float
    if isinstance(a, numbers) and isinstance(b, numbers):
        a, b = np.asarray(a), np.asarray(b)
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return a is None and b is None


def close(a: Array, b: Array, largest: float = 0.0) -> bool:
    """Whether they are the same up to the rounding of float64: products of a different size are rounded differently.

    What cancels to 0, such as the gradient of a bias before batch norm, is rounded as `largest`, the largest number beside it.
    """
    if np.shape(a) != np.shape(b):
        return False
    column = np.max(np.abs(b), axis=0, initial=0.0) if np.ndim(b) > 1 else magnitude(b)
    with np.errstate(all="ignore"):
        bound = 1e-9 * (np.abs(b) + column) + 1e-13 * max(largest, magnitude(b))
        return bool((np.isnan(b) | (a == b) | (np.abs(a - b) <= bound)).all())


def ranges(y: Array) -> Array:
    """The range of each column of y over the rows; 1 where it is constant."""
    largest, smallest = y.max(axis=0), y.min(axis=0)
    with np.errstate(all="ignore"):
        ranges = np.clip(largest - smallest, 1e-150, 1e150)
        return np.asarray(np.where(ranges > 1e-12 * np.abs(y).max(axis=0), ranges, 1.0))


def nudged(a: Array, rng: Any) -> Array:
    """a, changed by a few parts in a million: enough to round differently in float32."""
    return np.asarray(a * (1 + rng.uniform(-1, 1, a.shape) * 2.0**-22), np.float32)


def agrees(narrow: Array, exact: Array, nearby: list[Array]) -> bool:
    """Whether float32 has the values of float64, up to 10⁻⁴ and what a few parts in a million change. Not beyond 10³⁰."""
    over_rows = 0 if np.ndim(exact) > 1 else None
    spread = np.max([np.max(np.abs(each - narrow), axis=over_rows) for each in nearby], axis=0)
    size = np.sqrt(np.mean(exact * exact, axis=over_rows))
    bound = 1e-4 * np.abs(exact) + 1e-5 * size + 30 * spread
    return bool(((np.abs(narrow - exact) <= bound) | ~(np.abs(exact) < 1e30)).all())


# ---- What an object holds

GIVEN = {"params", "statistics", "declarations", "statistic_declarations", "parts"}


def arrays_and_layers(owner: Any) -> Iterator[tuple[str, Any]]:
    """Writeable arrays of floats, and layers, that an object or its class holds: their names, and they themselves."""
    own = vars(owner) if hasattr(owner, "__dict__") else {}
    classes = [vars(kind) for kind in type(owner).__mro__ if kind not in (Layer, object)]
    plain = np.ndarray | list | tuple | dict
    attributes = {name: value for names in classes for name, value in names.items() if isinstance(value, plain)}
    for name, value in (attributes | dict(own)).items():
        if name not in GIVEN:
            yield from _inside(name, value, [owner])


def _inside(path: str, value: Any, seen: list[Any]) -> Iterator[tuple[str, Any]]:
    code = type | types.ModuleType | types.FunctionType | types.MethodType
    if any(value is each for each in seen) or isinstance(value, code):
        return
    seen = [*seen, value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and value.flags.writeable:
            yield path, value
    elif isinstance(value, Layer):
        yield path, value
    elif isinstance(value, list | tuple | dict):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _inside(f"{path}[{key!r}]", each, seen)
    elif hasattr(value, "__dict__"):
        for name, each in vars(value).items():
            yield from _inside(f"{path}.{name}", each, seen)
